/* The table of verbs, the help that is made from it, and the verbs that need no cluster. */
#include "verbs.h"

#include "complain.h"
#include "completion.h"
#include "suggest.h"

#include <string.h>

/* In the order in which help lists them. */
static const struct verb *const verbs[] = {
    &verb_status,     &verb_channels, &verb_create, &verb_send, &verb_history,         &verb_tail,
    &verb_get,        &verb_put,      &verb_del,    &verb_keys, &verb_transfer_leader, &verb_token,
    &verb_completion, &verb_version,  &verb_help,
};
#define VERBS_COUNT (sizeof(verbs) / sizeof(verbs[0]))

const struct verb *verbs_find(const char *name)
{
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
    }
    return NULL;
}

int verbs_refuse(const char *name)
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

/* ---- help ---- */

#define VERB_COLUMN_WIDTH 46
#define FLAG_COLUMN_WIDTH 23

static const char intro[] =
    "Usage: raftogramctl [FLAG]... VERB [ARGUMENT]... [FLAG]...\n"
    "\n"
    "Calls a raftogram cluster. Give the address of any node: raftogramctl finds the leader.\n"
    "\n";

static const char exit_codes[] =
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

static void print_flag(const struct flag *flag, FILE *file)
{
    char left[64];
    snprintf(left, sizeof(left), "-%s%s%s%s%s", flag->name, flag->alias == NULL ? "" : ", -",
             flag->alias == NULL ? "" : flag->alias, flag->value == NULL ? "" : " ",
             flag->value == NULL ? "" : flag->value);
    fprintf(file, "  %-*s %s\n", FLAG_COLUMN_WIDTH, left, flag->summary);
    if (flag->note != NULL) {
        fprintf(file, "  %-*s %s\n", FLAG_COLUMN_WIDTH, "", flag->note);
    }
}

/* Prints the flags that every verb takes. */
static void print_flags(FILE *file)
{
    fputs(
        "\nFlags, before or after the verb, with one or two dashes, -flag VALUE or -flag=VALUE:\n",
        file);
    for (size_t i = 0; i < FLAGS_COUNT; i++) {
        if (flags[i].option == 0) {
            print_flag(&flags[i], file);
        }
    }
    fprintf(file, "  %-*s %s\n", FLAG_COLUMN_WIDTH, "--", "ends the flags");
    fputs(exit_codes, file);
}

void verbs_print_overview(FILE *file)
{
    fputs(intro, file);
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        int width = fprintf(file, "  %s %s", verbs[i]->name, verbs[i]->synopsis);
        if (width > VERB_COLUMN_WIDTH) {
            putc('\n', file);
            width = 0;
        }
        fprintf(file, "%*s%s\n", VERB_COLUMN_WIDTH - width, "", verbs[i]->summary);
    }
    print_flags(file);
    fputs(examples, file);
}

void verbs_print_help(const struct verb *verb)
{
    printf("Usage: raftogramctl %s%s%s [FLAG]...\n\n%s.\n\n%s", verb->name,
           verb->synopsis[0] == '\0' ? "" : " ", verb->synopsis, verb->summary, verb->help);
    print_flags(stdout);
}

static int run_help(struct cluster *cluster, const struct arguments *arguments)
{
    if (arguments->operand_count == 0) {
        verbs_print_overview(stdout);
        return EXIT_DONE;
    }
    const struct verb *verb = verbs_find(arguments->operands[0]);
    if (verb == NULL) {
        return verbs_refuse(arguments->operands[0]);
    }
    verbs_print_help(verb);
    return EXIT_DONE;
}

const struct verb verb_help = {
    .name = "help",
    .synopsis = "[VERB]",
    .summary = "Explains a verb, with examples",
    .help = "Examples:\n"
            "  raftogramctl help tail\n",
    .operands_max = 1,
    .is_local = true,
    .first_operand = "verb",
    .run = run_help,
};

/* ---- completion ---- */

static int run_completion(struct cluster *cluster, const struct arguments *arguments)
{
    const char *shell = arguments->operands[0];
    if (!completion_print(shell, verbs, VERBS_COUNT)) {
        complain(
            "no completion for the shell \"%s\", only for bash, zsh and fish; see raftogramctl "
            "completion -h",
            shell);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

const struct verb verb_completion = {
    .name = "completion",
    .synopsis = "bash|zsh|fish",
    .summary = "Prints the completion script for a shell",
    .help = "It completes verbs, flags, channels, keys and nodes. It asks the cluster of -addr or\n"
            "$RAFTOGRAM_ADDR for them, within one second.\n"
            "\n"
            "Examples:\n"
            "  source <(raftogramctl completion bash)\n"
            "  raftogramctl completion zsh > ~/.zfunc/_raftogramctl\n"
            "  raftogramctl completion fish | source\n",
    .operands_min = 1,
    .operands_max = 1,
    .is_local = true,
    .first_operand = "bash|zsh|fish",
    .run = run_completion,
};

/* ---- version ---- */

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
    .help = "The verb status shows the version of each node.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl version\n",
    .is_local = true,
    .run = run_version,
};
