/* What clients make this frontend hold, against the budget of the whole process (base/budget.h).
 *
 * Charged are: messages and calls on their way, answers that wait, pages, subscriptions, bodies of
 * HTTP answers. Past the limit a call is RESOURCE_EXHAUSTED, an HTTP answer 503, and a connection
 * that nothing else can be said to is closed with 1013. A page waits until there is room. While
 * memory is wanted, those that have not read for a while are hung up on, and those whose message
 * does not get on. */
#ifndef RAFTOGRAM_HTTP_MEMORY_H
#define RAFTOGRAM_HTTP_MEMORY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_frontend;

/* Any thread. A frontend without a budget (in tests) takes all. */
bool memory_take(struct http_frontend *frontend, size_t bytes);
void memory_take_over(struct http_frontend *frontend, size_t bytes);
void memory_give(struct http_frontend *frontend, size_t bytes);
/* `bytes`, or the limit divided by `part` if that is less. */
size_t memory_part(const struct http_frontend *frontend, size_t part, size_t bytes);
/* Something was refused, or a page not read, for want of memory. Any thread. */
void memory_note_want(struct http_frontend *frontend);

#endif
