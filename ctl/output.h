/* Prints the results of verbs on stdout: tables for people, JSON for scripts. */
#ifndef RAFTOGRAM_CTL_OUTPUT_H
#define RAFTOGRAM_CTL_OUTPUT_H

#include "base/buf.h"
#include "raftogram/v1/messaging.pb-c.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#define TABLE_COLUMNS_MAX 16

/* Collects rows until table_print(). Later batches are never narrower, so that all pages of one
 * listing fit one header. Zeroed memory with `headers` and `columns` set is a valid empty table. */
struct table {
    const char *const *headers;
    size_t columns;
    size_t widths[TABLE_COLUMNS_MAX];
    bool is_header_printed;
    size_t cells;
    struct buf text; /* the cells, each ended by NUL */
};

void table_add(struct table *table, struct bytes text);
void table_add_text(struct table *table, const char *text);
void table_add_number(struct table *table, uint64_t value);
/* Prints the rows so far, after the header at the first call. Without memory it complains and
 * prints nothing. */
void table_print(struct table *table);
void table_finish(struct table *table);

/* Prints a JSON text, or a part of one, with control characters beyond ASCII escaped: the same
 * JSON, fit for a terminal. */
void output_json_text(const char *text);
/* Prints a message as JSON on one line. `before` is JSON text of members that come first, and ends
 * with a comma. It may be NULL. */
void output_json(const ProtobufCMessage *message, const char *before);

/* Prints messages for history and tail, as a table or as JSON. */
struct message_output {
    bool is_json;
    struct table table;
};

void message_output_init(struct message_output *output, bool is_json);
void message_output_print(struct message_output *output, Raftogram__V1__StoredMessage **messages,
                          size_t count);
void message_output_finish(struct message_output *output);

#endif
