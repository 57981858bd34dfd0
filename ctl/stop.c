/* Ends a verb at a signal, or when the reader of stdout is gone. */
#include "stop.h"

#include "complain.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int wake_fd = -1;
static volatile sig_atomic_t is_interrupted;

void stop_wake(void)
{
    uint64_t one = 1;
    /* A write fails only when the counter is full. Then the waiter wakes anyway. */
    ssize_t written = write(wake_fd, &one, sizeof(one));
    (void)written;
}

static void on_signal(int number)
{
    int saved = errno;
    is_interrupted = 1;
    stop_wake();
    errno = saved;
}

int stop_catch(void)
{
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        complain("cannot wait for events: %s", strerror(errno));
        return EXIT_REFUSED;
    }
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return 0;
}

static bool is_output_gone(void)
{
    struct pollfd fd = {.fd = STDOUT_FILENO};
    return ferror(stdout) != 0 || (poll(&fd, 1, 0) == 1 && fd.revents != 0);
}

bool stop_is_wanted(void)
{
    return is_interrupted != 0 || is_output_gone();
}

void stop_wait(int timeout_ms)
{
    struct pollfd fds[] = {{.fd = wake_fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};
    if (poll(fds, 2, timeout_ms) > 0 && (fds[0].revents & POLLIN) != 0) {
        uint64_t count;
        ssize_t got = read(wake_fd, &count, sizeof(count));
        (void)got;
    }
}
