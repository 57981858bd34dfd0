/* Accounts the memory that clients make this frontend hold, against the budget of the process
 * (base/budget.h).
 *
 * Charged are: messages and calls in progress, queued answers, pages, subscriptions, and bodies of
 * HTTP answers. Beyond the limit a call is RESOURCE_EXHAUSTED, an HTTP answer is 503, and a
 * connection that cannot be answered otherwise is closed with 1013. A page waits until there is
 * room. While memory is short, connections are ended that have not read for a while, or whose
 * message makes no progress. */
#ifndef RAFTOGRAM_HTTP_MEMORY_H
#define RAFTOGRAM_HTTP_MEMORY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_frontend;

/* Charge and release memory. Any thread. A frontend without a budget (in tests) accepts everything.
 */
bool memory_take(struct http_frontend *frontend, size_t bytes);
void memory_take_over(struct http_frontend *frontend, size_t bytes);
void memory_give(struct http_frontend *frontend, size_t bytes);
/* `bytes`, or the limit divided by `part` if that is less. */
size_t memory_part(const struct http_frontend *frontend, size_t part, size_t bytes);
/* Notes that something was refused, or a page not read, for lack of memory. Any thread. */
void memory_note_want(struct http_frontend *frontend);

#endif
