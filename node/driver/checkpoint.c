/* Detects diverging state. Every NODE_CHECKPOINT_ENTRIES entries, each node sends two hashes to the
 * others: of all results so far, and of what the entries since the checkpoint before have written.
 * A node that differs from the leader neither leads nor serves reads. A node that differs from an
 * agreeing majority is wrong, even if it leads: it starts over from the others' state. While no
 * majority agrees, it is not known which node is right, and nothing is discarded. */
#include "base/log.h"
#include "driver/node_internal.h"

static struct checkpoint *at(struct node *node, raft_member member, raft_index index)
{
    return &node->checkpoints
                .kept[member][(index / NODE_CHECKPOINT_ENTRIES) % NODE_CHECKPOINTS_MAX];
}

static bool is_same(const struct checkpoint *a, const struct checkpoint *b)
{
    return a->index == b->index && a->hash == b->hash &&
           (a->contents == b->contents || a->contents == 0 || b->contents == 0);
}

/* Counts the members that have reported this checkpoint. */
static int count_votes(struct node *node, const struct checkpoint *wanted)
{
    int votes = 0;
    for (raft_member member = 0; member < node->options.member_count; member++) {
        votes += is_same(at(node, member, wanted->index), wanted);
    }
    return votes;
}

static bool is_majority(const struct node *node, int votes)
{
    return 2 * votes > node->options.member_count;
}

static void set_diverged(struct node *node, bool is_diverged, raft_index index)
{
    if (node->checkpoints.is_diverged == is_diverged) {
        return;
    }
    node->checkpoints.is_diverged = is_diverged;
    node->is_changed = true;
    const char *text = is_diverged ? "this node's state differs from the leader's"
                                   : "most nodes agree with this one's state";
    uint64_t suppressed;
    log_limit_reset(&node->checkpoints.news);
    if (log_limit_passes(&node->checkpoints.news, node->now_ns, text, &suppressed)) {
        LOG_AT(is_diverged ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "node", text,
               LOG_U64("index", index), LOG_U64("suppressed", suppressed));
    }
    node_update_eligible(node);
}

static void set_outvoted(struct node *node, raft_index index)
{
    if (!node->checkpoints.is_outvoted) {
        log_error("node", "this node's state differs from that of most nodes",
                  LOG_U64("index", index));
        node->checkpoints.is_outvoted = true;
        node_set_damaged(node);
    }
}

static void judge(struct node *node, raft_index index)
{
    const struct checkpoint *own = at(node, node->self, index);
    if (own->index != index) {
        return;
    }
    if (is_majority(node, count_votes(node, own))) {
        set_diverged(node, false, index);
        return;
    }
    for (raft_member member = 0; member < node->options.member_count; member++) {
        const struct checkpoint *said = at(node, member, index);
        if (said->index != index || is_same(said, own)) {
            continue;
        }
        if (is_majority(node, count_votes(node, said))) {
            set_outvoted(node, index);
        }
        if (member == node->leadership.leader) {
            set_diverged(node, true, index);
        }
    }
}

void node_take_checkpoint(struct node *node)
{
    struct store_meta meta;
    chat_get_meta(node->chat, &meta);
    bool is_known = meta.content_from + NODE_CHECKPOINT_ENTRIES == node->applied_index;
    uint64_t contents = meta.content_hash == 0 ? 1 : meta.content_hash;
    *at(node, node->self, node->applied_index) =
        (struct checkpoint){.index = node->applied_index,
                            .hash = meta.result_hash,
                            .contents = is_known ? contents : 0};
}

static void send_checkpoint(struct node *node, const struct checkpoint *own)
{
    struct peer_message message = {
        .kind = PEER_MESSAGE_APPLY_HASH,
        .apply_hash = {.index = own->index, .hash = own->hash, .contents = own->contents}};
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (member != node->self) {
            (void)node->transport->ops->send(node->transport, member, &message);
        }
    }
}

void node_send_checkpoints(struct node *node)
{
    raft_index last = node->applied_index / NODE_CHECKPOINT_ENTRIES * NODE_CHECKPOINT_ENTRIES;
    raft_index kept = NODE_CHECKPOINTS_MAX * NODE_CHECKPOINT_ENTRIES;
    raft_index index =
        last > kept && node->checkpoints.sent < last - kept ? last - kept : node->checkpoints.sent;
    while (index < last) {
        index += NODE_CHECKPOINT_ENTRIES;
        const struct checkpoint *own = at(node, node->self, index);
        if (own->index == index) {
            send_checkpoint(node, own);
            judge(node, index);
        }
    }
    node->checkpoints.sent = index;
}

void node_compare_checkpoint(struct node *node, raft_member from, const struct checkpoint *said)
{
    struct checkpoint *kept = at(node, from, said->index);
    if (said->index % NODE_CHECKPOINT_ENTRIES == 0 && said->index > kept->index) {
        *kept = *said;
        judge(node, said->index);
    }
}

bool node_is_outvoted(const struct node *node)
{
    return node->checkpoints.is_outvoted;
}
