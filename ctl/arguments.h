/* The command line, read into one structure. */
#ifndef RAFTOGRAM_CTL_ARGUMENTS_H
#define RAFTOGRAM_CTL_ARGUMENTS_H

#include "cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARGUMENTS_TIMEOUT_MS_DEFAULT 5000
#define ARGUMENTS_OPERANDS_MAX 4

struct verb;

/* All pointers are into argv and the environment, except `addresses` and `address_text`. */
struct arguments {
    const struct verb *verb; /* NULL: none was given, as with -h alone */
    bool is_help;
    bool is_version;
    char *operands[ARGUMENTS_OPERANDS_MAX];
    size_t operand_count;
    unsigned options; /* the OPTION_* (flags.h) that were given */
    char *address_text;
    char *addresses[CLUSTER_ADDRESSES_MAX];
    size_t address_count;
    bool is_json;
    bool has_timeout;
    uint64_t timeout_ms;
    const char *author;   /* NULL: not given */
    const char *id;       /* NULL: not given */
    const char *name;     /* NULL: not given */
    const char *prefix;   /* NULL: not given */
    const char *key;      /* a path; NULL: not given */
    const char *roles;    /* with commas between them; NULL: not given */
    const char *audience; /* NULL: not given */
    const char *issuer;   /* NULL: not given */
    const char *kid;      /* NULL: not given */
    uint64_t ttl_ms;      /* 0: not given */
    uint64_t after;
    uint32_t limit; /* 0: not given */
    uint32_t last;  /* 0: not given */
    bool is_all;
    bool is_live;
};

/* Returns 0, or EXIT_USAGE (EXIT_REFUSED without memory) after a line on stderr. Finish `out` in
 * every case. */
int arguments_parse(int argc, char **argv, struct arguments *out);
void arguments_finish(struct arguments *arguments);

#endif
