/* PeerBatch and what is in it, written and read in place. */
#include "peer/wire.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "base/protobuf.h"

#include <string.h>

/* ---- protobuf's encoding ---- */

/* A field's tag. All field numbers here are below 16, so that a tag is one byte. */
#define VARINT(number) PROTOBUF_TAG(number, PROTOBUF_VARINT)
#define FIXED64(number) PROTOBUF_TAG(number, PROTOBUF_FIXED64)
#define BYTES(number) PROTOBUF_TAG(number, PROTOBUF_BYTES)

#define CHECKSUM_TAG FIXED64(12)

static size_t varint_size(uint64_t value)
{
    /* One byte per seven bits, and one for zero. */
    return (size_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

static uint8_t *put_bytes(uint8_t *out, struct bytes bytes)
{
    out = put_varint(out, bytes.size);
    if (bytes.size > 0) {
        memcpy(out, bytes.data, bytes.size);
    }
    return out + bytes.size;
}

static uint8_t *put_fixed64(uint8_t *out, uint8_t tag, uint64_t value)
{
    *out++ = tag;
    store_u64(out, value);
    return out + sizeof(value);
}

/* As protobuf_read_field(), but refuses field numbers that protobuf does not allow. */
static int read_field(struct bytes_reader *reader, struct protobuf_field *field)
{
    int rc = protobuf_read_field(reader, field);
    if (rc > 0 && (protobuf_number(field) == 0 || field->tag > UINT32_MAX)) {
        return ERR_INVALID;
    }
    return rc;
}

/* ---- writing: the header ---- */

size_t peer_header_size(const struct peer_header *header)
{
    return 2 + 1 + varint_size(header->from_node_id.size) + header->from_node_id.size + 1 +
           varint_size(header->to_node_id.size) + header->to_node_id.size + 2 + CLUSTER_ID_BYTES +
           9 + 9 + 2 + 9 + 9 + 9 + 1 + varint_size(header->listen_addr.size) +
           header->listen_addr.size + 2;
}

void peer_header_write(const struct peer_header *header, uint8_t *out)
{
    const uint8_t *begin = out;
    CHECK(header->format_version < 0x80);
    CHECK(header->command_format < 0x80);
    *out++ = VARINT(1);
    *out++ = (uint8_t)header->format_version;
    *out++ = BYTES(2);
    out = put_bytes(out, header->from_node_id);
    *out++ = BYTES(3);
    out = put_bytes(out, header->to_node_id);
    *out++ = BYTES(4);
    out = put_bytes(out, (struct bytes){header->cluster_id, CLUSTER_ID_BYTES});
    out = put_fixed64(out, FIXED64(5), header->incarnation);
    out = put_fixed64(out, FIXED64(6), header->membership_hash);
    *out++ = VARINT(7);
    *out++ = header->is_fresh;
    out = put_fixed64(out, FIXED64(8), header->stream_id);
    out = put_fixed64(out, FIXED64(10), header->process);
    *out++ = BYTES(11);
    out = put_bytes(out, header->listen_addr);
    *out++ = VARINT(13);
    *out++ = (uint8_t)header->command_format;
    out = put_fixed64(out, CHECKSUM_TAG, 0); /* last; peer_batch_seal() fills it in */
    CHECK((size_t)(out - begin) == peer_header_size(header));
}

/* ---- the checksum ---- */

static uint64_t checksum_of(const uint8_t *wire, size_t size, size_t offset)
{
    static const uint8_t zeros[8];
    uint64_t sum = checksum64(wire, offset);
    sum = checksum64_seed(sum, zeros, sizeof(zeros));
    sum = checksum64_seed(sum, wire + offset + sizeof(zeros), size - offset - sizeof(zeros));
    return sum == 0 ? 1 : sum;
}

void peer_batch_seal(uint8_t *wire, size_t size, size_t header_size)
{
    size_t offset = header_size - sizeof(uint64_t);
    CHECK(wire[offset - 1] == CHECKSUM_TAG);
    store_u64(wire + offset, checksum_of(wire, size, offset));
}

bool peer_batch_is_sound(struct bytes wire, const struct peer_batch *batch)
{
    return batch->checksum == 0 ||
           batch->checksum == checksum_of(wire.data, wire.size, batch->checksum_offset);
}

/* ---- writing: messages ---- */

#define FIELDS_MAX 8

/* An outgoing message: its scalar fields, and the entries if it is an append request. */
struct draft {
    uint8_t kind; /* its field in PeerMessage */
    size_t count;
    struct protobuf_field fields[FIELDS_MAX];
    const struct raft_message *append; /* NULL for other messages */
};

static void add_number(struct draft *draft, uint8_t number, uint64_t value)
{
    /* proto3 omits defaults. */
    if (value != 0) {
        CHECK(draft->count < FIELDS_MAX);
        draft->fields[draft->count++] =
            (struct protobuf_field){.tag = VARINT(number), .value = value};
    }
}

static void add_bytes(struct draft *draft, uint8_t number, struct bytes bytes)
{
    if (bytes.size > 0) {
        CHECK(draft->count < FIELDS_MAX);
        draft->fields[draft->count++] =
            (struct protobuf_field){.tag = BYTES(number), .bytes = bytes};
    }
}

static void draft_append_request(struct draft *draft, const struct raft_message *raft,
                                 struct bytes self_id)
{
    CHECK(raft->append_request.count == 0 || raft->append_request.entries != NULL);
    CHECK(raft->append_request.count <= RAFT_APPEND_ENTRIES_MAX);
    draft->kind = 1;
    add_number(draft, 1, raft->term);
    add_bytes(draft, 2, self_id);
    add_number(draft, 3, raft->append_request.prev_index);
    add_number(draft, 4, raft->append_request.prev_term);
    add_number(draft, 6, raft->append_request.commit);
    add_number(draft, 10, raft->append_request.read_round);
    add_number(draft, 11, raft->append_request.no_answer);
    add_number(draft, 12, raft->append_request.forgotten);
    draft->append = raft;
}

static void draft_append_response(struct draft *draft, const struct raft_message *raft)
{
    draft->kind = 2;
    add_number(draft, 1, raft->term);
    add_number(draft, 2, raft->append_response.success);
    add_number(draft, 3, raft->append_response.last_index);
    add_number(draft, 10, raft->append_response.hint_term);
    add_number(draft, 11, raft->append_response.read_round);
    add_number(draft, 12, raft->append_response.rejected_index);
    add_number(draft, 13, raft->append_response.cannot_lead);
    add_number(draft, 14, raft->append_response.is_full);
}

static void draft_vote_request(struct draft *draft, const struct raft_message *raft,
                               struct bytes self_id)
{
    /* `term` is the term that is campaigned for, as in the reference document. The sender's own
     * term follows from it. */
    CHECK(raft->vote_request.for_term == raft->term + raft->vote_request.is_pre_vote);
    draft->kind = 3;
    add_number(draft, 1, raft->vote_request.for_term);
    add_bytes(draft, 2, self_id);
    add_number(draft, 3, raft->vote_request.last_index);
    add_number(draft, 4, raft->vote_request.last_term);
    add_number(draft, 5, raft->vote_request.is_pre_vote);
    add_number(draft, 10, raft->vote_request.is_transfer);
}

static void draft_raft(struct draft *draft, const struct raft_message *raft, struct bytes self_id)
{
    switch (raft->kind) {
    case RAFT_APPEND_REQUEST:
        draft_append_request(draft, raft, self_id);
        break;
    case RAFT_APPEND_RESPONSE:
        draft_append_response(draft, raft);
        break;
    case RAFT_VOTE_REQUEST:
        draft_vote_request(draft, raft, self_id);
        break;
    case RAFT_VOTE_RESPONSE:
        draft->kind = 4;
        add_number(draft, 1, raft->term);
        add_number(draft, 2, raft->vote_response.granted);
        add_number(draft, 10, raft->vote_response.is_pre_vote);
        add_number(draft, 11, raft->vote_response.for_term);
        break;
    case RAFT_TIMEOUT_NOW:
        draft->kind = 5;
        add_number(draft, 1, raft->term);
        break;
    case RAFT_READ_REQUEST:
        draft->kind = 6;
        add_number(draft, 1, raft->term);
        add_number(draft, 2, raft->read_request.id);
        break;
    case RAFT_READ_RESPONSE:
        draft->kind = 7;
        add_number(draft, 1, raft->term);
        add_number(draft, 2, raft->read_response.id);
        add_number(draft, 3, raft->read_response.index);
        add_number(draft, 4, raft->read_response.confirmed);
        break;
    }
}

static void draft_message(struct draft *draft, const struct peer_message *message,
                          struct bytes self_id)
{
    draft->kind = 0;
    draft->count = 0;
    draft->append = NULL;
    switch (message->kind) {
    case PEER_MESSAGE_RAFT:
        draft_raft(draft, &message->raft, self_id);
        break;
    case PEER_MESSAGE_FORWARD_REQUEST:
        draft->kind = 8;
        add_number(draft, 1, message->forward_request.id);
        add_bytes(draft, 2, message->forward_request.command);
        add_number(draft, 3, message->forward_request.timeout_ms);
        break;
    case PEER_MESSAGE_FORWARD_RESPONSE:
        draft->kind = 9;
        add_number(draft, 1, message->forward_response.id);
        /* int32: a negative one is sign-extended to 64 bits. */
        add_number(draft, 2, (uint64_t)(int64_t)message->forward_response.code);
        add_bytes(draft, 3, message->forward_response.result);
        add_number(draft, 4, message->forward_response.index);
        break;
    case PEER_MESSAGE_APPLY_HASH:
        draft->kind = 10;
        add_number(draft, 1, message->apply_hash.index);
        add_number(draft, 2, message->apply_hash.hash);
        add_number(draft, 3, message->apply_hash.contents);
        break;
    }
    CHECK(draft->kind != 0);
}

static size_t entry_size(const struct raft_entry *entry, raft_index index)
{
    size_t size = 1 + varint_size(index);
    if (entry->term != 0) {
        size += 1 + varint_size(entry->term);
    }
    if (entry->size != 0) {
        size += 1 + varint_size(entry->size) + entry->size;
    }
    if (entry->type != 0) {
        size += 2;
    }
    return size;
}

static uint8_t *put_entry(uint8_t *out, const struct raft_entry *entry, raft_index index)
{
    *out++ = BYTES(5);
    out = put_varint(out, entry_size(entry, index));
    *out++ = VARINT(1);
    out = put_varint(out, index);
    if (entry->term != 0) {
        *out++ = VARINT(2);
        out = put_varint(out, entry->term);
    }
    if (entry->size != 0) {
        *out++ = BYTES(3);
        out = put_bytes(out, (struct bytes){entry->data, entry->size});
    }
    if (entry->type != 0) {
        *out++ = VARINT(4);
        *out++ = (uint8_t)entry->type;
    }
    return out;
}

static size_t draft_size(const struct draft *draft)
{
    size_t size = 0;
    for (size_t i = 0; i < draft->count; i++) {
        const struct protobuf_field *field = &draft->fields[i];
        bool is_bytes = protobuf_type(field) == PROTOBUF_BYTES;
        size += 1 + (is_bytes ? varint_size(field->bytes.size) + field->bytes.size
                              : varint_size(field->value));
    }
    uint32_t entries = draft->append != NULL ? draft->append->append_request.count : 0;
    for (uint32_t i = 0; i < entries; i++) {
        size_t entry = entry_size(&draft->append->append_request.entries[i],
                                  draft->append->append_request.prev_index + 1 + i);
        size += 1 + varint_size(entry) + entry;
    }
    return size;
}

static uint8_t *put_draft(uint8_t *out, const struct draft *draft)
{
    for (size_t i = 0; i < draft->count; i++) {
        const struct protobuf_field *field = &draft->fields[i];
        *out++ = (uint8_t)field->tag;
        out = protobuf_type(field) == PROTOBUF_BYTES ? put_bytes(out, field->bytes)
                                                     : put_varint(out, field->value);
    }
    uint32_t entries = draft->append != NULL ? draft->append->append_request.count : 0;
    for (uint32_t i = 0; i < entries; i++) {
        out = put_entry(out, &draft->append->append_request.entries[i],
                        draft->append->append_request.prev_index + 1 + i);
    }
    return out;
}

int peer_message_append(const struct peer_message *message, struct bytes self_id, struct buf *out)
{
    struct draft draft;
    draft_message(&draft, message, self_id);
    size_t inner = draft_size(&draft);
    size_t outer = 1 + varint_size(inner) + inner;
    size_t total = 1 + varint_size(outer) + outer;
    uint8_t *at = buf_extend(out, total);
    if (at == NULL) {
        out->failed = false;
        return ERR_FULL;
    }
    const uint8_t *end = at + total;
    *at++ = BYTES(9);
    at = put_varint(at, outer);
    *at++ = BYTES(draft.kind);
    at = put_varint(at, inner);
    at = put_draft(at, &draft);
    CHECK(at == end);
    return 0;
}

/* ---- reading: the batch ---- */

static int count_entries(struct bytes wire, size_t *out)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    size_t count = 0;
    int rc;
    while ((rc = read_field(&reader, &field)) > 0) {
        count += field.tag == BYTES(5);
    }
    if (rc < 0) {
        return rc;
    }
    if (count > RAFT_APPEND_ENTRIES_MAX) {
        return ERR_FULL;
    }
    *out = count;
    return 0;
}

/* A PeerMessage holds exactly one kind. */
static int read_kind(struct bytes wire, struct protobuf_field *kind)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field more;
    if (read_field(&reader, kind) <= 0 || read_field(&reader, &more) != 0) {
        return ERR_INVALID;
    }
    /* All kinds are messages; other types have no bytes. */
    return protobuf_type(kind) == PROTOBUF_BYTES ? 0 : ERR_INVALID;
}

static int scan_message(struct bytes wire, struct peer_batch *batch)
{
    struct protobuf_field kind;
    int rc = read_kind(wire, &kind);
    if (rc != 0) {
        return rc;
    }
    if (batch->message_count == PEER_BATCH_MESSAGES_MAX) {
        return ERR_FULL;
    }
    batch->message_count++;
    if (kind.tag != BYTES(1)) {
        return 0;
    }
    size_t entries;
    rc = count_entries(kind.bytes, &entries);
    if (rc != 0) {
        return rc;
    }
    batch->entry_count += entries;
    return batch->entry_count > PEER_BATCH_ENTRIES_MAX ? ERR_FULL : 0;
}

static int scan_field(const struct protobuf_field *field, struct peer_batch *batch)
{
    struct peer_header *header = &batch->header;
    switch (field->tag) {
    case VARINT(1):
        header->format_version = field->value > UINT32_MAX ? UINT32_MAX : (uint32_t)field->value;
        return 0;
    case BYTES(2):
        header->from_node_id = field->bytes;
        return field->bytes.size > CLUSTER_NODE_ID_BYTES_MAX ? ERR_INVALID : 0;
    case BYTES(3):
        header->to_node_id = field->bytes;
        return field->bytes.size > CLUSTER_NODE_ID_BYTES_MAX ? ERR_INVALID : 0;
    case BYTES(4):
        memset(header->cluster_id, 0, sizeof(header->cluster_id));
        if (field->bytes.size == sizeof(header->cluster_id)) {
            memcpy(header->cluster_id, field->bytes.data, sizeof(header->cluster_id));
            return 0;
        }
        return field->bytes.size == 0 ? 0 : ERR_INVALID;
    case FIXED64(5):
        header->incarnation = field->value;
        return 0;
    case FIXED64(6):
        header->membership_hash = field->value;
        return 0;
    case VARINT(7):
        header->is_fresh = field->value != 0;
        return 0;
    case FIXED64(8):
        header->stream_id = field->value;
        return 0;
    case BYTES(9):
        return scan_message(field->bytes, batch);
    case VARINT(13):
        header->command_format = field->value > UINT32_MAX ? UINT32_MAX : (uint32_t)field->value;
        return 0;
    case FIXED64(10):
        header->process = field->value;
        return 0;
    case BYTES(11):
        header->listen_addr = field->bytes;
        return field->bytes.size > PEER_LISTEN_ADDR_BYTES_MAX ? ERR_INVALID : 0;
    default:
        return 0;
    }
}

int peer_batch_scan(struct bytes wire, struct peer_batch *out)
{
    struct peer_batch batch;
    memset(&batch, 0, sizeof(batch));
    batch.header.command_format = 1; /* of a version that does not say */
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    int rc;
    while ((rc = read_field(&reader, &field)) > 0) {
        rc = scan_field(&field, &batch);
        if (field.tag == CHECKSUM_TAG) {
            batch.checksum = field.value;
            batch.checksum_offset =
                (size_t)(reader.at - (const uint8_t *)wire.data) - sizeof(uint64_t);
        }
        if (rc < 0) {
            return rc;
        }
    }
    if (rc == 0) {
        *out = batch;
    }
    return rc;
}

/* ---- reading: messages ---- */

static int malformed(const char **why, const char *text)
{
    *why = text;
    return ERR_INVALID;
}

static int read_entry(struct bytes wire, struct raft_entry *entry, raft_index *index,
                      const char **why)
{
    *entry = (struct raft_entry){.data = "", .size = 0};
    *index = 0;
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    uint64_t type = RAFT_ENTRY_COMMAND;
    int rc;
    while ((rc = read_field(&reader, &field)) > 0) {
        switch (field.tag) {
        case VARINT(1):
            *index = field.value;
            break;
        case VARINT(2):
            entry->term = field.value;
            break;
        case BYTES(3):
            if (field.bytes.size > RAFT_ENTRY_BYTES_MAX) {
                return malformed(why, "an entry is too large");
            }
            entry->data = field.bytes.data;
            entry->size = (uint32_t)field.bytes.size;
            break;
        case VARINT(4):
            type = field.value;
            break;
        default:
            break;
        }
    }
    if (type != RAFT_ENTRY_COMMAND && type != RAFT_ENTRY_CONFIG_CHANGE) {
        return malformed(why, "an entry of unknown type");
    }
    entry->type = (enum raft_entry_type)type;
    return rc < 0 ? malformed(why, "a malformed entry") : 0;
}

/* `is_strict`: the entries must have consecutive indexes, as this program writes them. */
static int read_append_request(struct bytes wire, bool is_strict, struct raft_message *out,
                               struct raft_entry *entries, struct bytes *node_id, const char **why)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    raft_index first_index = 0;
    uint32_t count = 0;
    int rc;
    out->kind = RAFT_APPEND_REQUEST;
    out->append_request.entries = entries;
    while ((rc = read_field(&reader, &field)) > 0) {
        switch (field.tag) {
        case VARINT(1):
            out->term = field.value;
            break;
        case BYTES(2):
            *node_id = field.bytes;
            break;
        case VARINT(3):
            out->append_request.prev_index = field.value;
            break;
        case VARINT(4):
            out->append_request.prev_term = field.value;
            break;
        case BYTES(5): {
            raft_index index;
            rc = read_entry(field.bytes, &entries[count], &index, why);
            if (rc != 0) {
                return rc;
            }
            first_index = count == 0 ? index : first_index;
            if (is_strict && index != first_index + count) {
                return malformed(why, "entries are not in sequence");
            }
            count++;
            break;
        }
        case VARINT(6):
            out->append_request.commit = field.value;
            break;
        case VARINT(10):
            out->append_request.read_round = field.value;
            break;
        case VARINT(11):
            out->append_request.no_answer = field.value != 0;
            break;
        case VARINT(12):
            out->append_request.forgotten = field.value;
            break;
        default:
            break;
        }
    }
    if (rc < 0) {
        return malformed(why, "a malformed append request");
    }
    raft_index prev_index = out->append_request.prev_index;
    if (prev_index > UINT64_MAX - RAFT_APPEND_ENTRIES_MAX) {
        return malformed(why, "an append request beyond the last index");
    }
    if (is_strict && count > 0 && first_index != prev_index + 1) {
        return malformed(why, "entries do not follow prev_log_index");
    }
    out->append_request.count = count;
    return 0;
}

static int read_vote_request(struct bytes wire, struct raft_message *out, struct bytes *node_id,
                             const char **why)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    int rc;
    out->kind = RAFT_VOTE_REQUEST;
    while ((rc = read_field(&reader, &field)) > 0) {
        switch (field.tag) {
        case VARINT(1):
            out->vote_request.for_term = field.value;
            break;
        case BYTES(2):
            *node_id = field.bytes;
            break;
        case VARINT(3):
            out->vote_request.last_index = field.value;
            break;
        case VARINT(4):
            out->vote_request.last_term = field.value;
            break;
        case VARINT(5):
            out->vote_request.is_pre_vote = field.value != 0;
            break;
        case VARINT(10):
            out->vote_request.is_transfer = field.value != 0;
            break;
        default:
            break;
        }
    }
    if (rc < 0) {
        return malformed(why, "a malformed vote request");
    }
    /* A unary request may name term 0. */
    raft_term for_term = out->vote_request.for_term;
    bool is_ahead = out->vote_request.is_pre_vote && for_term > 0;
    out->term = is_ahead ? for_term - 1 : for_term;
    return 0;
}

/* Reads a message of numbers: field n goes to numbers[n]. Other fields are ignored, except
 * `bytes`. */
#define NUMBERS_MAX 15

static int read_numbers(struct bytes wire, uint64_t numbers[NUMBERS_MAX], struct bytes *bytes,
                        uint8_t bytes_number, const char **why)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    int rc;
    memset(numbers, 0, NUMBERS_MAX * sizeof(*numbers));
    while ((rc = read_field(&reader, &field)) > 0) {
        uint64_t number = protobuf_number(&field);
        if (protobuf_type(&field) == PROTOBUF_VARINT && number < NUMBERS_MAX) {
            numbers[number] = field.value;
        } else if (bytes != NULL && field.tag == (uint64_t)BYTES(bytes_number)) {
            *bytes = field.bytes;
        }
    }
    return rc < 0 ? malformed(why, "a malformed message") : 0;
}

static int read_answer(const struct protobuf_field *kind, struct raft_message *out,
                       const char **why)
{
    uint64_t numbers[NUMBERS_MAX];
    int rc = read_numbers(kind->bytes, numbers, NULL, 0, why);
    if (rc != 0) {
        return rc;
    }
    out->term = numbers[1];
    switch (kind->tag) {
    case BYTES(2):
        out->kind = RAFT_APPEND_RESPONSE;
        out->append_response.success = numbers[2] != 0;
        out->append_response.last_index = numbers[3];
        out->append_response.hint_term = numbers[10];
        out->append_response.read_round = numbers[11];
        out->append_response.rejected_index = numbers[12];
        out->append_response.cannot_lead = numbers[13] != 0;
        out->append_response.is_full = numbers[14] != 0;
        return 0;
    case BYTES(4):
        out->kind = RAFT_VOTE_RESPONSE;
        out->vote_response.granted = numbers[2] != 0;
        out->vote_response.is_pre_vote = numbers[10] != 0;
        out->vote_response.for_term = numbers[11];
        return 0;
    case BYTES(5):
        out->kind = RAFT_TIMEOUT_NOW;
        return 0;
    case BYTES(6):
        out->kind = RAFT_READ_REQUEST;
        out->read_request.id = numbers[2];
        return 0;
    case BYTES(7):
        out->kind = RAFT_READ_RESPONSE;
        out->read_response.id = numbers[2];
        out->read_response.index = numbers[3];
        out->read_response.confirmed = numbers[4] != 0;
        return 0;
    default:
        return malformed(why, "a message of unknown kind");
    }
}

static int read_other(const struct protobuf_field *kind, struct peer_message *out, const char **why)
{
    uint64_t numbers[NUMBERS_MAX];
    struct bytes bytes = {"", 0};
    uint8_t bytes_number = kind->tag == BYTES(8) ? 2 : 3;
    int rc = read_numbers(kind->bytes, numbers, &bytes, bytes_number, why);
    if (rc != 0) {
        return rc;
    }
    if (bytes.size > PEER_COMMAND_BYTES_MAX) {
        return malformed(why, "a forwarded command or result is too large");
    }
    switch (kind->tag) {
    case BYTES(8):
        out->kind = PEER_MESSAGE_FORWARD_REQUEST;
        out->forward_request.id = numbers[1];
        out->forward_request.command = bytes;
        out->forward_request.timeout_ms =
            numbers[3] > UINT32_MAX ? UINT32_MAX : (uint32_t)numbers[3];
        return 0;
    case BYTES(9):
        out->kind = PEER_MESSAGE_FORWARD_RESPONSE;
        out->forward_response.id = numbers[1];
        out->forward_response.code = (int32_t)(uint32_t)numbers[2];
        out->forward_response.result = bytes;
        out->forward_response.index = numbers[4];
        return 0;
    default:
        out->kind = PEER_MESSAGE_APPLY_HASH;
        out->apply_hash.index = numbers[1];
        out->apply_hash.hash = numbers[2];
        out->apply_hash.contents = numbers[3];
        return 0;
    }
}

static int read_message(struct bytes wire, const struct peer_sender *sender,
                        struct peer_message *out, struct raft_entry *entries, const char **why)
{
    struct protobuf_field kind;
    if (read_kind(wire, &kind) != 0) {
        return malformed(why, "a message without a kind");
    }
    if (kind.tag == BYTES(8) || kind.tag == BYTES(9) || kind.tag == BYTES(10)) {
        return read_other(&kind, out, why);
    }
    out->kind = PEER_MESSAGE_RAFT;
    out->raft.peer = sender->member;
    if (kind.tag != BYTES(1) && kind.tag != BYTES(3)) {
        return read_answer(&kind, &out->raft, why);
    }
    struct bytes node_id = {"", 0};
    int rc = kind.tag == BYTES(1)
                 ? read_append_request(kind.bytes, true, &out->raft, entries, &node_id, why)
                 : read_vote_request(kind.bytes, &out->raft, &node_id, why);
    if (rc != 0) {
        return rc;
    }
    if (!bytes_equal(node_id, sender->node_id)) {
        return malformed(why, "a request in another node's name");
    }
    if (out->raft.kind == RAFT_VOTE_REQUEST && out->raft.vote_request.for_term == 0) {
        return malformed(why, "a vote request for term 0");
    }
    return 0;
}

int peer_batch_read(struct bytes wire, const struct peer_sender *sender,
                    struct peer_message *messages, struct raft_entry *entries, const char **why)
{
    struct bytes_reader reader = bytes_reader_of(wire);
    struct protobuf_field field;
    size_t message_count = 0;
    size_t entry_count = 0;
    *why = "";
    while (read_field(&reader, &field) > 0) {
        if (field.tag != BYTES(9)) {
            continue;
        }
        struct peer_message *message = &messages[message_count++];
        memset(message, 0, sizeof(*message));
        int rc = read_message(field.bytes, sender, message, entries + entry_count, why);
        if (rc != 0) {
            return rc;
        }
        if (message->kind == PEER_MESSAGE_RAFT && message->raft.kind == RAFT_APPEND_REQUEST) {
            entry_count += message->raft.append_request.count;
        }
    }
    return 0;
}

/* ---- reading: the unary requests ---- */

int peer_append_request_scan(struct bytes wire, size_t *entry_count)
{
    return count_entries(wire, entry_count);
}

static int check_name(struct bytes node_id, const char **why)
{
    if (node_id.size > CLUSTER_NODE_ID_BYTES_MAX || !bytes_is_utf8(node_id)) {
        return malformed(why, "a node id is not UTF-8 or too long");
    }
    return 0;
}

int peer_append_request_read(struct bytes wire, struct raft_message *out,
                             struct raft_entry *entries, struct bytes *node_id, const char **why)
{
    memset(out, 0, sizeof(*out));
    *node_id = (struct bytes){"", 0};
    *why = "";
    int rc = read_append_request(wire, false, out, entries, node_id, why);
    return rc != 0 ? rc : check_name(*node_id, why);
}

int peer_vote_request_read(struct bytes wire, struct raft_message *out, struct bytes *node_id,
                           const char **why)
{
    memset(out, 0, sizeof(*out));
    *node_id = (struct bytes){"", 0};
    *why = "";
    int rc = read_vote_request(wire, out, node_id, why);
    return rc != 0 ? rc : check_name(*node_id, why);
}
