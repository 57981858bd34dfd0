/* Faults in the mapped file. A page that cannot be read raises SIGBUS inside LMDB, and a page
 * with damaged contents can make LMDB access any address. LMDB cannot recover from either: the
 * process ends with one line, and leaves a mark so that the next start checks the store. */
#include "base/errors.h"
#include "base/log.h"
#include "store/file.h"
#include "store/lmdb.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { WATCHES_MAX = 64 };

/* The handler reads these without a lock. */
static _Atomic(const struct store_guard *) watches[WATCHES_MAX];
static _Thread_local const struct store_guard *volatile current;

int store_fault_watch(const struct store_guard *guard)
{
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        const struct store_guard *expected = NULL;
        if (atomic_compare_exchange_strong(&watches[i], &expected, guard)) {
            return 0;
        }
    }
    return ERR_FULL;
}

void store_fault_forget(const struct store_guard *guard)
{
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        const struct store_guard *expected = guard;
        atomic_compare_exchange_strong(&watches[i], &expected, NULL);
    }
}

const struct store_guard *store_fault_enter(const struct store_guard *guard)
{
    const struct store_guard *outer = current;
    current = guard;
    return outer;
}

void store_fault_leave(const struct store_guard *outer)
{
    current = outer;
}

static const struct store_guard *find_owner(const void *address)
{
    uintptr_t at = (uintptr_t)address;
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        const struct store_guard *guard = atomic_load(&watches[i]);
        if (guard != NULL && at >= guard->map.begin && at < guard->map.end) {
            return guard;
        }
    }
    return NULL;
}

static size_t add_text(char *line, size_t used, size_t size, const char *text)
{
    while (*text != '\0' && used < size) {
        line[used++] = *text++;
    }
    return used;
}

void store_fault_mark(const struct store_guard *guard)
{
    int mark = openat(guard->dir_fd, STORE_SUSPECT_FILE, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (mark >= 0) {
        (void)fsync(mark);
        (void)close(mark);
        (void)fsync(guard->dir_fd);
    }
}

_Noreturn void store_fault_exit(const struct store_guard *guard, const char *reason)
{
    store_fault_mark(guard);
    char line[1024];
    size_t used = 0;
    const char *parts[] = {"raftogram: ", guard->path, ": ", reason,
                           "; the store is checked at the next start\n"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        used = add_text(line, used, sizeof(line), parts[i]);
    }
    log_last_words(line, used);
    _exit(1);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const struct store_guard *guard = current != NULL ? current : find_owner(info->si_addr);
    if (guard != NULL && number == SIGBUS) {
        store_fault_exit(guard, "a page cannot be read (truncated file or disk error)");
    }
    if (guard != NULL) {
        store_fault_exit(guard, "LMDB was led astray (damaged page)");
    }
    /* Not a store's fault: the access faults again after the return, and then ends the process
     * as usual. */
    signal(number, SIG_DFL);
}

void store_lmdb_install_fault_handler(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}
