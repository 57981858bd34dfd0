/* Reads the command line. Flags come before or after the verb and its operands, with one or two
 * dashes. A value follows after a space or an equals sign. */
#include "arguments.h"

#include "base/address.h"
#include "base/check.h"
#include "complain.h"
#include "flags.h"
#include "suggest.h"
#include "verbs.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_DEFAULT "127.0.0.1:9000"
#define ADDRESS_VARIABLE "RAFTOGRAM_ADDR"
#define TIMEOUT_MS_MAX ((uint64_t)24 * 60 * 60 * 1000)
#define TTL_MS_MAX (366 * TIMEOUT_MS_MAX)

/* What getopt_long_only() returns: its own for what is no flag, else FLAG_FIRST + enum flag_id. */
enum {
    FLAG_OPERAND = 1,
    FLAG_FIRST = 256,
};
#define FLAG_NAMES_MAX (2 * FLAGS_COUNT)

static int usage_error(const struct arguments *arguments, const char *text, const char *value)
{
    const char *verb = arguments->verb == NULL ? "" : arguments->verb->name;
    complain("%s%s; see raftogramctl %s%s-h", text, value, verb, verb[0] == '\0' ? "" : " ");
    return EXIT_USAGE;
}

/* ---- values ---- */

/* Reads a number of decimal digits only, at most `max`. */
static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(*text - '0');
        if (value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

/* Reads a duration as the daemon's configuration has it: 150ms, 2s, 5m; at most `max` ms. */
static bool read_duration_ms(const char *text, uint64_t max, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};
    char digits[16];
    size_t count = strspn(text, "0123456789");
    if (count == 0 || count >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, text, count);
    digits[count] = '\0';
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        uint64_t value;
        if (strcmp(text + count, units[i].name) == 0 &&
            read_number(digits, max / units[i].ms, &value) && value > 0) {
            *out = value * units[i].ms;
            return true;
        }
    }
    return false;
}

static int read_output(struct arguments *arguments, const char *value)
{
    arguments->is_json = strcmp(value, "json") == 0;
    if (!arguments->is_json && strcmp(value, "table") != 0) {
        return usage_error(arguments, "-o is table or json, not ", value);
    }
    return 0;
}

static int read_count(struct arguments *arguments, const char *value, const char *error,
                      uint32_t *out)
{
    uint64_t count;
    if (!read_number(value, UINT32_MAX, &count) || count == 0) {
        return usage_error(arguments, error, value);
    }
    *out = (uint32_t)count;
    return 0;
}

/* ---- flags ---- */

/* Takes a flag that not every verb takes. */
static int take_option(struct arguments *arguments, enum flag_id id, const char *value)
{
    arguments->options |= flags[id].option;
    switch (id) {
    case FLAG_AUTHOR:
        arguments->author = value;
        return 0;
    case FLAG_ID:
        arguments->id = value;
        return 0;
    case FLAG_NAME:
        arguments->name = value;
        return 0;
    case FLAG_PREFIX:
        arguments->prefix = value;
        return 0;
    case FLAG_KEY:
        arguments->key = value;
        return 0;
    case FLAG_ROLES:
        arguments->roles = value;
        return 0;
    case FLAG_AUD:
        arguments->audience = value;
        return 0;
    case FLAG_ISS:
        arguments->issuer = value;
        return 0;
    case FLAG_KID:
        arguments->kid = value;
        return 0;
    case FLAG_TTL:
        return read_duration_ms(value, TTL_MS_MAX, &arguments->ttl_ms)
                   ? 0
                   : usage_error(arguments, "-ttl is like 15m, 1h or 24h (366 days at most), not ",
                                 value);
    case FLAG_AFTER:
        return read_number(value, UINT64_MAX, &arguments->after)
                   ? 0
                   : usage_error(arguments, "-after is a sequence number, not ", value);
    case FLAG_LIMIT:
        return read_count(arguments, value, "-limit is a number from 1, not ", &arguments->limit);
    case FLAG_LAST:
        return read_count(arguments, value, "-last is a number from 1, not ", &arguments->last);
    case FLAG_ALL:
        arguments->is_all = true;
        return 0;
    case FLAG_LIVE:
        arguments->is_live = true;
        return 0;
    default:
        CHECK(id == FLAG_WATCH || id == FLAG_LINES);
        return 0;
    }
}

static int take_flag(struct arguments *arguments, enum flag_id id, char *value)
{
    switch (id) {
    case FLAG_ADDR:
        arguments->address_text = value;
        return 0;
    case FLAG_OUTPUT:
        return read_output(arguments, value);
    case FLAG_TIMEOUT:
        arguments->has_timeout = true;
        return read_duration_ms(value, TIMEOUT_MS_MAX, &arguments->timeout_ms)
                   ? 0
                   : usage_error(arguments, "-timeout is like 500ms, 5s or 2m (24h at most), not ",
                                 value);
    case FLAG_HELP:
        arguments->is_help = true;
        return 0;
    case FLAG_VERSION:
        arguments->is_version = true;
        return 0;
    default:
        return take_option(arguments, id, value);
    }
}

/* Lists the flags for getopt, with their aliases, ended by a row without a name. */
static void list_names(struct option out[FLAG_NAMES_MAX + 1])
{
    size_t count = 0;
    for (size_t i = 0; i < FLAGS_COUNT; i++) {
        const struct flag *flag = &flags[i];
        struct option option = {
            .name = flag->name,
            .has_arg = flag->value != NULL ? required_argument : no_argument,
            .val = FLAG_FIRST + (int)i,
        };
        out[count++] = option;
        if (flag->alias != NULL) {
            option.name = flag->alias;
            out[count++] = option;
        }
    }
    out[count] = (struct option){0};
}

/* `suggestion` may be NULL. */
static void complain_of_flag(const struct arguments *arguments, const char *word,
                             const char *reason, const char *suggestion)
{
    const char *verb = arguments->verb == NULL ? "" : arguments->verb->name;
    complain("%s%s%s%s%s; see raftogramctl %s%s-h", reason, word,
             suggestion == NULL ? "" : "; did you mean -", suggestion == NULL ? "" : suggestion,
             suggestion == NULL ? "" : "?", verb, verb[0] == '\0' ? "" : " ");
}

/* getopt reports an unknown flag, an ambiguous one, and a value too many in the same way. */
static int refuse_flag(const struct arguments *arguments, const struct option *options,
                       const char *word)
{
    const char *names[FLAG_NAMES_MAX];
    char name[SUGGEST_BYTES_MAX + 1] = "";
    const char *start = word + strspn(word, "-");
    size_t size = strcspn(start, "=");
    bool is_known = false;
    size_t beginnings = 0;
    size_t count = 0;
    for (; options[count].name != NULL; count++) {
        bool is_beginning = size > 0 && strncmp(options[count].name, start, size) == 0;
        names[count] = options[count].name;
        beginnings += is_beginning;
        is_known = is_known || (is_beginning && options[count].name[size] == '\0');
    }
    if (is_known) {
        complain_of_flag(arguments, word, "that flag takes no value: ", NULL);
    } else if (beginnings > 1) {
        complain_of_flag(arguments, word, "ambiguous flag ", NULL);
    } else {
        if (size <= SUGGEST_BYTES_MAX) {
            memcpy(name, start, size);
        }
        complain_of_flag(arguments, word, "unknown flag ",
                         size == 0 ? NULL : suggest(name, names, count));
    }
    return EXIT_USAGE;
}

/* ---- operands and addresses ---- */

static int take_operand(struct arguments *arguments, char *word)
{
    if (arguments->verb == NULL) {
        arguments->verb = verbs_find(word);
        return arguments->verb != NULL ? 0 : verbs_refuse(word);
    }
    if (arguments->operand_count == ARGUMENTS_OPERANDS_MAX) {
        return usage_error(arguments, "unexpected argument ", word);
    }
    arguments->operands[arguments->operand_count++] = word;
    return 0;
}

/* `source` names where the address came from. */
static int refuse_address(const char *source, const char *address, const char *reason)
{
    if (strstr(address, "://") != NULL) {
        complain("%s: \"%s\" is a URL; raftogramctl speaks gRPC: give HOST:PORT without a scheme, "
                 "with the gRPC port (grpc_bind_addr), such as %s, not the HTTP port",
                 source, address, ADDRESS_DEFAULT);
    } else {
        complain("%s: \"%s\" %s", source, address, reason);
    }
    return EXIT_USAGE;
}

/* Splits a list such as "a:1,b:2" into a copy that `arguments` owns. */
static int take_addresses(struct arguments *arguments, const char *source, const char *text)
{
    arguments->address_text = strdup(text);
    if (arguments->address_text == NULL) {
        complain("out of memory");
        return EXIT_REFUSED;
    }
    char *rest = arguments->address_text;
    while (rest != NULL) {
        char *address = strsep(&rest, ",");
        address += strspn(address, " ");
        address[strcspn(address, " ")] = '\0';
        struct address parsed;
        const char *reason;
        if (address_split(address, &parsed, &reason) != 0) {
            return refuse_address(source, address, reason);
        }
        if (arguments->address_count == CLUSTER_ADDRESSES_MAX) {
            complain("%s: more than %d addresses", source, CLUSTER_ADDRESSES_MAX);
            return EXIT_USAGE;
        }
        arguments->addresses[arguments->address_count++] = address;
    }
    return 0;
}

static int check_exclusive(const struct arguments *arguments)
{
    const struct verb *verb = arguments->verb;
    for (const unsigned *pair = verb->exclusive; *pair != 0; pair++) {
        unsigned given = arguments->options & *pair;
        if (given == *pair) {
            const struct flag *first = flag_of_options(given);
            complain("-%s and -%s exclude each other; see raftogramctl %s -h", first->name,
                     flag_of_options(given & ~first->option)->name, verb->name);
            return EXIT_USAGE;
        }
    }
    return 0;
}

static int check(const struct arguments *arguments)
{
    const struct verb *verb = arguments->verb;
    if (verb == NULL) {
        return usage_error(arguments, "a verb is missing", "");
    }
    unsigned excess = arguments->options & ~verb->options;
    if (excess != 0) {
        complain("%s does not take -%s; see raftogramctl %s -h", verb->name,
                 flag_of_options(excess)->name, verb->name);
        return EXIT_USAGE;
    }
    if (arguments->operand_count < verb->operands_min) {
        complain("%s wants %s; see raftogramctl %s -h", verb->name, verb->synopsis, verb->name);
        return EXIT_USAGE;
    }
    if (arguments->operand_count > verb->operands_max) {
        return usage_error(arguments, "unexpected argument ",
                           arguments->operands[verb->operands_max]);
    }
    if (verb->is_of_channel && arguments->operand_count > 0 && arguments->operands[0][0] == '\0') {
        return usage_error(arguments, "the channel's id is empty", "");
    }
    return check_exclusive(arguments);
}

/* Takes what getopt found in `word`. */
static int take_word(struct arguments *arguments, int flag, const struct option *options,
                     const char *word)
{
    switch (flag) {
    case FLAG_OPERAND:
        return take_operand(arguments, optarg);
    case ':':
        return usage_error(arguments, "a value is missing after ", word);
    case '?':
        return refuse_flag(arguments, options, word);
    default:
        return take_flag(arguments, (enum flag_id)(flag - FLAG_FIRST), optarg);
    }
}

/* Reads all words. Flags and operands come in any order, also with POSIXLY_CORRECT. */
static int read_words(int argc, char **argv, struct arguments *out)
{
    struct option options[FLAG_NAMES_MAX + 1];
    list_names(options);
    opterr = 0;
    for (;;) {
        const char *word = optind < argc ? argv[optind] : "";
        int flag = getopt_long_only(argc, argv, "-:", options, NULL);
        if (flag == -1) {
            break;
        }
        int code = take_word(out, flag, options, word);
        if (code != 0) {
            return code;
        }
    }
    /* After "--" every word is an operand. */
    for (; optind < argc; optind++) {
        int code = take_operand(out, argv[optind]);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

int arguments_parse(int argc, char **argv, struct arguments *out)
{
    *out = (struct arguments){.timeout_ms = ARGUMENTS_TIMEOUT_MS_DEFAULT};
    int code = read_words(argc, argv, out);
    const char *text = out->address_text;
    out->address_text = NULL; /* take_addresses() puts its own copy here */
    if (code != 0 || out->is_help || out->is_version) {
        return code;
    }
    code = check(out);
    if (code != 0) {
        return code;
    }
    const char *source = "-addr";
    if (text == NULL) {
        text = getenv(ADDRESS_VARIABLE);
        source = "$" ADDRESS_VARIABLE;
    }
    return take_addresses(out, source, text != NULL && text[0] != '\0' ? text : ADDRESS_DEFAULT);
}

void arguments_finish(struct arguments *arguments)
{
    free(arguments->address_text);
}
