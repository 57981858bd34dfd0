/* The Raft core among peers that say anything that the wire can carry: it refuses what no correct
 * peer sends, none of its own checks fails, terms and commit index never go back, what is committed
 * stays, and there is one vote for each term. */
#include "base/check.h"
#include "base/errors.h"
#include "fuzz/input.h"
#include "unit/raft/raft_testing.h"

#define STEPS_MAX 256
#define ENTRIES_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct solo *solo;
    struct input input;
    struct raft_entry entries[ENTRIES_MAX];
    struct raft_change changes[ENTRIES_MAX];
    uint64_t epochs[CLUSTER_MEMBERS_MAX];
    uint64_t read_id;
    raft_term term;
    raft_member voted_for;
    raft_index commit_index;
    raft_term commit_term;
};

/* Near `base` mostly, else anything. */
static uint64_t take_near(struct fuzz *fuzz, uint64_t base)
{
    uint8_t how = take_u8(&fuzz->input);
    if (how < 224) {
        int64_t delta = (int64_t)(how % 32) - 16;
        return delta < 0 && base < (uint64_t)-delta ? 0 : base + (uint64_t)delta;
    }
    uint64_t value = take_u16(&fuzz->input);
    return how < 240 ? value : UINT64_MAX / 2 - value;
}

static raft_member take_peer(struct fuzz *fuzz)
{
    return 1 + take_u8(&fuzz->input) % (fuzz->solo->options.member_count - 1);
}

static void check_state(struct fuzz *fuzz)
{
    struct solo *solo = fuzz->solo;
    struct raft_status status = solo_status(solo);
    CHECK(status.term >= fuzz->term);
    CHECK(status.commit_index >= fuzz->commit_index);
    CHECK(status.commit_index <= solo->last);
    CHECK(status.last_index == solo->last);
    CHECK(status.term > fuzz->term || fuzz->voted_for == RAFT_NO_MEMBER ||
          status.voted_for == fuzz->voted_for);
    CHECK(solo->terms[fuzz->commit_index] == fuzz->commit_term);
    for (raft_index i = solo->base + 1; i <= solo->last; i++) {
        CHECK(solo->terms[i] >= solo->terms[i - 1]);
    }
    CHECK(solo->terms[solo->last] <= status.term);
    fuzz->term = status.term;
    fuzz->voted_for = status.voted_for;
    fuzz->commit_index = status.commit_index;
    fuzz->commit_term = solo->terms[status.commit_index];
}

static void step(struct fuzz *fuzz, struct raft_event event)
{
    struct solo *solo = fuzz->solo;
    event.now_ns = solo->now_ns;
    const struct raft_effects *effects = NULL;
    int rc = raft_step(solo->raft, &event, &effects);
    CHECK(rc == 0 || (rc == ERR_INVALID && event.kind == RAFT_EVENT_MESSAGE) ||
          (rc == ERR_FULL && event.kind == RAFT_EVENT_READ));
    if (rc == 0) {
        solo->effects = effects;
        for (uint32_t i = 0; i < effects->append_count; i++) {
            solo->last = effects->append_first + i;
            CHECK(solo->last < SOLO_LOG_MAX);
            solo->terms[solo->last] =
                effects->append_term != 0 ? effects->append_term : effects->append[i].term;
        }
    }
    check_state(fuzz);
}

/* ---- messages ---- */

static void take_entries(struct fuzz *fuzz, struct raft_message *message)
{
    raft_term term = message->append_request.prev_term;
    message->append_request.count = take_u8(&fuzz->input) % (ENTRIES_MAX + 1);
    message->append_request.entries = fuzz->entries;
    for (uint32_t i = 0; i < message->append_request.count; i++) {
        uint8_t what = take_u8(&fuzz->input);
        term += what % 4 == 3 ? what / 4 % 4 : 0;
        fuzz->entries[i] = (struct raft_entry){.term = term, .type = RAFT_ENTRY_COMMAND};
        if (what >= 200) {
            bool is_genesis = what >= 250;
            fuzz->changes[i] = (struct raft_change){
                .kind = is_genesis ? RAFT_CHANGE_GENESIS : RAFT_CHANGE_ADMIT,
                .member = is_genesis ? RAFT_NO_MEMBER : what % fuzz->solo->options.member_count,
                .incarnation = what,
                .incarnations = {101, 102, 103, 104, 105},
            };
            fuzz->entries[i].type = RAFT_ENTRY_CONFIG_CHANGE;
            fuzz->entries[i].change = &fuzz->changes[i];
        }
    }
}

static void take_append(struct fuzz *fuzz, struct raft_message *message)
{
    struct solo *solo = fuzz->solo;
    raft_index prev = take_near(fuzz, solo->last);
    uint8_t flags = take_u8(&fuzz->input);
    message->append_request.prev_index = prev;
    message->append_request.prev_term = flags & 1            ? take_near(fuzz, fuzz->term)
                                        : prev <= solo->last ? solo->terms[prev]
                                                             : fuzz->term;
    message->append_request.commit = take_near(fuzz, fuzz->commit_index);
    message->append_request.read_round = flags & 2 ? take_near(fuzz, 1) : 0;
    message->append_request.no_answer = flags & 4;
    take_entries(fuzz, message);
}

static void take_append_response(struct fuzz *fuzz, struct raft_message *message)
{
    uint8_t flags = take_u8(&fuzz->input);
    message->append_response.success = flags & 1;
    message->append_response.cannot_lead = flags & 2;
    message->append_response.is_full = flags & 4;
    message->append_response.last_index = take_near(fuzz, fuzz->solo->last);
    message->append_response.hint_term = take_near(fuzz, fuzz->term);
    message->append_response.rejected_index = take_near(fuzz, fuzz->solo->last);
    message->append_response.read_round = take_near(fuzz, 1);
}

static void take_vote_request(struct fuzz *fuzz, struct raft_message *message)
{
    uint8_t flags = take_u8(&fuzz->input);
    message->vote_request.is_pre_vote = flags & 1;
    message->vote_request.is_transfer = flags & 2;
    message->vote_request.for_term =
        flags & 4 ? take_near(fuzz, message->term) : message->term + (flags & 1);
    message->vote_request.last_index = take_near(fuzz, fuzz->solo->last);
    message->vote_request.last_term = take_near(fuzz, fuzz->term);
}

static void take_message(struct fuzz *fuzz)
{
    struct raft_message message = {.kind = take_u8(&fuzz->input) % (RAFT_READ_RESPONSE + 1)};
    message.peer = take_peer(fuzz);
    message.term = take_near(fuzz, fuzz->term);
    switch (message.kind) {
    case RAFT_APPEND_REQUEST:
        take_append(fuzz, &message);
        break;
    case RAFT_APPEND_RESPONSE:
        take_append_response(fuzz, &message);
        break;
    case RAFT_VOTE_REQUEST:
        take_vote_request(fuzz, &message);
        break;
    case RAFT_VOTE_RESPONSE:
        message.vote_response.for_term = take_near(fuzz, fuzz->term);
        message.vote_response.is_pre_vote = take_u8(&fuzz->input) & 1;
        message.vote_response.granted = take_u8(&fuzz->input) & 1;
        break;
    case RAFT_READ_REQUEST:
        message.read_request.id = take_near(fuzz, fuzz->read_id);
        break;
    case RAFT_READ_RESPONSE:
        message.read_response.id = take_near(fuzz, fuzz->read_id);
        message.read_response.index = take_near(fuzz, fuzz->solo->last);
        message.read_response.confirmed = take_u8(&fuzz->input) & 1;
        break;
    case RAFT_TIMEOUT_NOW:
        break;
    }
    step(fuzz, (struct raft_event){.kind = RAFT_EVENT_MESSAGE, .message = message});
}

/* ---- what the driver says, always by its rules ---- */

static void persisted(struct fuzz *fuzz)
{
    struct solo *solo = fuzz->solo;
    if (solo->effects == NULL) {
        return;
    }
    struct raft_event event = {.kind = RAFT_EVENT_PERSISTED};
    event.persisted.save_seq = solo->effects->save_seq;
    event.persisted.last_index = solo->last;
    event.persisted.last_term = solo->terms[solo->last];
    step(fuzz, event);
}

static void stream(struct fuzz *fuzz, enum raft_event_kind kind)
{
    struct raft_event event = {.kind = kind};
    raft_member peer = take_peer(fuzz);
    event.stream.peer = peer;
    if (kind == RAFT_EVENT_PEER_HELLO) {
        fuzz->epochs[peer]++;
        event.stream.incarnation = take_u8(&fuzz->input) % 8 == 7 ? 999 : 101 + (uint64_t)peer;
    }
    event.stream.epoch = fuzz->epochs[peer];
    step(fuzz, event);
}

static void propose(struct fuzz *fuzz)
{
    static const struct raft_entry entries[4];
    struct raft_event event = {.kind = RAFT_EVENT_PROPOSE};
    event.propose.entries = entries;
    event.propose.count = 1 + take_u8(&fuzz->input) % 4;
    if (raft_can_propose(fuzz->solo->raft) == RAFT_PROPOSE_NOW) {
        step(fuzz, event);
    }
}

static void drive(struct fuzz *fuzz, uint8_t what)
{
    static const enum raft_event_kind streams[] = {
        RAFT_EVENT_PEER_HELLO, RAFT_EVENT_STREAM_LOST, RAFT_EVENT_DIAL_REFUSED,
        RAFT_EVENT_DIAL_LOST,  RAFT_EVENT_DIAL_UP,
    };
    struct raft_event event = {.kind = RAFT_EVENT_TICK};
    switch (what % 8) {
    case 0:
    case 1:
        fuzz->solo->now_ns += (uint64_t)take_u8(&fuzz->input) * 8 * MS;
        step(fuzz, event);
        return;
    case 2:
    case 3:
        persisted(fuzz);
        return;
    case 4:
        stream(fuzz, streams[take_u8(&fuzz->input) % 5]);
        return;
    case 5:
        propose(fuzz);
        return;
    case 6:
        event.kind = RAFT_EVENT_READ;
        event.read.id = ++fuzz->read_id;
        step(fuzz, event);
        return;
    default:
        event.kind = what & 8 ? RAFT_EVENT_REPLICATE : RAFT_EVENT_TRANSFER;
        event.transfer.target = what & 16 ? RAFT_NO_MEMBER : take_peer(fuzz);
        step(fuzz, event);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const raft_term terms[] = {1, 1, 2, 2, 2, 4, 0};
    struct fuzz fuzz = {.input = {data, size}};
    uint8_t flags = take_u8(&fuzz.input);
    fuzz.solo = make_solo(flags & 1 ? 5 : 3, terms, 4);
    solo_hellos(fuzz.solo);
    if (flags & 2) {
        solo_lead(fuzz.solo);
    }
    for (raft_member i = 1; i < CLUSTER_MEMBERS_MAX; i++) {
        fuzz.epochs[i] = 2;
    }
    struct raft_status status = solo_status(fuzz.solo);
    fuzz.term = status.term;
    fuzz.voted_for = status.voted_for;
    fuzz.commit_index = status.commit_index;
    fuzz.commit_term = fuzz.solo->terms[status.commit_index];
    for (int i = 0; i < STEPS_MAX && fuzz.input.left > 0; i++) {
        uint8_t what = take_u8(&fuzz.input);
        if (what < 128) {
            take_message(&fuzz);
        } else {
            drive(&fuzz, what);
        }
    }
    free_solo(fuzz.solo);
    return 0;
}
