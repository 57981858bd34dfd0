/* Relieves memory: asks again for pages, ends connections that hold memory without progress, and
 * returns freed memory to the system. */
#include "base/budget.h"
#include "base/clock.h"
#include "ws.h"

#include <malloc.h>

#define LOOK_US (LWS_US_PER_SEC / 10)
/* Time without progress of the client after which it may be disconnected. */
#define STALL_NS (10 * NS_PER_S)
#define MESSAGE_BYTES_S 16384
#define STALLED_BYTES_MIN 16384 /* bytes held below which a connection is left alone */
#define TRIM_BYTES (32u << 20)  /* bytes freed since the last check that justify a trim */

/* Returns freed memory to the system; malloc would keep it. */
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

/* True if the client has not taken written bytes for STALL_NS. */
static bool is_stalled(const struct ws *ws, uint64_t now_ns)
{
    return ws->outbox_bytes + ws->unsent_bytes >= STALLED_BYTES_MIN &&
           now_ns > ws->last_sent_ns + STALL_NS;
}

/* True if a message began more than STALL_NS ago and arrives more slowly than MESSAGE_BYTES_S. */
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
            ws_close(ws, WS_CLOSE_OVERLOADED, "the message arrives too slowly", true);
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
