/* Formats of commands: a newer one is proposed only once all members understand it. */
#ifndef RAFTOGRAM_DRIVER_FORMATS_H
#define RAFTOGRAM_DRIVER_FORMATS_H

#include "driver/node.h"

#define NODE_SEARCH_ENTRIES_MAX 4096u /* of the log's end, searched for a newer format */
#define NODE_SEARCH_BYTES_MAX (16u << 20)

/* Written by formats.c alone. */
struct node_formats {
    uint32_t members[CLUSTER_MEMBERS_MAX]; /* newest format of each member; 0: not known */
    unsigned log; /* newest format in the log, as far as this node has seen it */
    bool is_log_searched;
};

/* Notes what a member says at the beginning of a stream. */
void node_note_member_format(struct node *node, raft_member member, uint32_t format);
/* Notes that the log has this command: all members understand its format. */
void node_note_format(struct node *node, struct bytes command);
/* Ends the waiting commands that not all members are known to understand. */
void node_refuse_too_new(struct node *node);
/* Returns whether the leader is known to understand the command. */
bool node_leader_understands(const struct node *node, const struct node_request *request);

#endif
