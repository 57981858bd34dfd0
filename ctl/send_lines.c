/* send -lines: sends each line of stdin as a message, in batches. */
#include "send_lines.h"

#include "base/clock.h"
#include "complain.h"
#include "field.h"
#include "input.h"
#include "output.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "json/json.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE "/raftogram.v1.Messenger/"
/* SendMessages takes 1000 messages and 1 MiB. */
#define BATCH_MESSAGES_MAX 1000
#define BATCH_BYTES_MAX (1u << 20)
#define MESSAGE_FIELDS_BYTES 32 /* tags and lengths of one message */
#define READ_BYTES 65536
#define LINE_NUMBER_BYTES_MAX 24 /* "-" and 20 digits */
#define PROGRESS_NS (NS_PER_S / 5)

/* What was read from stdin and not sent yet. */
struct lines {
    struct buf bytes;
    bool is_over; /* end of stdin */
};

struct sending {
    struct cluster *cluster;
    char *channel_id;
    char *author;
    const char *id;
    struct lines lines;
    uint64_t sent; /* lines */
    uint64_t deduplicated;
    uint64_t first_sequence;
    uint64_t last_sequence;
    bool has_progress; /* stderr is a terminal */
    uint64_t begun_ns;
    uint64_t shown_ns;
    /* One batch. */
    size_t count;
    size_t taken; /* bytes of `lines` */
    char *ids;    /* BATCH_MESSAGES_MAX of id_size */
    size_t id_size;
    Raftogram__V1__SendMessageRequest rows[BATCH_MESSAGES_MAX];
    Raftogram__V1__SendMessageRequest *list[BATCH_MESSAGES_MAX];
};

/* ---- stdin ---- */

static bool has_line(const struct lines *lines)
{
    return lines->bytes.size > 0 && memchr(lines->bytes.data, '\n', lines->bytes.size) != NULL;
}

/* Returns whether a read would not wait. */
static bool is_ready(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

/* Reads until there is enough for a batch, or a whole line and nothing more to read at once. */
static int fill(struct lines *lines)
{
    while (!lines->is_over && (lines->bytes.size < BATCH_BYTES_MAX || !has_line(lines))) {
        if (has_line(lines) && !is_ready()) {
            return 0;
        }
        char chunk[READ_BYTES];
        ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            complain("cannot read stdin: %s", strerror(errno));
            return EXIT_REFUSED;
        }
        lines->is_over = got == 0;
        buf_append(&lines->bytes, chunk, (size_t)got);
        if (buf_failed(&lines->bytes)) {
            complain("a line of stdin is larger than %d bytes, the most that a message can have",
                     INPUT_BYTES_MAX);
            return EXIT_REFUSED;
        }
    }
    return 0;
}

/* Finds the line that begins at `at`. Returns false when no whole one is there. */
static bool find_line(const struct lines *lines, size_t at, struct bytes *line, size_t *next)
{
    size_t left = lines->bytes.size - at;
    if (left == 0) {
        return false;
    }
    const uint8_t *begin = lines->bytes.data + at;
    const uint8_t *end = memchr(begin, '\n', left);
    if (end == NULL && !lines->is_over) {
        return false;
    }
    *line = (struct bytes){begin, end == NULL ? left : (size_t)(end - begin)};
    *next = at + line->size + (end != NULL);
    return true;
}

static void forget_taken(struct lines *lines, size_t taken)
{
    size_t left = lines->bytes.size - taken;
    if (left > 0) {
        memmove(lines->bytes.data, lines->bytes.data + taken, left);
    }
    buf_cut(&lines->bytes, left);
}

/* ---- one batch ---- */

static void add_message(struct sending *sending, struct bytes line)
{
    Raftogram__V1__SendMessageRequest *row = &sending->rows[sending->count];
    raftogram__v1__send_message_request__init(row);
    row->channel_id = sending->channel_id;
    row->author_id = sending->author;
    row->payload = field_of_bytes(line);
    if (sending->id[0] != '\0') {
        row->client_message_id = sending->ids + sending->count * sending->id_size;
        snprintf(row->client_message_id, sending->id_size, "%s-%" PRIu64, sending->id,
                 sending->sent + sending->count + 1);
    }
    sending->list[sending->count++] = row;
}

/* Makes a batch of the lines that are there, at least one. */
static void take_batch(struct sending *sending)
{
    size_t fields = strlen(sending->channel_id) + strlen(sending->author) + sending->id_size +
                    MESSAGE_FIELDS_BYTES;
    size_t bytes = 0;
    size_t next;
    struct bytes line;
    sending->count = 0;
    sending->taken = 0;
    while (sending->count < BATCH_MESSAGES_MAX &&
           find_line(&sending->lines, sending->taken, &line, &next)) {
        bytes += fields + line.size;
        if (sending->count > 0 && bytes > BATCH_BYTES_MAX) {
            break;
        }
        add_message(sending, line);
        sending->taken = next;
    }
}

static void note_sent(struct sending *sending, const Raftogram__V1__SendMessageResponse *response)
{
    if (sending->sent == 0) {
        sending->first_sequence = response->sequence;
    }
    sending->last_sequence = response->sequence;
    sending->deduplicated += response->deduplicated;
    sending->sent++;
}

/* A message alone may be larger than a batch. */
static int call_single(struct sending *sending, struct cluster_call *call)
{
    Raftogram__V1__SendMessageResponse *response;
    call->path = SERVICE "SendMessage";
    call->request = &sending->rows[0].base;
    call->response = &raftogram__v1__send_message_response__descriptor;
    int code = cluster_call(sending->cluster, call, (ProtobufCMessage **)&response);
    if (code == 0) {
        note_sent(sending, response);
        raftogram__v1__send_message_response__free_unpacked(response, NULL);
    }
    return code;
}

static int call_batch(struct sending *sending, struct cluster_call *call)
{
    Raftogram__V1__SendMessagesResponse *response;
    Raftogram__V1__SendMessagesRequest request = RAFTOGRAM__V1__SEND_MESSAGES_REQUEST__INIT;
    request.n_messages = sending->count;
    request.messages = sending->list;
    call->path = SERVICE "SendMessages";
    call->request = &request.base;
    call->response = &raftogram__v1__send_messages_response__descriptor;
    int code = cluster_call(sending->cluster, call, (ProtobufCMessage **)&response);
    if (code != 0) {
        return code;
    }
    if (response->n_results != sending->count) {
        complain("the answer is for another number of messages");
        code = EXIT_REFUSED;
    }
    for (size_t i = 0; i < response->n_results && code == 0; i++) {
        note_sent(sending, response->results[i]);
    }
    raftogram__v1__send_messages_response__free_unpacked(response, NULL);
    return code;
}

static int send_batch(struct sending *sending)
{
    take_batch(sending);
    if (sending->count == 0) {
        return 0;
    }
    struct cluster_call call = {
        .kind = sending->id[0] == '\0' ? CALL_ONCE : CALL_REPEATABLE,
        .what = "channel",
        .name = sending->channel_id,
        .first_line = sending->sent + 1,
        .last_line = sending->sent + sending->count,
    };
    int code = sending->count == 1 ? call_single(sending, &call) : call_batch(sending, &call);
    forget_taken(&sending->lines, sending->taken);
    return code;
}

/* ---- what is shown ---- */

static void show_progress(struct sending *sending, bool is_over)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    if (!sending->has_progress || (!is_over && now_ns - sending->shown_ns < PROGRESS_NS)) {
        return;
    }
    sending->shown_ns = now_ns;
    double seconds = (double)(now_ns - sending->begun_ns) / (double)NS_PER_S;
    if (is_over) {
        fputs("\r\033[K", stderr);
    } else {
        fprintf(stderr, "\r\033[K%" PRIu64 " messages, %.0f a second", sending->sent,
                seconds > 0 ? (double)sending->sent / seconds : 0);
    }
    fflush(stderr);
}

static void print_summary(const struct sending *sending)
{
    static const char *const headers[] = {"CHANNEL", "MESSAGES", "DEDUPLICATED",
                                          "FIRST",   "LAST",     "ID"};
    struct table table = {.headers = headers, .columns = 6};
    table_add_text(&table, sending->channel_id);
    table_add_number(&table, sending->sent);
    table_add_number(&table, sending->deduplicated);
    table_add_number(&table, sending->first_sequence);
    table_add_number(&table, sending->last_sequence);
    table_add_text(&table, sending->id);
    table_print(&table);
    table_finish(&table);
}

static void print_summary_json(const struct sending *sending)
{
    struct buf text = {0};
    buf_append_text(&text, "{\"channelId\":");
    json_append_string(&text, bytes_of_text(sending->channel_id));
    buf_append_text(&text, ",\"id\":");
    json_append_string(&text, bytes_of_text(sending->id));
    buf_printf(&text,
               ",\"messages\":\"%" PRIu64 "\",\"deduplicated\":\"%" PRIu64
               "\",\"firstSequence\":\"%" PRIu64 "\",\"lastSequence\":\"%" PRIu64 "\"}\n",
               sending->sent, sending->deduplicated, sending->first_sequence,
               sending->last_sequence);
    output_json_text(buf_text(&text));
    buf_finish(&text);
}

/* Tells how far it came, and how to go on. */
static void complain_of_rest(const struct sending *sending)
{
    complain("%" PRIu64 " lines are stored", sending->sent);
    if (sending->id[0] != '\0') {
        complain("to go on without doubling any, send the same input again with -id %s",
                 sending->id);
    }
}

/* ---- the whole ---- */

static int send_all(struct sending *sending)
{
    int code = 0;
    while (code == 0 && (!sending->lines.is_over || sending->lines.bytes.size > 0)) {
        code = fill(&sending->lines);
        if (code == 0) {
            code = send_batch(sending);
        }
        show_progress(sending, false);
    }
    show_progress(sending, true);
    return code;
}

int send_lines(struct cluster *cluster, const struct arguments *arguments, const char *author,
               const char *id)
{
    struct sending *sending = calloc(1, sizeof(*sending));
    size_t id_size = strlen(id) + LINE_NUMBER_BYTES_MAX;
    char *ids = malloc(BATCH_MESSAGES_MAX * id_size);
    if (sending == NULL || ids == NULL) {
        complain("out of memory");
        free(sending);
        free(ids);
        return EXIT_REFUSED;
    }
    sending->cluster = cluster;
    sending->channel_id = arguments->operands[0];
    sending->author = field_of_text(author);
    sending->id = id;
    sending->ids = ids;
    sending->id_size = id_size;
    sending->has_progress = isatty(STDERR_FILENO) == 1;
    sending->begun_ns = clock_monotonic_ns(clock_system());
    buf_init(&sending->lines.bytes, INPUT_BYTES_MAX + READ_BYTES);
    int code = send_all(sending);
    if (code != 0) {
        complain_of_rest(sending);
    } else if (arguments->is_json) {
        print_summary_json(sending);
    } else {
        print_summary(sending);
    }
    buf_finish(&sending->lines.bytes);
    free(ids);
    free(sending);
    return code;
}
