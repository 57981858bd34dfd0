/* What calls need of the server's thread: its clock, posts to it, and marks for connections that
 * have something to write. */
#include "h2/h2_internal.h"

#include "base/clock.h"

static __thread const struct h2_server *current_server;

uint64_t h2_now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

const struct h2_server *h2_server_enter(const struct h2_server *server)
{
    const struct h2_server *before = current_server;
    current_server = server;
    return before;
}

bool h2_server_is_current(const struct h2_server *server)
{
    return current_server == server;
}

void h2_server_post(struct h2_server *server, struct h2_post *post)
{
    if (h2_server_is_current(server)) {
        list_push_back(&server->posts, &post->link);
    } else {
        mailbox_post(&server->mailbox, &post->link);
    }
}

void h2_connection_mark(struct h2_connection *connection)
{
    if (!connection->is_doomed && list_is_empty(&connection->dirty_link)) {
        list_push_back(&connection->server->dirty, &connection->dirty_link);
    }
}
