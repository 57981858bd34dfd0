/* While memory is short: asks for pages again, ends connections that hold memory without progress,
 * and gives freed memory back to the system. */
#include "base/budget.h"
#include "base/clock.h"
#include "ws.h"

#include <malloc.h>

#define LOOK_US (LWS_US_PER_SEC / 10)
#define STALL_NS (10 * NS_PER_S) /* nothing was taken by the client: it may be hung up on */
#define MESSAGE_BYTES_S 16384
#define STALLED_BYTES_MIN 16384 /* that are worth it */
#define TRIM_BYTES (32u << 20)  /* given back since the last look that are worth a trim */

/* What was freed goes back to the system, which malloc would keep for the next time. */
static void trim(struct http_frontend *frontend)
{
    uint64_t used = budget_used(frontend->options.memory);
    uint64_t peak = atomic_load(&frontend->memory_peak);
    if (peak < TRIM_BYTES || used > peak / 4) {
        return;
    }
    atomic_store(&frontend->memory_peak, used);
    (void)malloc_trim(0);
}

/* It has left what was written to it for so long. */
static bool is_stalled(const struct ws *ws, uint64_t now_ns)
{
    return ws->outbox_bytes + ws->unsent_bytes >= STALLED_BYTES_MIN &&
           now_ns > ws->last_sent_ns + STALL_NS;
}

/* Its message has begun so long ago, and comes more slowly than MESSAGE_BYTES_S. */
static bool is_late(const struct ws *ws, uint64_t now_ns)
{
    uint64_t allowed_ns = STALL_NS + ws->message.size * NS_PER_S / MESSAGE_BYTES_S;
    return ws->message.size > 0 && now_ns > ws->message_since_ns + allowed_ns;
}

static void relieve(struct http_frontend *frontend)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    LIST_FOR_EACH (link, &frontend->sockets) {
        struct ws *ws = LIST_ENTRY(link, struct ws, link);
        if (ws->wsi == NULL || ws->is_killed) {
            continue;
        }
        if (is_stalled(ws, now_ns)) {
            ws->is_killed = true;
            ws_hang_up(ws);
        } else if (is_late(ws, now_ns)) {
            ws_close(ws, WS_CLOSE_OVERLOADED, "the message comes too slowly", true);
            ws_drop_message(ws);
        }
    }
}

static void look(lws_sorted_usec_list_t *timer)
{
    struct http_frontend *frontend = CONTAINER_OF(timer, struct http_frontend, memory_timer);
    if (atomic_exchange(&frontend->is_memory_wanted, false)) {
        relieve(frontend);
        LIST_FOR_EACH (link, &frontend->sockets) {
            ws_ask_for_page(LIST_ENTRY(link, struct ws, link));
        }
    }
    trim(frontend);
    lws_sul_schedule(frontend->context, 0, timer, look, LOOK_US);
}

void ws_watch_memory(struct http_frontend *frontend)
{
    if (frontend->options.memory != NULL) {
        lws_sul_schedule(frontend->context, 0, &frontend->memory_timer, look, LOOK_US);
    }
}
