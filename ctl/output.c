/* Prints results as tables and as JSON. */
#include "output.h"

#include "base/check.h"
#include "base/text.h"
#include "complain.h"
#include "text.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- tables ---- */

void table_add(struct table *table, struct bytes text)
{
    size_t start = table->text.size;
    text_append_printable(&table->text, text);
    buf_append_byte(&table->text, 0);
    if (buf_failed(&table->text)) {
        return;
    }
    size_t column = table->cells % table->columns;
    size_t width = text_width((const char *)table->text.data + start);
    if (width > table->widths[column]) {
        table->widths[column] = width;
    }
    table->cells++;
}

void table_add_text(struct table *table, const char *text)
{
    table_add(table, bytes_of_text(text));
}

void table_add_number(struct table *table, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    table_add_text(table, text);
}

static void print_cell(const struct table *table, size_t column, const char *text)
{
    bool is_last = column == table->columns - 1;
    fputs(text, stdout);
    if (is_last) {
        putchar('\n');
        return;
    }
    for (size_t width = text_width(text); width < table->widths[column] + 2; width++) {
        putchar(' ');
    }
}

static void print_header(struct table *table)
{
    for (size_t i = 0; i < table->columns; i++) {
        size_t width = strlen(table->headers[i]);
        if (width > table->widths[i]) {
            table->widths[i] = width;
        }
    }
    for (size_t i = 0; i < table->columns; i++) {
        print_cell(table, i, table->headers[i]);
    }
    table->is_header_printed = true;
}

void table_print(struct table *table)
{
    CHECK(table->columns > 0);
    CHECK(table->columns <= TABLE_COLUMNS_MAX);
    if (buf_failed(&table->text)) {
        complain("out of memory for the table");
        return;
    }
    CHECK(table->cells % table->columns == 0);
    if (!table->is_header_printed) {
        print_header(table);
    }
    const char *cell = (const char *)table->text.data;
    for (size_t i = 0; i < table->cells; i++) {
        print_cell(table, i % table->columns, cell);
        cell += strlen(cell) + 1;
    }
    table->cells = 0;
    buf_reset(&table->text);
}

void table_finish(struct table *table)
{
    buf_finish(&table->text);
}

/* ---- JSON ---- */

void output_json_text(const char *text)
{
    size_t left = strlen(text);
    size_t plain = 0;
    while (plain < left) {
        size_t size = bytes_utf8_character((struct bytes){text + plain, left - plain});
        CHECK(size > 0);
        uint32_t point = text_code_point((struct bytes){text + plain, size});
        plain += size;
        /* JSON has such characters in strings only. C0 is escaped in them already. */
        if (point >= 0x7f && text_is_control(point)) {
            fwrite(text, 1, plain - size, stdout);
            printf("\\u%04x", point);
            text += plain;
            left -= plain;
            plain = 0;
        }
    }
    fwrite(text, 1, plain, stdout);
}

void output_json(const ProtobufCMessage *message, const char *before)
{
    struct buf text = {0};
    json_encode(message, JSON_NAMES_CAMEL, &text);
    if (buf_failed(&text)) {
        complain("out of memory for the answer");
    } else if (before == NULL) {
        output_json_text(buf_text(&text));
        putchar('\n');
    } else {
        /* Every message printed here has fields, so that text follows the comma. */
        putchar('{');
        output_json_text(before);
        output_json_text(buf_text(&text) + 1);
        putchar('\n');
    }
    buf_finish(&text);
}

/* ---- messages ---- */

static const char *const message_headers[] = {"SEQUENCE", "TIME", "AUTHOR", "MESSAGE"};

void message_output_init(struct message_output *output, bool is_json)
{
    *output = (struct message_output){
        .is_json = is_json,
        .table = {.headers = message_headers, .columns = 4},
    };
}

/* Formats a time in UTC, as the daemon's logs do. */
static void format_time(int64_t unix_ms, char *out, size_t size)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    if (unix_ms < 0 || gmtime_r(&seconds, &tm) == NULL) {
        snprintf(out, size, "%lld ms", (long long)unix_ms);
        return;
    }
    char date[32];
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, size, "%s.%03dZ", date, (int)(unix_ms % 1000));
}

static void add_message(struct table *table, const Raftogram__V1__StoredMessage *message)
{
    char text[64];
    format_time(message->timestamp_unix_ms, text, sizeof(text));
    table_add_number(table, message->sequence);
    table_add_text(table, text);
    table_add_text(table, message->author_id);
    table_add(table, (struct bytes){message->payload.data, message->payload.len});
}

void message_output_print(struct message_output *output, Raftogram__V1__StoredMessage **messages,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (output->is_json) {
            output_json(&messages[i]->base, NULL);
        } else {
            add_message(&output->table, messages[i]);
        }
    }
    if (!output->is_json) {
        table_print(&output->table);
    }
}

void message_output_finish(struct message_output *output)
{
    table_finish(&output->table);
}
