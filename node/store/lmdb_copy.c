/* Copies the environment into one compact file while commits go on. */
#include "store/lmdb_internal.h"

#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void store_copying_init(struct store_copying *copying)
{
    *copying = (struct store_copying){.fd = -1};
    pthread_mutex_init(&copying->lock, NULL);
}

void store_copying_finish(struct store_copying *copying)
{
    pthread_mutex_destroy(&copying->lock);
}

/* Replaces the copy's descriptor by one that cannot be written to. LMDB offers no way to cancel
 * a copy; its next write fails. */
void store_copying_cancel(struct store_copying *copying)
{
    pthread_mutex_lock(&copying->lock);
    copying->is_cancelled = true;
    int dead = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (copying->fd >= 0 && dead >= 0) {
        (void)dup3(dead, copying->fd, O_CLOEXEC);
    }
    if (dead >= 0) {
        close(dead);
    }
    pthread_mutex_unlock(&copying->lock);
}

/* Registers the descriptor: from then on the copy can be cancelled. Returns true if it has been. */
static bool copying_set(struct store_copying *copying, int fd)
{
    if (copying == NULL) {
        return false;
    }
    pthread_mutex_lock(&copying->lock);
    copying->fd = fd;
    bool is_cancelled = copying->is_cancelled;
    pthread_mutex_unlock(&copying->lock);
    return is_cancelled;
}

static int copy_to(struct lmdb_store *store, int fd)
{
    const struct store_guard *outer = store_fault_enter(&store->guard);
    int rc = store_error_of(mdb_env_copyfd2(store->env, fd, MDB_CP_COMPACT));
    store_fault_leave(outer);
    store_release_pages(store);
    if (rc == 0 && fsync(fd) != 0) {
        rc = store_error_of(errno);
    }
    return rc;
}

int store_lmdb_copy(struct store *base, const char *path, struct store_copying *copying)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return store_error_of(errno);
    }
    int rc = copying_set(copying, fd) ? ERR_CLOSED : copy_to(store, fd);
    if (copying_set(copying, -1)) {
        rc = ERR_CLOSED;
    }
    if (close(fd) != 0 && rc == 0) {
        rc = store_error_of(errno);
    }
    if (rc != 0) {
        unlink(path);
    }
    return rc;
}
