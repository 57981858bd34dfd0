/* A queue between threads with an eventfd to wait on: many posters, one reader. Elements are
 * intrusive links, which the mailbox does not own.
 *
 * It never refuses an item. Its length is bounded by the number of jobs: those for readers by
 * the calls and subscriptions that the frontends admit, those for snapshots by the chunks in
 * flight, one to and one from each peer. */
#ifndef RAFTOGRAM_BASE_MAILBOX_H
#define RAFTOGRAM_BASE_MAILBOX_H

#include "base/list.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mailbox {
    pthread_mutex_t lock;
    struct list items;
    size_t count;
    int event_fd;
    bool is_signalled;
};

/* Errors: ERR_IO (no eventfd). A failed init owes no finish. */
int mailbox_init(struct mailbox *mailbox);
/* The mailbox must be empty. Accepts NULL and zeroed memory. */
void mailbox_finish(struct mailbox *mailbox);

/* Queues `item` and wakes the reader. */
void mailbox_post(struct mailbox *mailbox, struct list *item);
/* Wakes the reader without an item. */
void mailbox_wake(struct mailbox *mailbox);

/* Moves everything queued to the end of `out` (initialised by the caller) and clears the event.
 * Returns how many. Never blocks. */
size_t mailbox_drain(struct mailbox *mailbox, struct list *out);
/* Readable while items or a wake-up wait; for poll(2). */
int mailbox_fd(const struct mailbox *mailbox);
/* Blocks until it is readable or `timeout_ns` has passed (UINT64_MAX: indefinitely). */
void mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ns);

#endif
