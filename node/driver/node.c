/* The node's creation and end. */
#include "driver/node.h"

#include "base/check.h"
#include "base/errors.h"
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
                 "the log holds entries %llu to %llu, but the store ends at %llu",
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

/* Loads the membership changes after applied_index. When there are more than RAFT_CONFIGS_MAX, the
 * oldest are folded into the config of the core: never more than that are uncommitted. */
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
                    !cluster_id_is_set(state->cluster_id),
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
        snprintf(error, error_size,
                 "the log holds term %llu, but no cluster exceeds %llu: an earlier version took "
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
                "log and store hold impossible indexes: entries to %llu, applied to %llu; move the "
                "data_dir away: the other nodes fill an empty one",
                (unsigned long long)options.last_index, (unsigned long long)options.applied_index);
        }
    }
    free(list);
    node_core_init(node, options.is_fresh);
    return rc;
}

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
    random_seed(&node->random, options->seed);
    node->applied_index = chat_durable_applied(node->chat);
    node_inbox_init(node);
    node_requests_init(node);
    node_reads_init(node);
    node_forwarding_init(node);
    node_leadership_init(node);
    node_progress_init(node);
    node_compaction_init(node);
    node_status_init(node);
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
    node_publish_status(node);
    *out = node;
    return 0;
}

void node_destroy(struct node *node)
{
    if (node == NULL) {
        return;
    }
    node_inbox_finish(node);
    node_requests_finish(node);
    node_reads_finish(node);
    node_snapshots_finish(node);
    node_core_finish(node);
    node_turns_finish(node);
    node_status_finish(node);
    raft_destroy(node->raft);
    buf_finish(&node->encode_scratch);
    free(node->entry_scratch);
    free(node->node_ids);
    free(node);
}

const char *node_fatal(const struct node *node)
{
    return node->fatal[0] == '\0' ? NULL : node->fatal;
}
