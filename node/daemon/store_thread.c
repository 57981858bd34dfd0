/* The store thread: writes applied entries to the store, and slowly verifies all its rows. */
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "daemon/daemon_internal.h"

#define STORE_RETRY_NS NS_PER_S
#define SCRUB_INTERVAL_NS (100 * NS_PER_MS) /* between two slices, of so many rows: */
#define SCRUB_ROWS_IDLE 2000
#define SCRUB_ROWS_BUSY 200
#define SCRUB_PAUSE_NS (600 * NS_PER_S) /* between two passes */

static void wake_store(void *context)
{
    struct daemon *daemon = context;
    mailbox_wake(&daemon->store_bell);
}

void daemon_flush_store(void *context)
{
    struct daemon *daemon = context;
    atomic_store(&daemon->is_flush_wanted, true);
    mailbox_wake(&daemon->store_bell);
}

/* Verifies a slice of rows. Rows that no client reads could otherwise be damaged without notice. */
static void scrub(struct daemon *daemon, uint64_t now_ns, bool is_idle)
{
    if (now_ns < daemon->scrub_ns) {
        return;
    }
    struct chat *chat = daemon->boot.chat;
    struct chat_backing *backing = chat_hold_store(chat);
    bool is_done = false;
    int rc = daemon->store.kind.scrub(chat_backing_store(backing),
                                      is_idle ? SCRUB_ROWS_IDLE : SCRUB_ROWS_BUSY, &is_done);
    chat_release_store(chat, backing);
    daemon->scrub_ns = now_ns + (is_done ? SCRUB_PAUSE_NS : SCRUB_INTERVAL_NS);
    if (rc == ERR_CORRUPT || rc == ERR_IO) {
        chat_set_damaged(chat);
        node_wake(daemon->node);
    }
}

/* Handles a flush's result. False: the store can no longer be written. */
static bool note_flush(struct daemon *daemon, int rc, int last)
{
    if (rc == ERR_CORRUPT) {
        /* The node's next turn marks the damage. The process ends after it has handed over
         * leadership. */
        chat_set_damaged(daemon->boot.chat);
        node_wake(daemon->node);
        return false;
    }
    if (rc != 0 && rc != ERR_NO_SPACE && rc != ERR_NOMEM) {
        atomic_store(&daemon->store_error, rc);
        mailbox_wake(&daemon->bell);
        return false;
    }
    if (rc != 0 && last == 0) {
        log_error("store", "cannot write to the store; trying again",
                  LOG_STR("reason", error_text(rc)));
    }
    node_set_store_full(daemon->node, rc == ERR_NO_SPACE);
    node_wake(daemon->node); /* it may be waiting for the overlay to shrink */
    return true;
}

static uint64_t next_flush_ns(struct chat *chat, int rc, uint64_t now_ns)
{
    uint64_t next_ns = chat_flush_deadline_ns(chat, now_ns);
    if (rc != 0 && next_ns <= now_ns) {
        return now_ns + STORE_RETRY_NS;
    }
    /* Apply wakes this thread by size only, not by age. */
    uint64_t latest_ns = now_ns + CHAT_GENERATION_AGE_NS;
    return next_ns < latest_ns ? next_ns : latest_ns;
}

static void *run_store(void *context)
{
    struct daemon *daemon = context;
    struct chat *chat = daemon->boot.chat;
    struct list none;
    list_init(&none);
    int last = 0;
    while (!atomic_load(&daemon->is_store_stopping)) {
        uint64_t now_ns = clock_monotonic_ns(clock_system());
        bool is_wanted = atomic_exchange(&daemon->is_flush_wanted, false);
        int rc = chat_flush(chat, is_wanted ? CHAT_FLUSH_NOW : CHAT_FLUSH_IF_DUE, now_ns);
        if (!note_flush(daemon, rc, last)) {
            return NULL;
        }
        last = rc;
        uint64_t next_ns = next_flush_ns(chat, rc, now_ns);
        bool is_idle = !is_wanted && next_ns >= now_ns + CHAT_GENERATION_AGE_NS;
        scrub(daemon, now_ns, is_idle);
        next_ns = next_ns < daemon->scrub_ns ? next_ns : daemon->scrub_ns;
        now_ns = clock_monotonic_ns(clock_system());
        if (next_ns > now_ns) {
            mailbox_wait(&daemon->store_bell, next_ns - now_ns);
            (void)mailbox_drain(&daemon->store_bell, &none);
        }
    }
    return NULL;
}

int daemon_start_store(struct daemon *daemon)
{
    int rc = mailbox_init(&daemon->store_bell);
    if (rc != 0) {
        return rc;
    }
    chat_set_flush_wanted(daemon->boot.chat, wake_store, daemon);
    if (pthread_create(&daemon->store_thread, NULL, run_store, daemon) != 0) {
        chat_set_flush_wanted(daemon->boot.chat, NULL, NULL);
        mailbox_finish(&daemon->store_bell);
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(daemon->store_thread, "store");
    daemon->has_store_thread = true;
    return 0;
}

void daemon_stop_store(struct daemon *daemon)
{
    if (!daemon->has_store_thread) {
        return;
    }
    atomic_store(&daemon->is_store_stopping, true);
    mailbox_wake(&daemon->store_bell);
    pthread_join(daemon->store_thread, NULL);
    chat_set_flush_wanted(daemon->boot.chat, NULL, NULL);
    mailbox_finish(&daemon->store_bell);
}
