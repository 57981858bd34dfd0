/* Accepts connections, and keeps descriptors for uses that must not fail. */
#include "base/accept.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_NS_MIN NS_PER_S
/* A process with fewer descriptors keeps the same part of them. */
#define FEW 256u

static struct {
    pthread_mutex_t lock;
    int spare; /* given up for a moment to turn one away when no descriptor is left */
    uint64_t turned_away;
    uint64_t logged_ns;
} doorman = {.lock = PTHREAD_MUTEX_INITIALIZER, .spare = -1};

/* Not by its name: that may be ours (rpc/accept.c). */
static int take(int listener, struct sockaddr *address, socklen_t *size, int flags)
{
    return (int)syscall(SYS_accept4, listener, address, size, flags);
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void count_turned_away(void)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    doorman.turned_away++;
    if (doorman.logged_ns == 0 || now_ns - doorman.logged_ns >= LOG_NS_MIN) {
        doorman.logged_ns = now_ns;
        log_warn("base", "connections were turned away: file descriptors run short",
                 LOG_U64("count", doorman.turned_away));
        doorman.turned_away = 0;
    }
}

/* No descriptor is left. A connection that stayed in the queue would keep its listener awake, or
 * never be seen again, by the kind of polling. */
static int turn_away(int listener)
{
    pthread_mutex_lock(&doorman.lock);
    if (doorman.spare >= 0) {
        close(doorman.spare);
    }
    int fd = take(listener, NULL, NULL, SOCK_CLOEXEC);
    int error = fd >= 0 ? EINTR : EAGAIN;
    if (fd >= 0) {
        close(fd);
        count_turned_away();
    }
    doorman.spare = open_spare();
    pthread_mutex_unlock(&doorman.lock);
    errno = error;
    return -1;
}

bool accept_is_short(int fd, unsigned kept)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return false;
    }
    rlim_t keep = limit.rlim_cur < FEW ? limit.rlim_cur * kept / FEW : kept;
    /* The kernel gives the lowest number that is free. */
    return (rlim_t)fd >= limit.rlim_cur - keep;
}

static int taken(int fd, unsigned kept)
{
    if (!accept_is_short(fd, kept)) {
        return fd;
    }
    close(fd);
    pthread_mutex_lock(&doorman.lock);
    count_turned_away();
    pthread_mutex_unlock(&doorman.lock);
    errno = EINTR;
    return -1;
}

int accept_keeping(int listener, struct sockaddr *address, socklen_t *size, int flags,
                   unsigned kept)
{
    pthread_mutex_lock(&doorman.lock);
    if (doorman.spare < 0) {
        doorman.spare = open_spare();
    }
    pthread_mutex_unlock(&doorman.lock);
    int fd = take(listener, address, size, flags);
    if (fd >= 0) {
        return taken(fd, kept);
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
        return turn_away(listener);
    case ENOMEM:
    case ENOBUFS:
        errno = EAGAIN;
        break;
    /* Of the connection that it was to take: accept(2). */
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        errno = EINTR;
        break;
    default:
        break;
    }
    return -1;
}
