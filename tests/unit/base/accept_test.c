/* Connections of a child process, taken by one that has few descriptors. */
#include "base/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT 64
#define KEPT 16 /* by clients, of so few */
#define CONNECTIONS 100

struct bench {
    int listener;
    struct sockaddr_in address;
    struct rlimit old;
    pid_t child;
    int release; /* closed: the child ends */
};

/* Connects, says so, and stays until it may go. */
static void be_clients(const struct sockaddr_in *address, int done, int release)
{
    char byte;
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
            _exit(1);
        }
    }
    close(done);
    (void)!read(release, &byte, 1);
    _exit(0);
}

static void connect_all(struct bench *bench)
{
    int done[2];
    int release[2];
    assert_int_equal(pipe(done), 0);
    assert_int_equal(pipe(release), 0);
    bench->child = fork();
    assert_true(bench->child >= 0);
    if (bench->child == 0) {
        close(done[0]);
        close(release[1]);
        be_clients(&bench->address, done[1], release[0]);
    }
    close(done[1]);
    close(release[0]);
    char byte;
    assert_int_equal(read(done[0], &byte, 1), 0);
    close(done[0]);
    bench->release = release[1];
}

static int set_up(void **state)
{
    static struct bench bench;
    bench = (struct bench){.address = {.sin_family = AF_INET}};
    bench.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bench.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof(bench.address);
    assert_int_equal(bind(bench.listener, (struct sockaddr *)&bench.address, size), 0);
    assert_int_equal(listen(bench.listener, 2 * CONNECTIONS), 0);
    assert_int_equal(getsockname(bench.listener, (struct sockaddr *)&bench.address, &size), 0);
    connect_all(&bench);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &bench.old), 0);
    struct rlimit few = {LIMIT, bench.old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    *state = &bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    close(bench->release);
    int status = 0;
    assert_int_equal(waitpid(bench->child, &status, 0), bench->child);
    assert_int_equal(status, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &bench->old), 0);
    close(bench->listener);
    return 0;
}

static int take(struct bench *bench)
{
    return accept_keeping(bench->listener, NULL, NULL, SOCK_CLOEXEC, ACCEPT_KEPT_BY_CLIENTS);
}

static void test_who_would_take_what_is_kept_is_turned_away(void **state)
{
    struct bench *bench = *state;
    int fds[CONNECTIONS];
    size_t count = 0;
    size_t turned_away = 0;
    int fd;
    while ((fd = take(bench)) >= 0 || errno == EINTR) {
        if (fd < 0) {
            turned_away++;
        } else {
            assert_true(fd < LIMIT - KEPT);
            fds[count++] = fd;
        }
    }
    assert_int_equal(errno, EAGAIN);
    assert_true(count > 0);
    assert_int_equal(count + turned_away, CONNECTIONS);
    /* The other nodes still find room. */
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= LIMIT - KEPT);
    close(fd);
    while (count > 0) {
        close(fds[--count]);
    }
}

static void test_with_no_descriptor_left_nobody_stays_in_the_queue(void **state)
{
    struct bench *bench = *state;
    int fds[LIMIT];
    size_t count = 0;
    int fd = take(bench); /* from now on there is a spare one */
    assert_true(fd >= 0);
    while (fd >= 0) {
        fds[count++] = fd;
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    assert_int_equal(errno, EMFILE);
    for (int i = 1; i < CONNECTIONS; i++) {
        assert_int_equal(take(bench), -1);
        assert_int_equal(errno, EINTR);
    }
    assert_int_equal(take(bench), -1);
    assert_int_equal(errno, EAGAIN);
    while (count > 0) {
        close(fds[--count]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_would_take_what_is_kept_is_turned_away, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_with_no_descriptor_left_nobody_stays_in_the_queue,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
