/* A page that cannot be read arrives as SIGBUS in the middle of LMDB. Nothing can be rescued there:
 * the process ends with one line, and leaves a mark so that the next start looks closely. */
#include "base/errors.h"
#include "chat/store_file.h"
#include "chat/store_lmdb.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { WATCHES_MAX = 16 };

/* The handler reads these without a lock: `end` is set last and cleared first. */
struct watch {
    atomic_uintptr_t begin;
    atomic_uintptr_t end; /* 0: not in use */
    int dir_fd;
    const char *path;
};

static struct watch watches[WATCHES_MAX];
static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER;

int store_fault_watch(struct store_mapping map, int dir_fd, const char *path)
{
    int rc = ERR_FULL;
    pthread_mutex_lock(&watches_lock);
    for (size_t i = 0; i < WATCHES_MAX && rc != 0; i++) {
        struct watch *watch = &watches[i];
        if (atomic_load(&watch->end) == 0) {
            watch->dir_fd = dir_fd;
            watch->path = path;
            atomic_store(&watch->begin, map.begin);
            atomic_store(&watch->end, map.end);
            rc = 0;
        }
    }
    pthread_mutex_unlock(&watches_lock);
    return rc;
}

void store_fault_forget(struct store_mapping map)
{
    pthread_mutex_lock(&watches_lock);
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        if (atomic_load(&watches[i].end) == map.end &&
            atomic_load(&watches[i].begin) == map.begin) {
            atomic_store(&watches[i].end, 0);
        }
    }
    pthread_mutex_unlock(&watches_lock);
}

static const struct watch *find_watch(const void *address)
{
    uintptr_t at = (uintptr_t)address;
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        if (at < atomic_load(&watches[i].end) && at >= atomic_load(&watches[i].begin)) {
            return &watches[i];
        }
    }
    return NULL;
}

bool store_lmdb_owns_address(const void *address)
{
    return find_watch(address) != NULL;
}

static size_t add_text(char *line, size_t used, size_t size, const char *text)
{
    while (*text != '\0' && used < size) {
        line[used++] = *text++;
    }
    return used;
}

_Noreturn void store_fault_exit(int dir_fd, const char *path, const char *reason)
{
    int mark = openat(dir_fd, STORE_SUSPECT_FILE, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (mark >= 0) {
        (void)fsync(mark);
        (void)close(mark);
        (void)fsync(dir_fd);
    }
    char line[1024];
    size_t used = 0;
    const char *parts[] = {"raftogram: ", path, ": ", reason,
                           "; the store is checked at the next start\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        used = add_text(line, used, sizeof line, parts[i]);
    }
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored;
    _exit(1);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const struct watch *watch = find_watch(info->si_addr);
    if (watch != NULL) {
        store_fault_exit(watch->dir_fd, watch->path,
                         "a page cannot be read (truncated file or disk error)");
    }
    /* Not ours: the access faults again when we return, and then ends the process as usual. */
    signal(number, SIG_DFL);
}

void store_lmdb_install_sigbus_handler(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
