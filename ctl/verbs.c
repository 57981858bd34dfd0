/* The table of verbs and the help that is made from it; help and version. */
#include "verbs.h"

#include "complain.h"
#include "suggest.h"

#include <stdio.h>
#include <string.h>

const struct verb *const verbs[VERBS_COUNT] = {
    &verb_status, &verb_channels, &verb_create, &verb_send, &verb_history,         &verb_tail,
    &verb_get,    &verb_put,      &verb_del,    &verb_keys, &verb_transfer_leader, &verb_version,
    &verb_help,
};

static const char intro[] =
    "Usage: raftogramctl [FLAG]... VERB [ARGUMENT]... [FLAG]...\n"
    "\n"
    "Talks to a raftogram cluster. Give any node's address: the leader is found by itself.\n"
    "\n";

static const char flags_help[] =
    "\n"
    "Flags, before or after the verb, with one or two dashes, -flag VALUE or -flag=VALUE:\n"
    "  -addr HOST:PORT[,...]  gRPC addresses of one or more nodes\n"
    "                         (default: $RAFTOGRAM_ADDR, else 127.0.0.1:9000)\n"
    "  -o table|json          for people (the default) or for scripts\n"
    "  -timeout 5s            for the whole command, with its retries (500ms, 5s, 2m)\n"
    "  -h, -help              this text; after a verb, that verb's\n"
    "  -version               the version\n"
    "  --                     what follows is no flag\n"
    "\n"
    "Exit codes: 0 done, 1 failed or not found, 2 wrong usage, 3 cluster unavailable.\n";

static const char examples[] =
    "\n"
    "Examples:\n"
    "  raftogramctl status\n"
    "  raftogramctl create general -name \"General\"\n"
    "  raftogramctl send general \"Hello\" -author alice\n"
    "  raftogramctl tail general\n"
    "  raftogramctl -addr 10.0.0.1:9000,10.0.0.2:9000 history general -all -o json\n"
    "\n"
    "More: raftogramctl help VERB\n";

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
    }
    return NULL;
}

int verb_refuse(const char *name)
{
    const char *names[VERBS_COUNT];
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        names[i] = verbs[i]->name;
    }
    const char *suggestion = suggest(name, names, VERBS_COUNT);
    complain("unknown verb %s%s%s%s; see raftogramctl -h", name,
             suggestion == NULL ? "" : "; did you mean ", suggestion == NULL ? "" : suggestion,
             suggestion == NULL ? "" : "?");
    return EXIT_USAGE;
}

void print_overview(FILE *file)
{
    fputs(intro, file);
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s %s", verbs[i]->name, verbs[i]->synopsis);
        fprintf(file, "  %-43s %s\n", left, verbs[i]->summary);
    }
    fputs(flags_help, file);
    fputs(examples, file);
}

void print_verb(const struct verb *verb)
{
    printf("Usage: raftogramctl %s%s%s [FLAG]...\n\n%s.\n\n%s%s", verb->name,
           verb->synopsis[0] == '\0' ? "" : " ", verb->synopsis, verb->summary, verb->help,
           flags_help);
}

static int run_help(struct cluster *cluster, const struct arguments *arguments)
{
    if (arguments->operand_count == 0) {
        print_overview(stdout);
        return EXIT_DONE;
    }
    const struct verb *verb = verb_find(arguments->operands[0]);
    if (verb == NULL) {
        return verb_refuse(arguments->operands[0]);
    }
    print_verb(verb);
    return EXIT_DONE;
}

const struct verb verb_help = {
    .name = "help",
    .synopsis = "[VERB]",
    .summary = "Explains a verb, with examples",
    .help = "Examples:\n"
            "  raftogramctl help tail\n",
    .operands_max = 1,
    .run = run_help,
};

static int run_version(struct cluster *cluster, const struct arguments *arguments)
{
    if (arguments->is_json) {
        puts("{\"version\":\"" RAFTOGRAM_VERSION "\"}");
    } else {
        puts("raftogramctl " RAFTOGRAM_VERSION);
    }
    return EXIT_DONE;
}

const struct verb verb_version = {
    .name = "version",
    .synopsis = "",
    .summary = "Prints the version of raftogramctl",
    .help = "status shows that of each node.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl version\n",
    .run = run_version,
};
