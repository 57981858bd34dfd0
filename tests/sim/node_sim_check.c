/* What must hold after every turn of every node: Raft's own promises (Raft figure 3), that logs are
 * cut and votes are kept as they must be, and that all state machines are the one that the
 * committed entries make. The last is built here anew, from what is committed; clients' answers are
 * held against it (node_sim_clients.c). */
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "chat/command.h"
#include "driver/node_internal.h"
#include "lib/store_digest.h"
#include "node_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry that some log has held. Log matching: who has it has this one, behind that one. */
struct seen {
    raft_term term;
    raft_term previous_term;
    uint64_t checksum;
    uint64_t holders[SIM_NODES_MAX]; /* which incarnation of each had it durably; 0: none */
};

struct place {
    struct seen *seen;
    size_t seen_count;
    bool is_committed;
    raft_term term;        /* of the committed one */
    raft_term commit_term; /* a leader of a later one has it */
    uint64_t result_hash;  /* of all results up to here; 0: nobody has stood here yet */
    uint64_t content_hash; /* of what was written lately; 0: not known */
};

struct effect {
    raft_index index; /* 0: none yet */
    uint64_t sequence;
    unsigned count;
};

struct stored {
    raft_index index;
    sim_operation operation;
};

struct history {
    struct stored *items;
    size_t count;
};

struct channel {
    raft_index created;
    sim_operation creator;
    struct history messages;
};

struct node_check {
    uint64_t life;
    raft_term *terms; /* of its log as it was checked last, by index */
    size_t terms_capacity;
    raft_index last;
    raft_index commit;
    bool was_leader;
    raft_term leader_term;
    raft_index durable_applied;
    bool is_known;        /* its disk is as it was after its last turn */
    uint64_t incarnation; /* whose hard state it is */
    raft_term term;
    char voted_for[CLUSTER_NODE_ID_BYTES_MAX + 1];
};

#define ADMITTED_MAX 256

/* What a voter's hard state came to in one turn. It is durable, or was made so just before the
 * voter died. Votes in the terms from `from` up to the new one, exclusively, are not seen: they
 * were overtaken in that very turn, and hold, since the voter is beyond their term. */
struct vote {
    raft_term from;
    raft_term term;
    raft_member voter;
    uint64_t incarnation;  /* the voter's */
    raft_member candidate; /* RAFT_NO_MEMBER: none yet */
};

struct sim_check {
    struct place *places; /* by index */
    size_t capacity;
    raft_index committed;
    struct vote *votes;
    size_t vote_count;
    raft_member *leaders; /* by term; -1: none */
    size_t leaders_count;
    struct node_check nodes[SIM_NODES_MAX];
    struct raft_config config;       /* as of what is committed */
    struct raft_config complete;     /* by second ADMITs: of these there is durable proof */
    uint64_t admitted[ADMITTED_MAX]; /* all incarnations that ever were */
    size_t admitted_count;
    struct {
        uint64_t incarnation;
        raft_index index;
    } proposed[ADMITTED_MAX]; /* by the ADMITs in any log */
    size_t proposed_count;
    struct channel channels[SIM_CHANNELS_MAX];
    struct history values[SIM_KEYS_MAX]; /* operation 0: a delete */
    struct effect *effects;              /* by operation */
    size_t effects_count;
    uint64_t message_count;
};

static void *grow(void *data, size_t *count, size_t needed, size_t size)
{
    if (needed <= *count) {
        return data;
    }
    size_t more = 2 * needed + 64;
    uint8_t *grown = realloc(data, more * size);
    CHECK(grown != NULL);
    memset(grown + *count * size, 0, (more - *count) * size);
    *count = more;
    return grown;
}

static struct place *place_at(struct sim_check *check, raft_index index)
{
    check->places = grow(check->places, &check->capacity, index + 1, sizeof(*check->places));
    return &check->places[index];
}

/* ---- the state machine ---- */

static struct effect *effect_of(struct sim_check *check, sim_operation operation)
{
    check->effects =
        grow(check->effects, &check->effects_count, operation + 1, sizeof(*check->effects));
    return &check->effects[operation];
}

static void add_stored(struct history *history, raft_index index, sim_operation operation)
{
    if ((history->count & (history->count - 1)) == 0) {
        size_t capacity = history->count == 0 ? 1 : 2 * history->count;
        history->items = realloc(history->items, capacity * sizeof(*history->items));
        CHECK(history->items != NULL);
    }
    history->items[history->count++] = (struct stored){index, operation};
}

/* "c2" is 2, "op17" is 17, "17" is 17. */
static uint64_t number_in(struct bytes text)
{
    const char *at = text.data;
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (at[i] >= '0' && at[i] <= '9') {
            number = 10 * number + (uint64_t)(at[i] - '0');
        }
    }
    return number;
}

static void apply_send(struct sim_check *check, raft_index index, const struct command *command)
{
    struct channel *channel = &check->channels[number_in(command->channel_id)];
    sim_operation operation = load_u64(command->payload.data);
    struct effect *effect = effect_of(check, operation);
    effect->count++;
    bool is_repeated = command->client_message_id.size > 0 && effect->index != 0;
    if (channel->created == 0 || is_repeated) {
        return;
    }
    add_stored(&channel->messages, index, operation);
    check->message_count++;
    if (effect->index == 0) {
        effect->index = index;
        effect->sequence = channel->messages.count;
    }
}

static bool is_channel_there(const struct sim_check *check, struct bytes id)
{
    return *(const char *)id.data == 'c' && check->channels[number_in(id)].created != 0;
}

/* All messages or none. */
static void apply_batch(struct sim_check *check, raft_index index, const struct command *command)
{
    struct command_messages messages = command_messages_of(command);
    struct command message;
    bool is_whole = true;
    while (command_messages_next(&messages, &message)) {
        is_whole = is_whole && is_channel_there(check, message.channel_id);
    }
    messages = command_messages_of(command);
    while (command_messages_next(&messages, &message)) {
        if (is_whole) {
            apply_send(check, index, &message);
        } else {
            effect_of(check, load_u64(message.payload.data))->count++;
        }
    }
}

static void apply_command(struct sim_check *check, raft_index index, struct bytes data)
{
    struct command command;
    CHECK(command_decode(data, &command) == 0);
    switch (command.kind) {
    case COMMAND_CREATE_CHANNEL: {
        struct channel *channel = &check->channels[number_in(command.channel_id)];
        struct effect *effect = effect_of(check, number_in(command.name));
        effect->count++;
        effect->index = effect->index == 0 ? index : effect->index;
        if (channel->created == 0) {
            channel->created = index;
            channel->creator = number_in(command.name);
        }
        break;
    }
    case COMMAND_SEND_MESSAGE:
        apply_send(check, index, &command);
        break;
    case COMMAND_SEND_MESSAGES:
        apply_batch(check, index, &command);
        break;
    case COMMAND_KV_SET: {
        struct effect *effect = effect_of(check, number_in(command.value));
        effect->count++;
        effect->index = index;
        add_stored(&check->values[number_in(command.key)], index, number_in(command.value));
        break;
    }
    case COMMAND_KV_DELETE:
        add_stored(&check->values[number_in(command.key)], index, 0);
        break;
    }
}

/* ---- the log ---- */

/* False if its disk has died. */
static bool read_entry(struct sim_node *node, raft_index index, struct wal_entry *out)
{
    int rc = wal_read(node->boot.wal, index, out);
    if (rc != 0 && !node->is_dying) {
        sim_violation(node->sim, "%s cannot read its entry %llu: %s", node->name,
                      (unsigned long long)index, error_text(rc));
    }
    return rc == 0;
}

static uint64_t checksum_entry(const struct wal_entry *entry)
{
    return entry->data.size == 0 ? entry->type
                                 : checksum64_seed(entry->type, entry->data.data, entry->data.size);
}

static void note_admitted(struct sim_check *check, uint64_t incarnation)
{
    if (check->admitted_count < ADMITTED_MAX) {
        check->admitted[check->admitted_count++] = incarnation;
    }
}

/* The second ADMIT in a log says that the first was committed, though whoever knew may have died
 * before he told. (One that was overwritten, and proposed again elsewhere, passes for it.) */
static void note_proposed(struct sim_node *node, raft_index index, const struct wal_entry *entry)
{
    struct sim_check *check = node->sim->check;
    struct raft_change change;
    CHECK(node_change_decode(node->node, entry->data, &change) == 0);
    if (change.kind != RAFT_CHANGE_ADMIT) {
        return;
    }
    for (size_t i = 0; i < check->proposed_count; i++) {
        if (check->proposed[i].incarnation == change.incarnation &&
            check->proposed[i].index != index) {
            note_admitted(check, change.incarnation);
            return;
        }
    }
    if (check->proposed_count < ADMITTED_MAX) {
        check->proposed[check->proposed_count].incarnation = change.incarnation;
        check->proposed[check->proposed_count++].index = index;
    }
}

static void check_entry(struct sim_node *node, raft_index index)
{
    uint64_t incarnation = wal_hard_state(node->boot.wal)->incarnation;
    struct wal_entry entry;
    if (!read_entry(node, index, &entry)) {
        return;
    }
    struct place *place = place_at(node->sim->check, index);
    raft_term previous_term = wal_term(node->boot.wal, index - 1);
    uint64_t checksum = checksum_entry(&entry);
    for (size_t i = 0; i < place->seen_count; i++) {
        const struct seen *seen = &place->seen[i];
        if (seen->term == entry.term) {
            if (seen->checksum != checksum || seen->previous_term != previous_term) {
                sim_violation(node->sim, "log matching: entry %llu of term %llu on %s differs",
                              (unsigned long long)index, (unsigned long long)entry.term,
                              node->name);
            }
            place->seen[i].holders[node->id] = incarnation;
            return;
        }
    }
    place->seen = realloc(place->seen, (place->seen_count + 1) * sizeof(*place->seen));
    CHECK(place->seen != NULL);
    struct seen *seen = &place->seen[place->seen_count++];
    *seen = (struct seen){entry.term, previous_term, checksum, {0}};
    seen->holders[node->id] = incarnation;
    if (entry.type == RAFT_ENTRY_CONFIG_CHANGE) {
        note_proposed(node, index, &entry);
    }
}

/* What is new in its log since the last turn, all of it durable by now. */
static void check_log(struct sim_node *node, struct node_check *own)
{
    const struct wal *wal = node->boot.wal;
    raft_index first = wal_first_index(wal);
    raft_index last = wal_durable_index(wal);
    own->durable_applied = chat_durable_applied(node->boot.chat);
    own->terms = grow(own->terms, &own->terms_capacity, last + 1, sizeof(*own->terms));
    for (raft_index i = last; i >= first && i > 0; i--) {
        if (i <= own->last && own->terms[i] == wal_term(wal, i)) {
            break;
        }
        own->terms[i] = wal_term(wal, i);
        check_entry(node, i);
    }
    own->last = last;
    /* While it dies, log and store may be on either side of an installed snapshot. */
    if (!node->is_dying && first > chat_durable_applied(node->boot.chat) + 1) {
        sim_violation(node->sim, "%s has cut its log to %llu, its store is at %llu", node->name,
                      (unsigned long long)first,
                      (unsigned long long)chat_durable_applied(node->boot.chat));
    }
}

static const struct vote *last_vote(const struct sim_check *check, raft_member voter)
{
    for (size_t i = check->vote_count; i > 0; i--) {
        if (check->votes[i - 1].voter == voter) {
            return &check->votes[i - 1];
        }
    }
    return NULL;
}

static void note_vote(struct sim_node *node)
{
    struct sim_check *check = node->sim->check;
    const struct wal_hard_state *state = wal_hard_state(node->boot.wal);
    const struct vote *last = last_vote(check, node->id);
    struct vote vote = {
        .from = state->term,
        .term = state->term,
        .voter = node->id,
        .incarnation = state->incarnation,
        .candidate = state->voted_for[0] == '\0' ? RAFT_NO_MEMBER : state->voted_for[1] - '0',
    };
    if (last != NULL && last->incarnation == vote.incarnation) {
        if (last->term == vote.term && last->candidate == vote.candidate) {
            return;
        }
        vote.from = last->term < vote.term ? last->term : vote.term;
    }
    if ((check->vote_count & (check->vote_count - 1)) == 0) {
        size_t capacity = check->vote_count == 0 ? 1 : 2 * check->vote_count;
        check->votes = realloc(check->votes, capacity * sizeof(*check->votes));
        CHECK(check->votes != NULL);
    }
    check->votes[check->vote_count++] = vote;
}

/* Terms only grow, and a vote is for one: durable, so it must outlive the process too. */
static void check_hard_state(struct sim_node *node, struct node_check *own)
{
    const struct wal_hard_state *state = wal_hard_state(node->boot.wal);
    if (own->incarnation == state->incarnation) {
        bool is_other_vote = state->term == own->term && own->voted_for[0] != '\0' &&
                             strcmp(own->voted_for, state->voted_for) != 0;
        if (state->term < own->term || is_other_vote) {
            sim_violation(node->sim, "%s stood in term %llu for \"%s\", now in %llu for \"%s\"",
                          node->name, (unsigned long long)own->term, own->voted_for,
                          (unsigned long long)state->term, state->voted_for);
        }
    }
    own->incarnation = state->incarnation;
    own->term = state->term;
    strcpy(own->voted_for, state->voted_for);
    note_vote(node);
}

/* ---- commits ---- */

/* Whether this incarnation of the node had the entry, or what it did, on its disk. */
static bool has_held(const struct sim_check *check, int id, uint64_t incarnation, raft_index index,
                     raft_term term)
{
    const struct place *place = &check->places[index];
    if (check->nodes[id].incarnation == incarnation && check->nodes[id].durable_applied >= index) {
        return true;
    }
    for (size_t i = 0; i < place->seen_count; i++) {
        if (place->seen[i].term == term && place->seen[i].holders[id] == incarnation) {
            return true;
        }
    }
    return false;
}

/* What is committed is on the disks of a majority of members that count. */
static void check_quorum(struct sim_node *node, raft_index index, raft_term term)
{
    struct sim *sim = node->sim;
    const struct sim_check *check = sim->check;
    int holders = 0;
    for (int i = 0; i < sim->levels.node_count; i++) {
        holders += has_held(check, i, check->config.incarnations[i], index, term);
    }
    if (holders <= sim->levels.node_count / 2) {
        sim_violation(sim, "%s commits %llu of term %llu, which only %d members hold", node->name,
                      (unsigned long long)index, (unsigned long long)term, holders);
    }
}

/* GENESIS counts at once, an ADMIT when it is committed: without the one that it admits. */
static void commit_change(struct sim_node *node, raft_index index, const struct wal_entry *entry)
{
    struct sim_check *check = node->sim->check;
    struct raft_change change;
    CHECK(node_change_decode(node->node, entry->data, &change) == 0);
    if (change.kind == RAFT_CHANGE_GENESIS) {
        raft_config_apply(&check->config, &change);
        for (int i = 0; i < node->sim->levels.node_count; i++) {
            note_admitted(check, change.incarnations[i]);
        }
        check->complete = check->config;
        check_quorum(node, index, entry->term);
        return;
    }
    check_quorum(node, index, entry->term);
    if (check->config.incarnations[change.member] == change.incarnation) {
        raft_config_apply(&check->complete, &change); /* membership.c: each comes twice */
    }
    raft_config_apply(&check->config, &change);
    note_admitted(check, change.incarnation);
}

/* False if its disk has died before the entry could be read. */
static bool commit_entry(struct sim_node *node, raft_index index, raft_term commit_term)
{
    struct sim *sim = node->sim;
    struct sim_check *check = sim->check;
    struct place *place = place_at(check, index);
    raft_term term = wal_term(node->boot.wal, index);
    if (place->is_committed) {
        if (place->term != term) {
            sim_violation(sim,
                          "state machine safety: entry %llu was committed in term %llu, %s "
                          "commits that of term %llu",
                          (unsigned long long)index, (unsigned long long)place->term, node->name,
                          (unsigned long long)term);
        }
        place->commit_term = commit_term < place->commit_term ? commit_term : place->commit_term;
        return true;
    }
    if (index != check->committed + 1) {
        sim_violation(sim, "%s commits %llu, but %llu is the last that is committed", node->name,
                      (unsigned long long)index, (unsigned long long)check->committed);
    }
    struct wal_entry entry;
    if (!read_entry(node, index, &entry)) {
        return false;
    }
    place->is_committed = true;
    place->term = entry.term;
    place->commit_term = commit_term;
    check->committed = index;
    sim_note(sim, checksum_entry(&entry) ^ entry.term);
    if (entry.type == RAFT_ENTRY_CONFIG_CHANGE) {
        commit_change(node, index, &entry);
        return true;
    }
    check_quorum(node, index, entry.term);
    if (entry.data.size > 0) {
        apply_command(check, index, entry.data);
    }
    return true;
}

static void check_commits(struct sim_node *node, struct node_check *own,
                          const struct node_status *status)
{
    struct sim_check *check = node->sim->check;
    raft_index commit = status->raft.commit_index;
    raft_index first = wal_first_index(node->boot.wal);
    for (raft_index i = own->commit + 1; i <= commit; i++) {
        if (i >= first) {
            if (!commit_entry(node, i, status->raft.term)) {
                return;
            }
        } else if (i > check->committed) {
            sim_violation(node->sim, "%s has a snapshot of what nobody has committed: %llu",
                          node->name, (unsigned long long)i);
        }
    }
    /* Raft 5.4.2: a leader counts replicas of entries of its own term only. */
    bool is_counting = own->was_leader && own->leader_term == status->raft.term &&
                       status->raft.role == RAFT_LEADER && commit > own->commit;
    if (is_counting && wal_term(node->boot.wal, commit) != status->raft.term) {
        sim_violation(node->sim, "%s counts %llu of an older term", node->name,
                      (unsigned long long)commit);
    }
    own->commit = commit;
}

static void check_applied(struct sim_node *node, const struct node_status *status)
{
    struct sim *sim = node->sim;
    struct store_meta meta;
    chat_get_meta(node->boot.chat, &meta);
    raft_index applied = status->applied_index;
    if (applied > status->raft.commit_index || meta.applied_index != applied ||
        status->durable_applied_index > applied) {
        sim_violation(sim, "%s: commit %llu, applied %llu, state %llu, durable %llu", node->name,
                      (unsigned long long)status->raft.commit_index, (unsigned long long)applied,
                      (unsigned long long)meta.applied_index,
                      (unsigned long long)status->durable_applied_index);
    }
    if (applied == 0) {
        return;
    }
    struct place *place = place_at(sim->check, applied);
    if (place->result_hash != 0 && place->result_hash != meta.result_hash) {
        sim_violation(sim, "state machine safety: %s has other results up to %llu", node->name,
                      (unsigned long long)applied);
    }
    place->result_hash = meta.result_hash;
    bool is_full = meta.content_from % CHAT_HASH_ENTRIES == 0 && meta.content_from < applied;
    if (is_full && place->content_hash != 0 && place->content_hash != meta.content_hash) {
        sim_violation(sim, "state machine safety: %s has written something else up to %llu",
                      node->name, (unsigned long long)applied);
    }
    place->content_hash = is_full ? meta.content_hash : place->content_hash;
    if (status->is_diverged) {
        sim_violation(sim, "%s says that it has applied something else", node->name);
    }
}

/* ---- leaders ---- */

static void check_completeness(struct sim_node *node, raft_term term)
{
    struct sim_check *check = node->sim->check;
    const struct wal *wal = node->boot.wal;
    for (raft_index i = wal_first_index(wal); i <= check->committed; i++) {
        const struct place *place = &check->places[i];
        if (place->commit_term < term && wal_term(wal, i) != place->term) {
            sim_violation(node->sim, "leader completeness: %s leads in term %llu without %llu",
                          node->name, (unsigned long long)term, (unsigned long long)i);
        }
    }
}

static bool was_admitted(const struct sim_check *check, uint64_t incarnation)
{
    for (size_t i = 0; i < check->admitted_count; i++) {
        if (check->admitted[i] == incarnation) {
            return true;
        }
    }
    return check->admitted_count == 0;
}

/* Whoever leads has the durable votes of a majority of members that were admitted. */
static void check_votes(struct sim_node *node, raft_term term)
{
    struct sim *sim = node->sim;
    const struct sim_check *check = sim->check;
    uint32_t voters = 0;
    for (size_t i = 0; i < check->vote_count; i++) {
        const struct vote *vote = &check->votes[i];
        bool is_for = vote->term == term ? vote->candidate == node->id
                                         : vote->from <= term && term < vote->term;
        if (is_for && was_admitted(check, vote->incarnation)) {
            voters |= 1u << vote->voter;
        }
    }
    if (__builtin_popcount(voters) <= sim->levels.node_count / 2) {
        sim_violation(sim, "%s leads in term %llu by %d votes that count", node->name,
                      (unsigned long long)term, __builtin_popcount(voters));
    }
}

static void check_leader(struct sim_node *node, struct node_check *own,
                         const struct raft_status *status)
{
    struct sim_check *check = node->sim->check;
    bool is_leader = status->role == RAFT_LEADER;
    if (!is_leader || (own->was_leader && own->leader_term == status->term)) {
        own->was_leader = is_leader;
        return;
    }
    size_t before = check->leaders_count;
    check->leaders =
        grow(check->leaders, &check->leaders_count, status->term + 1, sizeof(*check->leaders));
    for (size_t i = before; i < check->leaders_count; i++) {
        check->leaders[i] = RAFT_NO_MEMBER;
    }
    raft_member *leader = &check->leaders[status->term];
    if (*leader != RAFT_NO_MEMBER) {
        sim_violation(node->sim, "election safety: n%d and %s lead in term %llu", *leader,
                      node->name, (unsigned long long)status->term);
    }
    sim_trace(node->sim, "%s leads in term %llu, log to %llu", node->name,
              (unsigned long long)status->term, (unsigned long long)wal_last_index(node->boot.wal));
    *leader = node->id;
    own->was_leader = true;
    own->leader_term = status->term;
    check_votes(node, status->term);
    check_completeness(node, status->term);
}

void sim_check_turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct node_check *own = &sim->check->nodes[node->id];
    struct node_status status;
    node_get_status(node->node, &status);
    if (own->life != node->life) {
        own->life = node->life;
        own->last = 0;
        own->commit = 0;
        own->was_leader = false;
    }
    own->is_known = !node->is_dying;
    if (node->is_dying) {
        /* Its last write may be done or not; what it did before, others may know. */
        node->disk.is_examined = true;
        note_vote(node);
        check_log(node, own);
        check_commits(node, own, &status);
        node->disk.is_examined = false;
        return;
    }
    check_hard_state(node, own);
    check_log(node, own);
    check_leader(node, own, &status.raft);
    check_commits(node, own, &status);
    check_applied(node, &status);
    if (sim->check->complete.incarnations[node->id] == own->incarnation) {
        node->is_damaged = false;
    }
    sim_note(sim, status.raft.term << 32 ^ status.applied_index);
    if (sim->is_tracing) {
        static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
        sim_trace(sim, "%s %s term %llu leader %d last %llu commit %llu applied %llu durable %llu",
                  node->name, roles[status.raft.role], (unsigned long long)status.raft.term,
                  status.raft.leader, (unsigned long long)status.raft.last_index,
                  (unsigned long long)status.raft.commit_index,
                  (unsigned long long)status.applied_index,
                  (unsigned long long)status.durable_applied_index);
    }
}

/* A start without damage finds what the last turn left, and so does one with damage if the node
 * does not take another incarnation. */
void sim_check_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct node_check *own = &sim->check->nodes[node->id];
    const struct wal *wal = node->boot.wal;
    bool is_same = own->incarnation == wal_hard_state(wal)->incarnation;
    if (own->incarnation == 0) {
        return;
    }
    if (!is_same && !node->is_damaged) {
        sim_violation(sim, "%s finds damage that nobody made, and starts anew", node->name);
    }
    raft_index durable = chat_durable_applied(node->boot.chat);
    /* What it had done when it died is not known; but what was committed before it had to keep. */
    raft_index kept = own->last;
    if (!own->is_known && own->commit < kept) {
        kept = own->commit;
    }
    bool has_kept =
        kept <= durable || (wal_last_index(wal) >= kept && wal_term(wal, kept) == own->terms[kept]);
    if (is_same && !has_kept) {
        sim_violation(sim, "%s had entry %llu, starts with %llu, and takes itself for whole",
                      node->name, (unsigned long long)kept,
                      (unsigned long long)wal_last_index(wal));
    }
}

void sim_check_down(struct sim_node *node)
{
    node->sim->check->nodes[node->id].was_leader = false;
}

/* ---- looking ---- */

raft_index sim_check_committed(const struct sim *sim)
{
    return sim->check->committed;
}

bool sim_check_config(const struct sim *sim, struct raft_config *out)
{
    *out = sim->check->complete;
    return out->is_founded;
}

raft_index sim_check_channel_created(const struct sim *sim, unsigned channel)
{
    return sim->check->channels[channel].created;
}

sim_operation sim_check_channel_creator(const struct sim *sim, unsigned channel)
{
    return sim->check->channels[channel].creator;
}

uint64_t sim_check_channel_end(const struct sim *sim, unsigned channel)
{
    return sim->check->channels[channel].messages.count;
}

raft_index sim_check_message_index(const struct sim *sim, unsigned channel, uint64_t sequence)
{
    const struct history *messages = &sim->check->channels[channel].messages;
    return sequence == 0 || sequence > messages->count ? 0 : messages->items[sequence - 1].index;
}

sim_operation sim_check_message(const struct sim *sim, unsigned channel, uint64_t sequence)
{
    const struct history *messages = &sim->check->channels[channel].messages;
    return sequence == 0 || sequence > messages->count ? 0
                                                       : messages->items[sequence - 1].operation;
}

bool sim_check_find(const struct sim *sim, sim_operation operation, raft_index *index,
                    uint64_t *sequence)
{
    if (operation >= sim->check->effects_count || sim->check->effects[operation].index == 0) {
        return false;
    }
    *index = sim->check->effects[operation].index;
    *sequence = sim->check->effects[operation].sequence;
    return true;
}

unsigned sim_check_count(const struct sim *sim, sim_operation operation)
{
    return operation < sim->check->effects_count ? sim->check->effects[operation].count : 0;
}

raft_index sim_check_value_index(const struct sim *sim, unsigned key, sim_operation value,
                                 raft_index from)
{
    const struct history *history = &sim->check->values[key];
    sim_operation now = 0;
    raft_index since = 1;
    for (size_t i = 0; i <= history->count; i++) {
        raft_index until = i < history->count ? history->items[i].index - 1 : SIM_NEVER;
        if (now == value && until >= from && until >= since) {
            return since > from ? since : from;
        }
        if (i < history->count) {
            now = history->items[i].operation;
            since = history->items[i].index;
        }
    }
    return 0;
}

raft_index sim_check_delete_index(const struct sim *sim, unsigned key, raft_index from)
{
    const struct history *history = &sim->check->values[key];
    for (size_t i = 0; i < history->count; i++) {
        if (history->items[i].operation == 0 && history->items[i].index >= from) {
            return history->items[i].index;
        }
    }
    return 0;
}

/* ---- the end ---- */

const char *sim_check_unsettled(struct sim *sim)
{
    raft_member leader = RAFT_NO_MEMBER;
    raft_term term = 0;
    for (int i = 0; i < sim->levels.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct node_status status;
        if (!node->is_up) {
            return "a node is down";
        }
        node_get_status(node->node, &status);
        if (!status.raft.is_whole) {
            return "a node is not whole";
        }
        bool is_same = i == 0 || (status.raft.leader == leader && status.raft.term == term);
        if (status.raft.leader == RAFT_NO_MEMBER || !is_same) {
            return "there is no leader that all know";
        }
        leader = status.raft.leader;
        term = status.raft.term;
        if (status.applied_index != sim->check->committed ||
            status.raft.last_index != sim->check->committed) {
            return "a node is behind";
        }
        if (!status.is_ready) {
            return "a node is not ready";
        }
    }
    return NULL;
}

void sim_check_equal(struct sim *sim)
{
    uint64_t first = 0;
    for (int i = 0; i < sim->levels.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct chat *chat = node->boot.chat;
        for (int n = 0; n < 3 && chat_durable_applied(chat) < chat_applied(chat); n++) {
            int rc = chat_flush(chat, CHAT_FLUSH_NOW, sim_node_local_ns(node));
            CHECK(rc == 0);
        }
        uint64_t digest = 0;
        struct store_meta meta;
        struct chat_backing *backing = chat_hold_store(chat);
        int rc = store_digest(chat_backing_store(backing), &digest, &meta);
        chat_release_store(chat, backing);
        if (rc != 0 || meta.message_count != sim->check->message_count) {
            sim_violation(sim, "the store of %s is wrong: %s, %llu messages of %llu", node->name,
                          error_text(rc), (unsigned long long)meta.message_count,
                          (unsigned long long)sim->check->message_count);
        }
        if (i > 0 && digest != first) {
            sim_violation(sim, "the stores of n0 and %s differ", node->name);
        }
        first = digest;
        sim_note(sim, digest);
    }
}

/* ---- life ---- */

void sim_check_create(struct sim *sim)
{
    sim->check = calloc(1, sizeof(*sim->check));
    CHECK(sim->check != NULL);
}

void sim_check_destroy(struct sim *sim)
{
    struct sim_check *check = sim->check;
    for (size_t i = 0; i < check->capacity; i++) {
        free(check->places[i].seen);
    }
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        free(check->nodes[i].terms);
    }
    for (int i = 0; i < SIM_CHANNELS_MAX; i++) {
        free(check->channels[i].messages.items);
    }
    for (int i = 0; i < SIM_KEYS_MAX; i++) {
        free(check->values[i].items);
    }
    free(check->places);
    free(check->votes);
    free(check->leaders);
    free(check->effects);
    free(check);
}
