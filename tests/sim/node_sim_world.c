/* Time, chance, trace. */
#include "base/check.h"
#include "base/checksum.h"
#include "node_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the queue ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct sim_queue *queue, struct sim_event *event)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 256 : 2 * queue->capacity;
        queue->events = realloc(queue->events, queue->capacity * sizeof(*queue->events));
        CHECK(queue->events != NULL);
    }
    size_t at = queue->count++;
    while (at > 0 && is_before(event, queue->events[(at - 1) / 2])) {
        queue->events[at] = queue->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->events[at] = event;
}

static struct sim_event *pop(struct sim_queue *queue)
{
    struct sim_event *first = queue->events[0];
    struct sim_event *last = queue->events[--queue->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < queue->count && is_before(queue->events[child + 1], queue->events[child])) {
            child++;
        }
        if (child >= queue->count || !is_before(queue->events[child], last)) {
            break;
        }
        queue->events[at] = queue->events[child];
        at = child;
    }
    queue->events[at] = last;
    return first;
}

void *sim_after(struct sim *sim, uint64_t delay_ns, struct sim_node *node, size_t size,
                void (*run)(struct sim *sim, struct sim_event *event))
{
    struct sim_event *event = calloc(1, size);
    CHECK(event != NULL);
    event->run = run;
    event->node = node;
    event->life = node == NULL ? 0 : node->life;
    sim_requeue(sim, event, delay_ns);
    return event;
}

void sim_requeue(struct sim *sim, struct sim_event *event, uint64_t delay_ns)
{
    event->at_ns = sim->now_ns + delay_ns;
    event->order = sim->queue.next_order++;
    push(&sim->queue, event);
}

bool sim_step(struct sim *sim, uint64_t until_ns)
{
    if (sim->queue.count == 0 || sim->queue.events[0]->at_ns > until_ns) {
        sim->now_ns = until_ns;
        return false;
    }
    struct sim_event *event = pop(&sim->queue);
    sim->now_ns = event->at_ns;
    sim->events++;
    event->is_kept = false;
    if (event->node == NULL || event->life == event->node->life) {
        sim_note(sim, event->at_ns ^ event->order << 40);
        event->run(sim, event);
    }
    if (!event->is_kept) {
        free(event);
    }
    return true;
}

void sim_queue_finish(struct sim_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        free(queue->events[i]);
    }
    free(queue->events);
}

/* ---- chance ---- */

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return bound <= 1 ? 0 : random_below(&sim->random, bound);
}

struct sim_node *sim_any_node(struct sim *sim)
{
    return &sim->nodes[sim_below(sim, (uint64_t)sim->levels.node_count)];
}

bool sim_one_in(struct sim *sim, uint64_t n)
{
    return sim_below(sim, n) == 0;
}

bool sim_permille(struct sim *sim, uint64_t permille)
{
    return permille > 0 && sim_below(sim, 1000) < permille;
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    uint64_t a = sim_below(sim, high - low + 1);
    uint64_t b = sim_below(sim, high - low + 1);
    return low + (a < b ? a : b);
}

/* ---- trace ---- */

void sim_note(struct sim *sim, uint64_t fact)
{
    uint64_t mixed = (sim->hash ^ fact) * UINT64_C(0x9e3779b97f4a7c15);
    sim->hash = mixed ^ mixed >> 29;
}

void sim_trace_line(struct sim *sim, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    printf("%12.3f %s\n", (double)sim->now_ns / (double)MS, line);
}
