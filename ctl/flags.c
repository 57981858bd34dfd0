/* The rows of the table of flags. */
#include "flags.h"

#include "base/check.h"

#include <stdbool.h>

const struct flag flags[FLAGS_COUNT] = {
    [FLAG_ADDR] = {.name = "addr",
                   .value = "HOST:PORT[,...]",
                   .summary = "gRPC addresses of one or more nodes",
                   .note = "(default: $RAFTOGRAM_ADDR, else 127.0.0.1:9000)"},
    [FLAG_OUTPUT] = {.name = "o",
                     .alias = "output",
                     .value = "table|json",
                     .summary = "output for people (table, the default) or for scripts (json)"},
    [FLAG_TIMEOUT] = {.name = "timeout",
                      .value = "DURATION",
                      .summary = "limit for the whole command with its retries",
                      .note = "(500ms, 5s, 2m; default 5s)"},
    [FLAG_HELP] = {.name = "h", .alias = "help", .summary = "this text; after a verb, its help"},
    [FLAG_VERSION] = {.name = "version", .summary = "the version"},
    [FLAG_AUTHOR] = {.name = "author",
                     .value = "A",
                     .summary = "author of the message",
                     .option = OPTION_AUTHOR},
    [FLAG_ID] = {.name = "id",
                 .value = "ID",
                 .summary = "client message id, stored once per channel",
                 .option = OPTION_ID},
    [FLAG_NAME] = {.name = "name",
                   .value = "NAME",
                   .summary = "display name of the channel",
                   .option = OPTION_NAME},
    [FLAG_AFTER] = {.name = "after",
                    .value = "N",
                    .summary = "only messages with a sequence over N",
                    .option = OPTION_AFTER},
    [FLAG_LIMIT] = {.name = "limit", .value = "N", .summary = "at most N", .option = OPTION_LIMIT},
    [FLAG_ALL] = {.name = "all", .summary = "all messages", .option = OPTION_ALL},
    [FLAG_LIVE] = {.name = "live", .summary = "only new messages", .option = OPTION_LIVE},
    [FLAG_PREFIX] = {.name = "prefix",
                     .value = "P",
                     .summary = "only those that begin with P",
                     .option = OPTION_PREFIX},
    [FLAG_LAST] = {.name = "last", .value = "N", .summary = "the newest N", .option = OPTION_LAST},
    [FLAG_WATCH] = {.name = "watch",
                    .summary = "once a second, until Ctrl-C",
                    .option = OPTION_WATCH},
    [FLAG_LINES] = {.name = "lines",
                    .summary = "each line of stdin is a message",
                    .option = OPTION_LINES},
    [FLAG_KEY] = {.name = "key",
                  .value = "FILE",
                  .summary = "PEM file of the key",
                  .option = OPTION_KEY},
    [FLAG_ROLES] = {.name = "roles",
                    .value = "R[,...]",
                    .summary = "roles of the subject",
                    .option = OPTION_ROLES},
    [FLAG_AUD] = {.name = "aud",
                  .value = "A",
                  .summary = "audience of the token",
                  .option = OPTION_AUD},
    [FLAG_ISS] = {.name = "iss",
                  .value = "I",
                  .summary = "issuer of the token",
                  .option = OPTION_ISS},
    [FLAG_KID] = {.name = "kid", .value = "K", .summary = "id of the key", .option = OPTION_KID},
    [FLAG_TTL] = {.name = "ttl",
                  .value = "DURATION",
                  .summary = "lifetime of the token",
                  .option = OPTION_TTL},
};

const struct flag *flag_of_options(unsigned options)
{
    unsigned lowest = options & (0U - options);
    for (size_t i = 0; i < FLAGS_COUNT; i++) {
        if (flags[i].option != 0 && flags[i].option == lowest) {
            return &flags[i];
        }
    }
    CHECK(false);
    return NULL;
}
