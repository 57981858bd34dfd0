/* Accounts for the memory of each connection and of all. */
#include "h2/h2_internal.h"

#include "base/check.h"

bool h2_take(struct h2_connection *connection, uint64_t bytes, bool is_large)
{
    struct budget *memory = connection->server->options.memory;
    if (memory == NULL) {
        return true;
    }
    uint64_t share = memory->limit_bytes / CONNECTION_SHARE;
    uint64_t kept = is_large ? memory->limit_bytes / KEPT_SHARE : 0;
    if (atomic_load(&connection->held_bytes) + bytes > share ||
        budget_used(memory) + bytes + kept > memory->limit_bytes || !budget_take(memory, bytes)) {
        return false;
    }
    atomic_fetch_add(&connection->held_bytes, bytes);
    return true;
}

void h2_take_over(struct h2_connection *connection, uint64_t bytes)
{
    if (connection->server->options.memory != NULL) {
        budget_take_over(connection->server->options.memory, bytes);
        atomic_fetch_add(&connection->held_bytes, bytes);
    }
}

void h2_give(struct h2_connection *connection, uint64_t bytes)
{
    struct budget *memory = connection->server->options.memory;
    if (memory != NULL && bytes > 0) {
        uint64_t before = atomic_fetch_sub(&connection->held_bytes, bytes);
        CHECK(before >= bytes);
        budget_give(memory, bytes);
    }
}
