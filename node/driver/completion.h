/* The lists of requests, and their completion: outcomes and calls of done(). */
#ifndef RAFTOGRAM_DRIVER_COMPLETION_H
#define RAFTOGRAM_DRIVER_COMPLETION_H

#include "driver/node.h"

/* Requests completed in one turn, and requests between two looks at the clock. A turn ends early
 * after a quarter of the heartbeat interval, so that heartbeats are not late. */
#ifndef NODE_COMPLETE_TURN_MAX
#define NODE_COMPLETE_TURN_MAX 4096u
#endif
#define NODE_COMPLETE_CHECK 64u

/* Each admitted request is in exactly one of these lists, or of those in reads.h, until it ends.
 * The files that handle requests move it from list to list. */
struct node_requests {
    struct list waiting;   /* commands that cannot be proposed or forwarded yet, in order */
    struct list pending;   /* proposed here, by index; all in one term */
    struct list forwarded; /* sent to the leader, by link, in order of their ids */
    struct list answered;  /* answered by the leader; repeats.c still checks `deduplicated` */
    struct list transfers;
    struct list finished;   /* done() is due */
    size_t completions;     /* in this turn */
    uint64_t completing_ns; /* time spent on them in this turn */
    uint64_t next_order;
    uint64_t expire_at_ns; /* lower bound of all expires_ns */
};

void node_requests_init(struct node *node);
void node_requests_finish(struct node *node);
/* Resets the limits of completion. Called at the beginning of each turn. */
void node_begin_completions(struct node *node);

/* Makes node_expire() look at the lists at `expires_ns` at the latest. */
void node_note_expiry(struct node *node, uint64_t expires_ns);
/* Forgets what was noted: node_expire() looks at all requests, and notes those that stay. */
void node_reset_expiry(struct node *node);
/* Returns the place of a new request in the order in which they came. */
uint64_t node_take_order(struct node *node);
void node_finish_request(struct node *node, struct node_request *request,
                         enum node_outcome outcome);
/* Finishes all requests of a list. */
void node_finish_requests(struct node *node, struct list *requests, enum node_outcome outcome);
/* Calls done() of finished requests, as many as this turn may. */
void node_complete(struct node *node);
/* Calls done() of all finished requests. */
void node_complete_all(struct node *node);

#endif
