/* The driver's turn: inbox, steps, log, apply, status. */
#include "driver/node.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the core's view of the log ---- */

static raft_index view_first(void *context)
{
    return wal_first_index(context);
}

static raft_term view_term(void *context, raft_index index)
{
    return wal_term(context, index);
}

static raft_index view_fit(void *context, raft_index first, raft_index last_max, uint64_t bytes_max,
                           uint64_t *bytes)
{
    return wal_fit(context, first, last_max, bytes_max, bytes);
}

/* ---- create ---- */

static int copy_members(struct node *node)
{
    size_t count = (size_t)node->options.member_count;
    node->node_ids = calloc(count, sizeof(*node->node_ids));
    if (node->node_ids == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const char *id = node->options.members[i].node_id;
        CHECK(strlen(id) <= CLUSTER_NODE_ID_BYTES_MAX);
        CHECK(i == 0 || strcmp(node->options.members[i - 1].node_id, id) < 0);
        strcpy(node->node_ids[i], id);
    }
    node->options.members = NULL;
    return 0;
}

static raft_member member_by_id(const struct node *node, const char *id)
{
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (strcmp(node->node_ids[member], id) == 0) {
            return member;
        }
    }
    return RAFT_NO_MEMBER;
}

/* Two nodes on copies of one data_dir would vote twice. */
static int check_owner(const struct node *node, char *error, size_t error_size)
{
    uint64_t incarnation = wal_hard_state(node->wal)->incarnation;
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (member != node->self && node->config.incarnations[member] == incarnation) {
            snprintf(error, error_size,
                     "the data belongs to node \"%s\": give this node its own data_dir",
                     node->node_ids[member]);
            return ERR_FOREIGN;
        }
    }
    return 0;
}

static int load_config(struct node *node, char *error, size_t error_size)
{
    struct store_meta meta;
    chat_get_meta(node->chat, &meta);
    if (meta.config_size == 0) {
        return 0;
    }
    struct bytes data = {meta.config, meta.config_size};
    int rc = node_config_decode(node, data, &node->config);
    if (rc == ERR_FOREIGN) {
        snprintf(error, error_size,
                 "the data belongs to a cluster of other node ids: the peers in the configuration "
                 "must keep their ids");
    } else if (rc != 0) {
        snprintf(error, error_size, "the stored membership cannot be read: %s", error_text(rc));
    }
    return rc == 0 ? check_owner(node, error, error_size) : rc;
}

int node_check_fit(const struct wal *wal, const struct chat *chat, char *error, size_t error_size)
{
    struct store_meta meta;
    chat_get_durable_meta(chat, &meta);
    raft_index durable = meta.applied_index;
    raft_index first = wal_first_index(wal);
    raft_index last = wal_last_index(wal);
    if (first > durable + 1 || last < durable) {
        snprintf(error, error_size,
                 "the log holds entries %llu to %llu, but the store stands at %llu",
                 (unsigned long long)first, (unsigned long long)last, (unsigned long long)durable);
        return ERR_CORRUPT;
    }
    raft_term term = wal_term(wal, durable);
    if (durable > 0 && term != meta.applied_term) {
        snprintf(error, error_size, "entry %llu has term %llu in the log and %llu in the store",
                 (unsigned long long)durable, (unsigned long long)term,
                 (unsigned long long)meta.applied_term);
        return ERR_CORRUPT;
    }
    return 0;
}

struct change_list {
    struct raft_change changes[RAFT_CONFIGS_MAX];
    raft_index indexes[RAFT_CONFIGS_MAX];
    size_t count;
};

/* The config changes behind what is applied. When there are too many, the oldest are folded into
 * the config of the core: more than RAFT_CONFIGS_MAX are never uncommitted. */
static int load_changes(struct node *node, struct raft_config *config, struct change_list *list,
                        char *error, size_t error_size)
{
    raft_index last = wal_last_index(node->wal);
    for (raft_index index = node->applied_index + 1; index <= last; index++) {
        struct wal_entry entry;
        int rc = wal_read(node->wal, index, &entry);
        struct raft_change change;
        if (rc == 0 && entry.type == RAFT_ENTRY_CONFIG_CHANGE) {
            rc = node_change_decode(node, entry.data, &change);
        }
        if (rc != 0) {
            snprintf(error, error_size, "log entry %llu: %s", (unsigned long long)index,
                     rc == ERR_FOREIGN ? "it names nodes that are not among the peers"
                                       : error_text(rc));
            return rc;
        }
        if (entry.type != RAFT_ENTRY_CONFIG_CHANGE) {
            continue;
        }
        if (list->count == RAFT_CONFIGS_MAX) {
            raft_config_apply(config, &list->changes[0]);
            list->count--;
            memmove(list->changes, list->changes + 1, list->count * sizeof(list->changes[0]));
            memmove(list->indexes, list->indexes + 1, list->count * sizeof(list->indexes[0]));
        }
        list->changes[list->count] = change;
        list->indexes[list->count++] = index;
    }
    return 0;
}

static int create_core(struct node *node, char *error, size_t error_size)
{
    const struct wal_hard_state *state = wal_hard_state(node->wal);
    CHECK(state->incarnation != 0);
    struct raft_options options = {
        .self = node->self,
        .member_count = node->options.member_count,
        .election_timeout_ns = node->options.election_timeout_ns,
        .heartbeat_interval_ns = node->options.heartbeat_interval_ns,
        .seed = node->options.seed,
        .log = {.context = node->wal, .first = view_first, .term = view_term, .fit = view_fit},
        .term = state->term,
        .voted_for =
            state->voted_for[0] == '\0' ? RAFT_NO_MEMBER : member_by_id(node, state->voted_for),
        .last_index = wal_last_index(node->wal),
        .applied_index = node->applied_index,
        .config = node->config,
        .incarnation = state->incarnation,
        .is_fresh = wal_last_index(node->wal) == 0 && !state->is_recovering &&
                    !raft_cluster_id_is_set(state->cluster_id),
        .is_eligible = true,
        .now_ns = node->now_ns,
    };
    if (state->voted_for[0] != '\0' && options.voted_for == RAFT_NO_MEMBER) {
        snprintf(error, error_size, "the log holds a vote for \"%s\", which is not among the peers",
                 state->voted_for);
        return ERR_FOREIGN;
    }
    memcpy(options.new_cluster_id, node->options.new_cluster_id, sizeof(options.new_cluster_id));
    raft_term last_term = options.last_index == 0 ? 0 : wal_term(node->wal, options.last_index);
    raft_term term = options.term > last_term ? options.term : last_term;
    if (term > RAFT_TERM_MAX) {
        snprintf(
            error, error_size,
            "the log holds term %llu, but no cluster gets beyond %llu: an earlier version took "
            "it from a forged message; move the data_dir away: the other nodes fill an empty "
            "one",
            (unsigned long long)term, (unsigned long long)RAFT_TERM_MAX);
        return ERR_INVALID;
    }
    struct change_list *list = calloc(1, sizeof(*list));
    if (list == NULL) {
        return ERR_NOMEM;
    }
    int rc = load_changes(node, &options.config, list, error, error_size);
    if (rc == 0) {
        options.changes = list->changes;
        options.change_indexes = list->indexes;
        options.change_count = list->count;
        rc = raft_create(&options, &node->raft);
        if (rc == ERR_INVALID) {
            snprintf(
                error, error_size,
                "log and store hold what cannot be: entries to %llu, applied to %llu; move the "
                "data_dir away: the other nodes fill an empty one",
                (unsigned long long)options.last_index, (unsigned long long)options.applied_index);
        }
    }
    free(list);
    node->was_not_fresh = !options.is_fresh;
    return rc;
}

static void init_lists(struct node *node)
{
    struct list *lists[] = {&node->inbox_requests, &node->inbox_events, &node->inbox_jobs,
                            &node->waiting,        &node->pending,      &node->forwarded,
                            &node->reads_new,      &node->reads_asked,  &node->reads_indexed,
                            &node->transfers,      &node->answered,     &node->finished};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
}

static void publish_status(struct node *node);

int node_create(const struct node_options *options, struct node **out, char *error,
                size_t error_size)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return ERR_NOMEM;
    }
    node->options = *options;
    node->wal = options->wal;
    node->chat = options->chat;
    node->self = options->self;
    node->now_ns = clock_monotonic_ns(options->clock);
    node->leader = RAFT_NO_MEMBER;
    node->heard_leader = RAFT_NO_MEMBER;
    node->leaderless_since_ns = node->now_ns;
    node->expire_at_ns = UINT64_MAX;
    /* A leader may still answer what an earlier process of this node forwarded: no id of ours may
     * be one of those. */
    random_seed(&node->random, options->seed);
    node->next_forward_id = options->seed;
    node->next_read_id = options->seed >> 1; /* likewise; the core wants them to increase */
    node->is_eligible = true;
    node->applied_index = chat_durable_applied(node->chat);
    node->commit_index = node->applied_index;
    node->compacted_at = wal_first_index(node->wal) - 1;
    node->compact_at_ns = node->now_ns + options->snapshot_interval_ns;
    node->compact_at_bytes = wal_bytes(node->wal) + NODE_COMPACT_BYTES;
    init_lists(node);
    pthread_mutex_init(&node->inbox_lock, NULL);
    pthread_mutex_init(&node->status_lock, NULL);
    node->entry_scratch = calloc(RAFT_APPEND_ENTRIES_MAX, sizeof(*node->entry_scratch));
    int rc = node->entry_scratch == NULL ? ERR_NOMEM : copy_members(node);
    if (rc == 0) {
        rc = load_config(node, error, error_size);
    }
    if (rc == 0) {
        rc = node_check_fit(node->wal, node->chat, error, error_size);
    }
    if (rc == 0) {
        rc = create_core(node, error, error_size);
    }
    if (rc != 0) {
        if (rc == ERR_NOMEM) {
            snprintf(error, error_size, "%s", error_text(rc));
        }
        node_destroy(node);
        return rc;
    }
    node->raft_deadline_ns = node->now_ns;
    publish_status(node);
    *out = node;
    return 0;
}

void node_attach(struct node *node, struct transport *transport)
{
    node->transport = transport;
    if (node->was_not_fresh) {
        transport->ops->set_not_fresh(transport);
    }
    if (node->config.is_founded) {
        transport->ops->set_cluster_id(transport, node->config.cluster_id);
    }
    /* A node alone would campaign in its first turn, and have no room to note it down. The log is
     * not cut for it: that may fail, which only a turn can tell. */
    node->cut_retry_ns = UINT64_MAX;
    node_look_for_room(node);
    node->cut_retry_ns = 0;
}

static void free_groups(struct list *groups)
{
    struct list *link;
    while ((link = list_pop_front(groups)) != NULL) {
        struct read_group *group = LIST_ENTRY(link, struct read_group, link);
        CHECK(list_is_empty(&group->requests));
        free(group);
    }
}

void node_destroy(struct node *node)
{
    if (node == NULL) {
        return;
    }
    CHECK(list_is_empty(&node->inbox_requests));
    CHECK(list_is_empty(&node->pending));
    CHECK(list_is_empty(&node->waiting));
    struct list *link;
    while ((link = list_pop_front(&node->inbox_events)) != NULL) {
        struct peer_event *event = LIST_ENTRY(link, struct peer_event, link);
        event->release(event);
    }
    while ((link = list_pop_front(&node->inbox_jobs)) != NULL) {
        node_job_destroy(LIST_ENTRY(link, struct node_job, link));
    }
    buf_finish(&node->served.manifest);
    free_groups(&node->reads_asked);
    free_groups(&node->reads_indexed);
    raft_destroy(node->raft);
    pthread_mutex_destroy(&node->inbox_lock);
    pthread_mutex_destroy(&node->status_lock);
    buf_finish(&node->payload_scratch);
    buf_finish(&node->encode_scratch);
    free(node->held);
    free(node->entry_scratch);
    free(node->change_scratch);
    free(node->node_ids);
    free(node);
}

/* ---- inbox ---- */

bool node_take_room(struct node *node, uint32_t command_size)
{
    uint64_t live = atomic_fetch_add(&node->requests_live, 1) + 1;
    uint64_t bytes = atomic_fetch_add(&node->requests_bytes, command_size) + command_size;
    if (live <= node->options.requests_max && bytes <= NODE_REQUESTS_BYTES_MAX) {
        return true;
    }
    node_give_room(node, command_size);
    return false;
}

void node_give_room(struct node *node, uint32_t command_size)
{
    atomic_fetch_sub(&node->requests_bytes, command_size);
    atomic_fetch_sub(&node->requests_live, 1);
}

int node_submit(struct node *node, struct node_request *request)
{
    if (!node_take_room(node, request->command_size)) {
        return ERR_FULL;
    }
    pthread_mutex_lock(&node->inbox_lock);
    bool is_closed = node->is_closed;
    if (!is_closed) {
        list_push_back(&node->inbox_requests, &request->link);
    }
    pthread_mutex_unlock(&node->inbox_lock);
    if (is_closed) {
        node_give_room(node, request->command_size);
        return ERR_CLOSED;
    }
    node_wake(node);
    return 0;
}

void node_post_event(struct node *node, struct peer_event *event)
{
    pthread_mutex_lock(&node->inbox_lock);
    list_push_back(&node->inbox_events, &event->link);
    pthread_mutex_unlock(&node->inbox_lock);
    node_wake(node);
}

void node_post_job(struct node *node, struct node_job *job)
{
    pthread_mutex_lock(&node->inbox_lock);
    list_push_back(&node->inbox_jobs, &job->link);
    pthread_mutex_unlock(&node->inbox_lock);
    node_wake(node);
}

void node_set_store_full(struct node *node, bool is_full)
{
    atomic_store(&node->is_store_full, is_full);
}

void node_wake(struct node *node)
{
    if (node->options.wake != NULL) {
        node->options.wake(node->options.wake_context);
    }
}

const char *node_fatal(const struct node *node)
{
    return node->fatal[0] == '\0' ? NULL : node->fatal;
}

/* ---- events from peers ---- */

/* Decodes the config changes of an append request. */
static int decode_changes(struct node *node, struct raft_message *message)
{
    uint32_t count = message->append_request.count;
    /* The entries are the event's own memory: only their `change` is filled in here. */
    struct raft_entry *entries = (struct raft_entry *)(uintptr_t)message->append_request.entries;
    size_t changes = 0;
    for (uint32_t i = 0; i < count; i++) {
        changes += entries[i].type == RAFT_ENTRY_CONFIG_CHANGE ? 1 : 0;
    }
    if (changes > node->change_capacity) {
        free(node->change_scratch);
        node->change_scratch = calloc(changes, sizeof(*node->change_scratch));
        node->change_capacity = node->change_scratch == NULL ? 0 : changes;
        if (node->change_scratch == NULL) {
            return ERR_NOMEM;
        }
    }
    size_t next = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].type != RAFT_ENTRY_CONFIG_CHANGE) {
            continue;
        }
        struct bytes data = {entries[i].data, entries[i].size};
        int rc = node_change_decode(node, data, &node->change_scratch[next]);
        if (rc != 0) {
            return rc;
        }
        entries[i].change = &node->change_scratch[next++];
    }
    return 0;
}

/* Entries that this version cannot apply would end this node at each start: not even stored. */
static int check_commands(const struct raft_message *message)
{
    for (uint32_t i = 0; i < message->append_request.count; i++) {
        const struct raft_entry *entry = &message->append_request.entries[i];
        struct bytes data = {entry->data, entry->size};
        if (entry->type == RAFT_ENTRY_COMMAND && command_is_of_newer_version(data)) {
            return ERR_VERSION;
        }
    }
    return 0;
}

static void warn_of_message(struct node *node, raft_member from, const struct raft_message *message,
                            int rc)
{
    char reason[LOG_LIMIT_TEXT_BYTES];
    raft_term term = wal_hard_state(node->wal)->term;
    if (!raft_is_term_plausible(node->raft, message->term, node->now_ns)) {
        snprintf(
            reason, sizeof(reason),
            "its term %llu is implausibly far beyond this node's, %llu: if the other nodes are "
            "right, move this node's data_dir away, and they fill an empty one",
            (unsigned long long)message->term, (unsigned long long)term);
    } else {
        snprintf(reason, sizeof(reason), "%s", error_text(rc));
    }
    uint64_t suppressed;
    if (log_limit_passes(&node->message_faults[from], node->now_ns, reason, &suppressed)) {
        log_warn("node", "a peer sent a message that no correct node sends",
                 LOG_STR("peer", node->node_ids[from]), LOG_STR("reason", reason),
                 LOG_U64("kind", message->kind), LOG_U64("suppressed", suppressed));
    }
}

static void handle_raft_message(struct node *node, raft_member from, struct raft_message *message)
{
    int rc = 0;
    if (!node_has_room_for_message(node, message)) {
        return; /* as if it had been lost on the wire */
    }
    if (message->kind == RAFT_APPEND_REQUEST) {
        rc = check_commands(message);
        rc = rc == 0 ? decode_changes(node, message) : rc;
    }
    if (rc == 0) {
        struct raft_event event = {.kind = RAFT_EVENT_MESSAGE, .message = *message};
        event.message.peer = from;
        rc = node_step(node, &event);
    }
    if (rc != 0) {
        warn_of_message(node, from, message, rc);
        return;
    }
    if (message->kind == RAFT_APPEND_REQUEST && message->term >= node->heard_term) {
        node->heard_leader = from;
        node->heard_term = message->term;
        node->heard_commit = message->append_request.commit;
        node->heard_ns = node->now_ns;
    }
}

static void handle_messages(struct node *node, struct peer_event *event)
{
    for (size_t i = 0; i < event->messages.count && node->fatal[0] == '\0'; i++) {
        struct peer_message *message = &event->messages.items[i];
        switch (message->kind) {
        case PEER_MESSAGE_RAFT:
            handle_raft_message(node, event->peer, &message->raft);
            break;
        case PEER_MESSAGE_FORWARD_REQUEST:
            node_forward_request(node, event->peer, message);
            break;
        case PEER_MESSAGE_FORWARD_RESPONSE:
            node_forward_response(node, message);
            break;
        case PEER_MESSAGE_APPLY_HASH:
            node_compare_checkpoint(node, event->peer,
                                    &(struct checkpoint){message->apply_hash.index,
                                                         message->apply_hash.hash,
                                                         message->apply_hash.contents});
            break;
        }
    }
}

static void handle_stream(struct node *node, const struct peer_event *event,
                          enum raft_event_kind kind)
{
    struct raft_event step = {
        .kind = kind,
        .stream = {.peer = event->peer, .epoch = event->epoch},
    };
    if (event->kind == PEER_EVENT_HELLO) {
        step.stream.incarnation = event->hello.incarnation;
        step.stream.is_fresh = event->hello.is_fresh;
    }
    (void)node_step(node, &step);
}

/* Answers to what we forwarded may have been on the stream that ended. The end of one that another
 * has replaced comes late, and says nothing new. */
static void note_stream(struct node *node, const struct peer_event *event, bool is_up)
{
    struct peer_stream_state *stream = &node->streams[event->peer];
    if (is_up || event->epoch == stream->epoch) {
        node_peer_lost(node, event->peer, NULL);
        *stream = (struct peer_stream_state){.is_up = is_up, .epoch = event->epoch};
    }
}

/* The unary calls of the reference document: the truth, and no change. */
static void answer_query(struct node *node, struct peer_event *event)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    struct peer_answer answer = {.term = status.term, .last_log_index = status.last_index};
    const struct raft_message *request = &event->query.request->raft;
    if (request->kind == RAFT_VOTE_REQUEST) {
        answer.granted_or_success = request->vote_request.is_pre_vote &&
                                    raft_would_grant(node->raft, request, node->now_ns);
    }
    event->query.answer(event, &answer);
}

static void handle_event(struct node *node, struct peer_event *event)
{
    switch (event->kind) {
    case PEER_EVENT_MESSAGES:
        handle_messages(node, event);
        break;
    case PEER_EVENT_HELLO:
        note_stream(node, event, true);
        handle_stream(node, event, RAFT_EVENT_PEER_HELLO);
        break;
    case PEER_EVENT_STREAM_LOST:
        note_stream(node, event, false);
        handle_stream(node, event, RAFT_EVENT_STREAM_LOST);
        break;
    case PEER_EVENT_DIAL_UP:
        handle_stream(node, event, RAFT_EVENT_DIAL_UP);
        node->forward_retry_ns = 0;
        break;
    case PEER_EVENT_DIAL_LOST:
        node_peer_lost(node, event->peer, &event->dial_lost.unsent);
        handle_stream(node, event, RAFT_EVENT_DIAL_LOST);
        break;
    case PEER_EVENT_DIAL_REFUSED:
        handle_stream(node, event, RAFT_EVENT_DIAL_REFUSED);
        break;
    case PEER_EVENT_QUERY:
        answer_query(node, event);
        break;
    case PEER_EVENT_SNAPSHOT_OFFER:
    case PEER_EVENT_SNAPSHOT_CHUNK:
    case PEER_EVENT_SNAPSHOT_LOST:
    case PEER_EVENT_SNAPSHOT_READY:
    case PEER_EVENT_SNAPSHOT_ENDED:
        if (node_snapshot_event(node, event)) {
            return;
        }
        break;
    }
    event->release(event);
}

/* ---- leader, readiness, status ---- */

static void follow_leader(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    if (status.leader == node->leader && status.term == node->leader_term) {
        return;
    }
    raft_member before = node->leader;
    node->leader = status.leader;
    node->leader_term = status.term;
    node->is_majority_full = false;
    node->is_leader_leaving = false;
    node->is_changed = true;
    node_leader_changed(node);
    if (status.leader == RAFT_NO_MEMBER) {
        if (before == node->self) {
            node->name_until_ns = node->now_ns + NODE_NAME_WAIT_NS;
        }
        if (before != RAFT_NO_MEMBER) {
            node->leaderless_since_ns = node->now_ns;
            log_info("node", "no leader", LOG_U64("term", status.term));
        }
        return;
    }
    node->leaderless_since_ns = 0;
    if (before != status.leader) {
        node->leader_changes++;
        log_info("node", status.leader == node->self ? "this node leads" : "new leader",
                 LOG_STR("leader", node->node_ids[status.leader]), LOG_U64("term", status.term));
    }
}

/* As far as this node knows. */
static raft_index known_commit(const struct node *node)
{
    bool is_more = node->leader != node->self && node->heard_commit > node->commit_index;
    return is_more ? node->heard_commit : node->commit_index;
}

static const char *why_still(const struct node *node)
{
    if (node->is_log_full) {
        return "its disk has no room for the log";
    }
    if (chat_is_overfull(node->chat)) {
        return atomic_load(&node->is_store_full) ? "the store is full" : "the store takes nothing";
    }
    return node->receiving.is_active ? "a snapshot is on its way"
                                     : "it does not get the entries that are missing";
}

/* A node that lags behind and does not get on cannot vouch for anything: it says so, and lets its
 * callers go to others. */
static void look_for_progress(struct node *node)
{
    bool is_level = node->applied_index >= known_commit(node);
    if (is_level || node->still_since_ns == 0 || node->applied_index != node->still_index) {
        node->still_index = node->applied_index;
        node->still_since_ns = is_level ? 0 : node->now_ns;
    }
    uint64_t limit_ns = NODE_STILL_TIMEOUTS * node->options.election_timeout_ns;
    bool is_still = !is_level && node->now_ns >= node->still_since_ns + limit_ns;
    if (is_still == node->is_standing_still) {
        return;
    }
    node->is_standing_still = is_still;
    node->is_changed = true;
    if (is_still) {
        log_warn("node", "this node stands still while others go on",
                 LOG_STR("reason", why_still(node)), LOG_U64("applied_index", node->applied_index),
                 LOG_U64("commit_index", known_commit(node)));
    } else {
        log_info("node", "this node gets on again", LOG_U64("applied_index", node->applied_index));
    }
}

static bool is_caught_up(const struct node *node, const struct raft_status *status)
{
    if (!status->is_whole || node->is_diverged || node->is_store_damaged ||
        node->is_standing_still) {
        return false;
    }
    if (status->role == RAFT_LEADER) {
        return status->is_ready &&
               node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= status->commit_index;
    }
    /* The leader's first word, by which it became known, counts. */
    return node->heard_leader != RAFT_NO_MEMBER && node->heard_leader == status->leader &&
           node->heard_term == status->term &&
           node->now_ns <=
               node->heard_ns + NODE_STILL_TIMEOUTS * node->options.election_timeout_ns &&
           node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= node->heard_commit;
}

static void publish_status(struct node *node)
{
    struct node_status status = {
        .taken_ns = node->now_ns,
        .first_index = wal_first_index(node->wal),
        .applied_index = node->applied_index,
        .durable_applied_index = chat_durable_applied(node->chat),
        .snapshot_index = wal_first_index(node->wal) - 1,
        .leaderless_since_ns = node->leaderless_since_ns,
        .still_since_ns = node->still_since_ns,
        .known_commit = known_commit(node),
        .is_standing_still = node->is_standing_still,
        .is_draining = node->is_draining,
        .is_store_damaged = node->is_store_damaged,
        .is_diverged = node->is_diverged,
        .is_log_full = node->is_log_full,
        .is_store_full = atomic_load(&node->is_store_full),
        .requests_pending = atomic_load(&node->requests_live),
        .proposals_total = node->proposals_total,
        .proposals_pending = node->proposals_pending,
        .proposals_failed = node->proposals_failed,
        .requests_total = node->next_order,
        .reads_total = node->reads_total,
        .leader_changes = node->leader_changes,
        .forwards_total = node->forwards_total,
        .log_bytes = wal_bytes(node->wal),
    };
    wal_get_stats(node->wal, &status.wal);
    raft_get_status(node->raft, node->now_ns, &status.raft);
    /* The log knows it before the entry that says so is known to be committed. */
    memcpy(status.cluster_id,
           status.raft.config.is_founded ? status.raft.config.cluster_id
                                         : wal_hard_state(node->wal)->cluster_id,
           sizeof(status.cluster_id));
    status.is_caught_up = is_caught_up(node, &status.raft);
    status.is_ready = status.is_caught_up && status.raft.leader != RAFT_NO_MEMBER &&
                      status.raft.has_quorum && !node->is_draining;
    pthread_mutex_lock(&node->status_lock);
    bool is_changed = node->is_changed || status.is_ready != node->status.is_ready ||
                      status.raft.has_quorum != node->status.raft.has_quorum ||
                      status.raft.role != node->status.raft.role;
    node->status = status;
    pthread_mutex_unlock(&node->status_lock);
    node->is_changed = false;
    if (is_changed && node->options.on_change != NULL) {
        node->options.on_change(node->options.on_change_context);
    }
}

void node_get_status(const struct node *node, struct node_status *out)
{
    struct node *mutable = (struct node *)(uintptr_t)node;
    pthread_mutex_lock(&mutable->status_lock);
    *out = node->status;
    pthread_mutex_unlock(&mutable->status_lock);
}

void node_get_latencies(const struct node *node, struct node_latencies *out)
{
    latency_read(&node->log_sync_latency, &out->log_sync);
    latency_read(&node->apply_latency, &out->apply);
    latency_read(&node->proposal_latency, &out->proposal);
}

void node_update_eligible(struct node *node)
{
    bool is_sound = !node->is_diverged && !node->is_draining && !node->is_store_damaged;
    bool is_eligible = is_sound && !node->is_log_full && !node->is_stalled;
    /* Its campaign and its first entry are written into the slack. */
    bool is_last_resort =
        is_sound && !is_eligible && wal_has_room(node->wal, NODE_LOG_SLACK_BYTES / 2);
    if (is_eligible == node->is_eligible && is_last_resort == node->is_last_resort &&
        node->is_log_full == node->was_log_full) {
        return;
    }
    node->is_eligible = is_eligible;
    node->is_last_resort = is_last_resort;
    node->was_log_full = node->is_log_full;
    struct raft_event event = {
        .kind = RAFT_EVENT_ELIGIBLE,
        .eligible = {.is_eligible = is_eligible,
                     .is_last_resort = is_last_resort,
                     .is_full = node->is_log_full},
    };
    (void)node_step(node, &event);
}

bool node_is_outvoted(const struct node *node)
{
    return node->is_outvoted;
}

void node_set_damaged(struct node *node)
{
    node->is_store_damaged = true;
    node->is_changed = true;
    node_update_eligible(node);
}

/* Its files are whole, but of an earlier time. It goes on with them under a new incarnation: so it
 * neither votes nor counts until the leader has given it what is missing and has admitted it. */
static void forget_incarnation(struct node *node)
{
    node->has_forgotten = false;
    struct wal_hard_state state = *wal_hard_state(node->wal);
    uint64_t before = state.incarnation;
    while (state.incarnation == before || state.incarnation == 0) {
        state.incarnation = random_next(&node->random);
    }
    state.is_recovering = true;
    log_error(
        "node",
        "this node lacks entries that it had acknowledged (an old copy of its data_dir, or a "
        "disk that lost writes): recovering from the other nodes",
        LOG_STR("leader", node->leader == RAFT_NO_MEMBER ? NULL : node->node_ids[node->leader]),
        LOG_U64("last_index", wal_last_index(node->wal)));
    int rc = wal_stage_hard_state(node->wal, &state);
    if (rc != 0) {
        node_set_fatal(node, "cannot stage the hard state: %s", error_text(rc));
        return;
    }
    struct raft_event event = {.kind = RAFT_EVENT_REBORN,
                               .reborn = {.incarnation = state.incarnation}};
    (void)node_step(node, &event);
    node_save(node); /* before anybody hears of it */
    if (node->fatal[0] == '\0') {
        node->transport->ops->set_incarnation(node->transport, state.incarnation);
    }
    node->is_changed = true;
}

/* A cluster is founded once all members have been seen with empty directories. */
static void say_who_is_missing(struct node *node)
{
    if (node->config.is_founded || node->now_ns < node->missing_log_ns) {
        return;
    }
    bool is_first = node->missing_log_ns == 0;
    node->missing_log_ns = node->now_ns + (is_first ? NS_PER_S : NODE_MISSING_NS);
    if (is_first) {
        return; /* they had no time to come yet */
    }
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    struct buf missing = {0};
    struct buf begun = {0};
    for (raft_member member = 0; member < node->options.member_count; member++) {
        const struct raft_member_status *other = &status.members[member];
        if (member != node->self && !(other->is_connected && other->is_fresh)) {
            struct buf *names = other->is_connected ? &begun : &missing;
            buf_printf(names, "%s%s", names->size == 0 ? "" : ", ", node->node_ids[member]);
        }
    }
    if (begun.size > 0) {
        log_info("node",
                 "waiting for a leader among the nodes that have data, which needs most of them",
                 LOG_STR("have_data", buf_text(&begun)), LOG_STR("missing", buf_text(&missing)));
    } else if (missing.size > 0) {
        log_info("node", "waiting for all nodes to found or join the cluster",
                 LOG_STR("missing", buf_text(&missing)));
    }
    buf_finish(&missing);
    buf_finish(&begun);
}

/* ---- giving leadership away ---- */

static bool is_fit_to_lead(const struct raft_member_status *member)
{
    return member->is_connected && member->is_whole && !member->cannot_lead;
}

bool node_has_successor(const struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (member != node->self && is_fit_to_lead(&status.members[member])) {
            return true;
        }
    }
    return false;
}

void node_give_leadership_away(struct node *node)
{
    struct raft_event event = {.kind = RAFT_EVENT_TRANSFER, .transfer = {.target = RAFT_NO_MEMBER}};
    (void)node_step(node, &event);
}

/* The state machine has stood still for lack of room: the store is full, or its disk hangs. */
static void look_for_stall(struct node *node)
{
    if (!chat_is_full(node->chat)) {
        node->full_since_ns = 0;
    } else if (node->full_since_ns == 0) {
        node->full_since_ns = node->now_ns;
    }
    bool is_stalled =
        node->full_since_ns != 0 &&
        (atomic_load(&node->is_store_full) || node->now_ns >= node->full_since_ns + NODE_STALL_NS);
    if (is_stalled != node->is_stalled) {
        node->is_stalled = is_stalled;
        if (is_stalled) {
            log_warn("node", "the store takes no more: others should lead");
        } else {
            log_info("node", "the store takes more again");
        }
        node_update_eligible(node);
    }
}

/* Somebody who could take over at once: a transfer stops reads and writes while it lasts. */
static bool has_ready_successor(const struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member member = 0; member < node->options.member_count; member++) {
        const struct raft_member_status *other = &status.members[member];
        if (member != node->self && is_fit_to_lead(other) && !other->needs_snapshot &&
            other->match_index + RAFT_APPEND_ENTRIES_MAX >= status.last_index) {
            return true;
        }
    }
    return false;
}

/* A leader that can take no writes, or must not be trusted, leads only while nobody else can. It
 * writes the next term down, too, or its vote would be missing. */
static void leave_if_unfit(struct node *node)
{
    if (node->is_eligible || node->is_draining || node->now_ns < node->leave_retry_ns ||
        raft_can_propose(node->raft) != RAFT_PROPOSE_NOW || !has_ready_successor(node) ||
        !wal_has_room(node->wal, NODE_HARD_STATE_BYTES + wal_staged_bytes(node->wal))) {
        return;
    }
    uint64_t pause_ns = 4 * node->options.election_timeout_ns; /* of which a try may take one */
    node->leave_retry_ns =
        node->now_ns + (pause_ns > NODE_LEAVE_RETRY_NS ? pause_ns : NODE_LEAVE_RETRY_NS);
    node_give_leadership_away(node);
}

/* ---- the turn ---- */

static void take_inbox(struct node *node)
{
    struct list events;
    struct list jobs;
    struct list requests;
    list_init(&events);
    list_init(&jobs);
    list_init(&requests);
    pthread_mutex_lock(&node->inbox_lock);
    list_splice_back(&events, &node->inbox_events);
    list_splice_back(&jobs, &node->inbox_jobs);
    list_splice_back(&requests, &node->inbox_requests);
    pthread_mutex_unlock(&node->inbox_lock);
    struct list *link;
    while ((link = list_pop_front(&events)) != NULL) {
        handle_event(node, LIST_ENTRY(link, struct peer_event, link));
    }
    while ((link = list_pop_front(&jobs)) != NULL) {
        node_snapshot_job_done(node, LIST_ENTRY(link, struct node_job, link));
    }
    follow_leader(node);
    while ((link = list_pop_front(&requests)) != NULL) {
        node_admit(node, LIST_ENTRY(link, struct node_request, link));
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_turn_ns(const struct node *node)
{
    uint64_t next = least(node->raft_deadline_ns, node->expire_at_ns);
    next = least(next, node_push_ns(node));
    if (!list_is_empty(&node->reads_new) && node->leader != RAFT_NO_MEMBER) {
        next = least(next, node->read_retry_ns);
    }
    bool has_more_to_apply =
        node->applied_index < node->commit_index && !chat_is_overfull(node->chat);
    if (has_more_to_apply || !list_is_empty(&node->finished)) {
        return node->now_ns;
    }
    if (!node->config.is_founded) {
        next = least(next, node->missing_log_ns);
    }
    if (node->options.snapshot_interval_ns != 0) {
        next = least(next, node->compact_at_ns);
    }
    next = least(next, node->snapshot_turn_ns);
    if (node->still_since_ns != 0 && !node->is_standing_still) {
        uint64_t limit_ns = NODE_STILL_TIMEOUTS * node->options.election_timeout_ns;
        next = least(next, node->still_since_ns + limit_ns);
    }
    if (!wal_is_marked(node->wal)) {
        next = least(next, node->mark_ns);
    }
    if (node->is_draining) {
        next = least(next, node->now_ns + NODE_RETRY_NS);
    }
    return next;
}

uint64_t node_turn(struct node *node, uint64_t now_ns)
{
    CHECK(node->transport != NULL);
    CHECK(node->fatal[0] == '\0');
    node->now_ns = now_ns > node->now_ns ? now_ns : node->now_ns;
    node->completions = 0;
    node->completing_ns = 0;
    take_inbox(node);
    if (node->fatal[0] != '\0') {
        return now_ns;
    }
    struct raft_event tick = {.kind = RAFT_EVENT_TICK};
    (void)node_step(node, &tick);
    follow_leader(node);
    say_who_is_missing(node);
    look_for_stall(node);
    leave_if_unfit(node);
    node_drain_turn(node);
    node_push_requests(node);
    struct raft_event replicate = {.kind = RAFT_EVENT_REPLICATE};
    (void)node_step(node, &replicate);
    node->snapshot_turn_ns = node_snapshots_turn(node);
    node_save(node);
    if (node->has_forgotten && node->fatal[0] == '\0' &&
        wal_has_room(node->wal, NODE_HARD_STATE_BYTES)) {
        forget_incarnation(node);
    }
    if (node->fatal[0] != '\0') {
        return now_ns;
    }
    follow_leader(node);
    node_apply(node);
    look_for_progress(node);
    node_release_reads(node);
    publish_status(node); /* before done(), so that whoever asks then sees it */
    node_settle_transfers(node);
    node_expire(node);
    node_complete(node);
    node_send_checkpoints(node);
    node->transport->ops->flush(node->transport);
    node_compact(node);
    node_maintain_log(node);
    node_look_for_room(node);
    publish_status(node);
    node_mark_log(node);
    return next_turn_ns(node);
}
