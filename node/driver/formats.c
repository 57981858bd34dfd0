/* What commands the members understand. A member says its newest format at the beginning of each
 * stream. A command in the log proves that all members understand its format, and that none will
 * be without it again: a node that does not know the format refuses the log. */
#include "driver/node_internal.h"

static unsigned format_of(const struct node_request *request)
{
    return command_format((struct bytes){request->command, request->command_size});
}

void node_note_member_format(struct node *node, raft_member member, uint32_t format)
{
    node->formats.members[member] = format;
}

void node_note_format(struct node *node, struct bytes command)
{
    unsigned format = command_format(command);
    node->formats.log = format > node->formats.log ? format : node->formats.log;
}

/* Looks at the end of the log, once: after a restart it may know more than the streams, since a
 * member may be down. */
static void search_log(struct node *node)
{
    raft_index index = wal_last_index(node->wal);
    uint64_t bytes = 0;
    node->formats.is_log_searched = true;
    for (uint32_t i = 0; i < NODE_SEARCH_ENTRIES_MAX && bytes < NODE_SEARCH_BYTES_MAX; i++) {
        struct wal_entry entry;
        if (index == 0 || index < wal_first_index(node->wal) ||
            wal_read(node->wal, index, &entry) != 0) {
            return;
        }
        if (entry.type == RAFT_ENTRY_COMMAND) {
            node_note_format(node, entry.data);
        }
        bytes += entry.data.size;
        index--;
    }
}

/* Sets `lagging` to a member that is not known to understand the request's command. */
static bool members_understand(struct node *node, const struct node_request *request,
                               raft_member *lagging)
{
    unsigned format = format_of(request);
    raft_member found = RAFT_NO_MEMBER;
    if (format <= COMMAND_FORMAT_OLDEST || format <= node->formats.log) {
        return true;
    }
    for (raft_member i = 0; i < node->options.member_count; i++) {
        if (i != node->self && node->formats.members[i] < format) {
            found = i;
        }
    }
    if (found != RAFT_NO_MEMBER && !node->formats.is_log_searched) {
        search_log(node);
    }
    if (found == RAFT_NO_MEMBER || format <= node->formats.log) {
        return true;
    }
    *lagging = found;
    return false;
}

void node_refuse_too_new(struct node *node)
{
    struct list *link = node->requests.waiting.next;
    while (link != &node->requests.waiting) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (!members_understand(node, request, &request->lagging)) {
            node_finish_request(node, request, NODE_FORMAT_TOO_NEW);
        }
    }
}

bool node_leader_understands(const struct node *node, const struct node_request *request)
{
    unsigned format = format_of(request);
    return format <= COMMAND_FORMAT_OLDEST ||
           format <= node->formats.members[node->leadership.leader];
}
