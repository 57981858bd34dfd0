/* Mailboxes between threads: a list under a lock, and an eventfd. */
#include "base/mailbox.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *mailbox)
{
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) {
        return ERR_IO;
    }
    *mailbox = (struct mailbox){.event_fd = event_fd};
    CHECK(pthread_mutex_init(&mailbox->lock, NULL) == 0);
    list_init(&mailbox->items);
    return 0;
}

void mailbox_finish(struct mailbox *mailbox)
{
    if (mailbox == NULL || mailbox->items.next == NULL) {
        return;
    }
    CHECK(list_is_empty(&mailbox->items));
    CHECK(pthread_mutex_destroy(&mailbox->lock) == 0);
    close(mailbox->event_fd);
    memset(mailbox, 0, sizeof(*mailbox));
}

static void lock(struct mailbox *mailbox)
{
    CHECK(pthread_mutex_lock(&mailbox->lock) == 0);
}

static void unlock(struct mailbox *mailbox)
{
    CHECK(pthread_mutex_unlock(&mailbox->lock) == 0);
}

/* Only the first post after a drain pays for the system call. It is made under the lock, so that a
 * reader who has drained the last expected item may finish the mailbox at once. */
static void signal_reader(struct mailbox *mailbox)
{
    if (mailbox->is_signalled) {
        return;
    }
    mailbox->is_signalled = true;
    CHECK(eventfd_write(mailbox->event_fd, 1) == 0);
}

void mailbox_post(struct mailbox *mailbox, struct list *item)
{
    lock(mailbox);
    list_push_back(&mailbox->items, item);
    mailbox->count++;
    signal_reader(mailbox);
    unlock(mailbox);
}

void mailbox_wake(struct mailbox *mailbox)
{
    lock(mailbox);
    signal_reader(mailbox);
    unlock(mailbox);
}

size_t mailbox_drain(struct mailbox *mailbox, struct list *out)
{
    lock(mailbox);
    size_t count = mailbox->count;
    list_splice_back(out, &mailbox->items);
    mailbox->count = 0;
    if (mailbox->is_signalled) {
        eventfd_t ignored;
        CHECK(eventfd_read(mailbox->event_fd, &ignored) == 0);
        mailbox->is_signalled = false;
    }
    unlock(mailbox);
    return count;
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->event_fd;
}

void mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ns)
{
    uint64_t start_ns = clock_monotonic_ns(clock_system());
    struct pollfd pollfd = {.fd = mailbox->event_fd, .events = POLLIN};
    for (;;) {
        struct timespec timeout = {0};
        if (timeout_ns != UINT64_MAX) {
            uint64_t waited_ns = clock_monotonic_ns(clock_system()) - start_ns;
            uint64_t left_ns = waited_ns < timeout_ns ? timeout_ns - waited_ns : 0;
            timeout.tv_sec = (time_t)(left_ns / NS_PER_S);
            timeout.tv_nsec = (long)(left_ns % NS_PER_S);
        }
        int ready = ppoll(&pollfd, 1, timeout_ns != UINT64_MAX ? &timeout : NULL, NULL);
        if (ready >= 0) {
            return;
        }
        CHECK(errno == EINTR);
    }
}
