/* A bounded queue between threads with an eventfd to wait on: many posters, one reader.
 * Elements are intrusive links; the mailbox owns none of them. */
#ifndef RAFTOGRAM_BASE_MAILBOX_H
#define RAFTOGRAM_BASE_MAILBOX_H

#include "base/list.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct mailbox {
    pthread_mutex_t lock;
    struct list items;
    size_t count;
    size_t count_max;
    int event_fd;
    bool is_signalled;
    bool is_closed;
};

/* Errors: ERR_IO (no eventfd). A failed init owes no finish. */
int mailbox_init(struct mailbox *mailbox, size_t count_max);
/* The mailbox must be empty. Accepts NULL and zeroed memory. */
void mailbox_finish(struct mailbox *mailbox);

/* Queues `item` and wakes the reader. The link stays the poster's on error.
 * Errors: ERR_FULL at count_max, ERR_CLOSED after mailbox_close(). */
int mailbox_post(struct mailbox *mailbox, struct list *item);
/* As mailbox_post(), but beyond count_max too: for answers that must not be lost and are bounded by
 * other means. Errors: ERR_CLOSED. */
int mailbox_post_always(struct mailbox *mailbox, struct list *item);
/* Wakes the reader without an item. */
void mailbox_wake(struct mailbox *mailbox);

/* Moves everything queued to the end of `out` (initialised by the caller) and clears the event.
 * Returns how many. Never blocks. */
size_t mailbox_drain(struct mailbox *mailbox, struct list *out);
/* Readable while items or a wake-up wait; for poll(2). */
int mailbox_fd(const struct mailbox *mailbox);
/* Blocks until readable or `timeout_ns` (UINT64_MAX: for ever) has passed. */
void mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ns);
/* Later posts fail, and the reader is woken; what is queued stays for a last drain. */
void mailbox_close(struct mailbox *mailbox);

#endif
