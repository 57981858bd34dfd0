/* The lists of requests, and the end of requests: outcomes, and the calls of done(). */
#ifndef RAFTOGRAM_DRIVER_COMPLETION_H
#define RAFTOGRAM_DRIVER_COMPLETION_H

#include "driver/node.h"

/* Requests answered in one turn, and after how many it is asked whether that takes too long: more
 * than a quarter of the heartbeat's interval, which must not wait for them. */
#ifndef NODE_COMPLETE_TURN_MAX
#define NODE_COMPLETE_TURN_MAX 4096u
#endif
#define NODE_COMPLETE_CHECK 64u

/* Each request that was admitted is in one of these lists, or in one of reads.h, until its end. The
 * files that handle requests move them. */
struct node_requests {
    struct list waiting;   /* commands that cannot be proposed or forwarded yet, in order */
    struct list pending;   /* proposed here, by index; all in one term */
    struct list forwarded; /* sent to the leader, by link, in order of their ids */
    struct list answered;  /* forwarded and answered, but was it the first? repeats.c */
    struct list transfers;
    struct list finished;   /* done() is due */
    size_t completions;     /* in this turn, */
    uint64_t completing_ns; /* and the time that they took */
    uint64_t next_order;
    uint64_t expire_at_ns; /* lower bound of all expires_ns */
};

void node_requests_init(struct node *node);
void node_requests_finish(struct node *node);
/* At the beginning of a turn: it may complete NODE_COMPLETE_TURN_MAX. */
void node_begin_completions(struct node *node);

/* A request in one of the lists ends then at the latest: node_expire() must look. */
void node_note_expiry(struct node *node, uint64_t expires_ns);
/* Forgets what was noted: node_expire() looks at all requests, and notes those that stay. */
void node_reset_expiry(struct node *node);
/* Returns the place of a new request in the order in which they came. */
uint64_t node_take_order(struct node *node);
void node_finish_request(struct node *node, struct node_request *request,
                         enum node_outcome outcome);
/* All of a list. */
void node_finish_requests(struct node *node, struct list *requests, enum node_outcome outcome);
/* Calls done() of what is finished, as far as this turn may. */
void node_complete(struct node *node);
/* Calls done() of all that is finished. */
void node_complete_all(struct node *node);

#endif
