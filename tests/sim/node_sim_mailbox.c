/* base/mailbox.h for one thread: nobody waits for it, so that it needs no eventfd, of which each
 * turn would pay for two system calls. */
#include "base/mailbox.h"

#include "base/check.h"

int mailbox_init(struct mailbox *mailbox)
{
    *mailbox = (struct mailbox){.event_fd = -1};
    list_init(&mailbox->items);
    return 0;
}

void mailbox_finish(struct mailbox *mailbox)
{
    (void)mailbox;
}

void mailbox_post(struct mailbox *mailbox, struct list *item)
{
    list_push_back(&mailbox->items, item);
    mailbox->count++;
}

void mailbox_wake(struct mailbox *mailbox)
{
    mailbox->is_signalled = true;
}

size_t mailbox_drain(struct mailbox *mailbox, struct list *out)
{
    size_t count = mailbox->count;
    list_splice_back(out, &mailbox->items);
    mailbox->count = 0;
    mailbox->is_signalled = false;
    return count;
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->event_fd;
}

void mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ns)
{
    (void)mailbox;
    (void)timeout_ns;
    CHECK(!"nobody waits in the simulator");
}
