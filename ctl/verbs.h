/* What main.c, arguments.c and the verbs share: the verbs' descriptions and their arguments. */
#ifndef RAFTOGRAM_CTL_VERBS_H
#define RAFTOGRAM_CTL_VERBS_H

#include "cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1, /* failed or not found */
    EXIT_USAGE = 2,
    EXIT_UNAVAILABLE = 3, /* the cluster gave no answer */
};

/* The options that not every verb takes. */
enum {
    OPTION_AUTHOR = 1 << 0,
    OPTION_ID = 1 << 1,
    OPTION_NAME = 1 << 2,
    OPTION_AFTER = 1 << 3,
    OPTION_LIMIT = 1 << 4,
    OPTION_ALL = 1 << 5,
    OPTION_LIVE = 1 << 6,
    OPTION_PREFIX = 1 << 7,
    OPTION_LAST = 1 << 8,
    OPTION_WATCH = 1 << 9,
};

#define ARGUMENTS_TIMEOUT_MS_DEFAULT 5000
#define ARGUMENTS_OPERANDS_MAX 4

struct verb;

/* All pointers are into argv and the environment, but for `addresses`. */
struct arguments {
    const struct verb *verb; /* NULL: none was given, as with -h alone */
    bool is_help;
    bool is_version;
    char *operands[ARGUMENTS_OPERANDS_MAX];
    size_t operand_count;
    unsigned options; /* OPTION_* that were given */
    char *address_text;
    char *addresses[CLUSTER_ADDRESSES_MAX];
    size_t address_count;
    bool is_json;
    bool has_timeout;
    uint64_t timeout_ms;
    const char *author;
    const char *id; /* NULL: not given */
    const char *name;
    const char *prefix;
    uint64_t after;
    uint32_t limit; /* 0: not given */
    uint32_t last;  /* 0: not given */
    bool is_all;
    bool is_live;
};

/* Returns 0, or EXIT_USAGE (EXIT_REFUSED without memory) after a line on stderr. In both cases
 * finish it. */
int arguments_parse(int argc, char **argv, struct arguments *out);
void arguments_finish(struct arguments *arguments);

struct verb {
    const char *name;
    const char *synopsis; /* what follows the name */
    const char *summary;  /* one line */
    const char *help;     /* what its options are, and examples */
    size_t operands_min;
    size_t operands_max;
    unsigned options; /* OPTION_* that it takes */
    /* Pairs of them that contradict each other, ended by 0. */
    unsigned exclusive[6];
    /* Its first operand is a channel, which may be left out but not be empty. */
    bool is_of_channel;
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
extern const struct verb verb_version;
extern const struct verb verb_help;

#define VERBS_COUNT 13
/* In the order in which help lists them. */
extern const struct verb *const verbs[VERBS_COUNT];
const struct verb *verb_find(const char *name);
/* The help: of all verbs, and of one. */
void print_overview(FILE *file);
void print_verb(const struct verb *verb);
/* Says that there is no such verb, and which may be meant. Returns EXIT_USAGE. */
int verb_refuse(const char *name);
/* The last sequence of a channel, by ListChannels. Returns 0, or an exit code after a line on
 * stderr.
 */
int channel_find_end(struct cluster *cluster, const char *channel_id, uint64_t *out);

#endif
