/* The table of verbs. Each verb describes and runs itself, in the verbs_*.c file of its service. */
#ifndef RAFTOGRAM_CTL_VERBS_H
#define RAFTOGRAM_CTL_VERBS_H

#include "arguments.h"
#include "cluster.h"
#include "flags.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define VERB_EXCLUSIVE_MAX 5

struct verb {
    const char *name;
    const char *synopsis; /* what follows the name */
    const char *summary;  /* one line */
    const char *help;     /* its flags, what it promises, and examples */
    size_t operands_min;
    size_t operands_max;
    unsigned options; /* OPTION_* that it takes */
    /* Pairs of options that contradict each other, ended by 0. */
    unsigned exclusive[VERB_EXCLUSIVE_MAX + 1];
    /* The first operand is a channel's id. It may be left out, but it may not be empty. */
    bool is_of_channel;
    /* True: it runs without a cluster, which is NULL then. */
    bool is_local;
    /* What shells offer as the first operand: "channel", "key" or "node" of the cluster, "verb", or
     * choices ("a|b"). NULL: nothing. */
    const char *first_operand;
    /* Returns an exit code. */
    int (*run)(struct cluster *cluster, const struct arguments *arguments);
};

extern const struct verb verb_status;
extern const struct verb verb_channels;
extern const struct verb verb_create;
extern const struct verb verb_send;
extern const struct verb verb_history;
extern const struct verb verb_tail;
extern const struct verb verb_get;
extern const struct verb verb_put;
extern const struct verb verb_del;
extern const struct verb verb_keys;
extern const struct verb verb_transfer_leader;
extern const struct verb verb_token;
extern const struct verb verb_completion;
extern const struct verb verb_version;
extern const struct verb verb_help;

/* Returns the verb of that name; NULL when there is none. */
const struct verb *verbs_find(const char *name);
/* Complains that there is no such verb, with a suggestion. Returns EXIT_USAGE. */
int verbs_refuse(const char *name);
/* Prints the help of all verbs, and of one. */
void verbs_print_overview(FILE *file);
void verbs_print_help(const struct verb *verb);

/* Finds the last sequence of a channel by ListChannels. Returns 0, or an exit code after a line on
 * stderr. In verbs_messenger.c. */
int channel_find_end(struct cluster *cluster, const char *channel_id, uint64_t *out);

#endif
