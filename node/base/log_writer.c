/* Writes log lines. Without the thread, the caller writes. From log_writer_start() on a thread
 * writes, and may wait indefinitely for the reader of stderr.
 *
 * O_NONBLOCK is no alternative: it is a flag of the open file, which other processes share. The
 * thread takes the lines in order from a ring of LOG_QUEUE_BYTES. A line that does not fit is
 * dropped and counted. `notice_after` is the place of the notice among the queued lines. */
#include "base/log_writer.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LOG_QUEUE_BYTES = 131072,
    LOG_STALL_MAX_MS = 1000, /* without the thread: how long a non-blocking stderr may be full */
    LAST_WORDS_MS = 100,
};

static struct {
    atomic_int fd;
    atomic_uint_fast64_t dropped; /* since the start */
    atomic_size_t unwritten;      /* bytes in the ring and in the thread's hand */
    atomic_uint_fast64_t
        untold;            /* dropped lines that no line has reported yet; changed under the lock */
    atomic_bool is_broken; /* the last write failed; likewise */
    pthread_mutex_t lock;  /* all below */
    pthread_cond_t changed;
    bool is_running;
    bool is_stopping;
    log_writer_notice *make_notice;
    size_t notice_after; /* of `untold`: due when so many bytes of the ring are written */
    size_t begin;        /* of the ring's contents */
    size_t size;
    char ring[LOG_QUEUE_BYTES];
} writer = {
    .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void log_writer_set_fd(int fd)
{
    atomic_store(&writer.fd, fd);
}

/* One write(2), unless the file takes less than it was offered (a pipe that is nearly full).
 * `stall_max_ms` as for poll(2). */
static bool write_text(const char *text, size_t size, int stall_max_ms)
{
    int fd = atomic_load(&writer.fd);
    size_t done = 0;
    while (done < size) {
        ssize_t written = write(fd, text + done, size - done);
        if (written >= 0) {
            done += (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
            if (poll(&pollfd, 1, stall_max_ms) == 0) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

void log_last_words(const char *text, size_t size)
{
    struct pollfd pollfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&pollfd, 1, LAST_WORDS_MS) > 0) {
        ssize_t ignored = write(pollfd.fd, text, size);
        (void)ignored;
    }
}

/* ---- the ring; with the lock held ---- */

static size_t count_lines(const char *text, size_t size)
{
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    return lines;
}

static void drop(uint64_t lines)
{
    atomic_fetch_add(&writer.dropped, lines);
    if (writer.untold == 0) {
        writer.notice_after = writer.size;
    }
    writer.untold += lines;
}

static void push(const char *text, size_t size)
{
    if (size > LOG_QUEUE_BYTES - writer.size) {
        drop(count_lines(text, size));
        return;
    }
    size_t end = (writer.begin + writer.size) % LOG_QUEUE_BYTES;
    size_t first = size < LOG_QUEUE_BYTES - end ? size : LOG_QUEUE_BYTES - end;
    memcpy(writer.ring + end, text, first);
    memcpy(writer.ring, text + first, size - first);
    writer.size += size;
    atomic_fetch_add(&writer.unwritten, size);
}

/* One line; `text` has room for the longest. */
static size_t pop(char *text)
{
    size_t size = 0;
    do {
        text[size] = writer.ring[writer.begin];
        writer.begin = (writer.begin + 1) % LOG_QUEUE_BYTES;
        writer.size--;
    } while (text[size++] != '\n' && writer.size > 0 && size < LOG_LINE_MAX);
    writer.notice_after = writer.notice_after > size ? writer.notice_after - size : 0;
    return size;
}

static bool is_notice_due(void)
{
    return writer.untold > 0 && writer.notice_after == 0;
}

/* ---- the thread ---- */

/* Writes without the lock, which is held before and after. */
static bool write_unlocked(const char *text, size_t size)
{
    pthread_mutex_unlock(&writer.lock);
    bool is_written = write_text(text, size, -1);
    pthread_mutex_lock(&writer.lock);
    writer.is_broken = !is_written;
    return is_written;
}

static void write_notice(char *text)
{
    uint64_t lines = writer.untold;
    if (write_unlocked(text, writer.make_notice(lines, text))) {
        writer.untold -= lines;
        writer.notice_after = writer.size; /* of those dropped meanwhile */
    }
}

static void write_line(char *text)
{
    size_t size = pop(text);
    if (!write_unlocked(text, size)) {
        drop(1);
    }
    atomic_fetch_sub(&writer.unwritten, size);
}

static void *run(void *context)
{
    static char text[LOG_LINE_MAX];
    (void)context;
    pthread_mutex_lock(&writer.lock);
    for (;;) {
        if (is_notice_due() && !(writer.is_broken && writer.size == 0)) {
            write_notice(text);
        }
        if (writer.size > 0) {
            write_line(text);
        } else if (writer.is_stopping) {
            break;
        } else if (!is_notice_due() || writer.is_broken) {
            pthread_cond_wait(&writer.changed, &writer.lock);
        }
    }
    writer.is_running = false;
    pthread_cond_broadcast(&writer.changed);
    pthread_mutex_unlock(&writer.lock);
    return NULL;
}

int log_writer_start(log_writer_notice *make_notice)
{
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    pthread_mutex_lock(&writer.lock);
    bool is_running = writer.is_running;
    writer.is_running = true;
    writer.make_notice = make_notice;
    writer.is_stopping = false;
    pthread_mutex_unlock(&writer.lock);
    if (is_running) {
        return 0;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        writer.is_running = false;
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(thread, "log");
    (void)pthread_detach(thread); /* it may never come back from a write */
    return 0;
}

bool log_flush(uint32_t timeout_ms)
{
    const struct timespec pause = {.tv_nsec = (long)NS_PER_MS};
    uint64_t end_ns = clock_monotonic_ns(clock_system()) + timeout_ms * NS_PER_MS;
    while (clock_monotonic_ns(clock_system()) < end_ns) {
        bool may_tell = atomic_load(&writer.untold) > 0 && !atomic_load(&writer.is_broken);
        if (atomic_load(&writer.unwritten) == 0 && !may_tell) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

bool log_stop(uint32_t timeout_ms)
{
    (void)log_flush(timeout_ms);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000 + 1;
    pthread_mutex_lock(&writer.lock);
    writer.is_stopping = true;
    pthread_cond_broadcast(&writer.changed);
    int error = 0;
    while (writer.is_running && error == 0) {
        error = pthread_cond_timedwait(&writer.changed, &writer.lock, &until);
    }
    bool is_over = !writer.is_running;
    pthread_mutex_unlock(&writer.lock);
    return is_over;
}

uint64_t log_dropped_total(void)
{
    return atomic_load(&writer.dropped);
}

bool log_writer_put(const char *text, size_t size)
{
    pthread_mutex_lock(&writer.lock);
    bool is_queued = writer.is_running && !writer.is_stopping;
    if (is_queued) {
        push(text, size);
        pthread_cond_signal(&writer.changed);
    }
    pthread_mutex_unlock(&writer.lock);
    if (is_queued || write_text(text, size, LOG_STALL_MAX_MS)) {
        return true;
    }
    atomic_fetch_add(&writer.dropped, count_lines(text, size));
    return false;
}
