/* Determines whether a message was stored by this very call. A forwarded command whose leader is
 * lost is forwarded again. It may then be recognised as a repetition of its own first attempt. The
 * client called once, so it must get `deduplicated: false`, unless the message was stored before
 * the call.
 *
 * A message is stored by an entry of the log, and this node applies all entries. So it looks for
 * the entry of each forwarded command. An entry is taken for the first attempt of the call if all
 * of these hold:
 * - its bytes are the same, except for the stamp of the leader;
 * - it stored its message;
 * - it was proposed in a term in which this node forwarded the call;
 * - it was stamped when this node already had the call.
 *
 * The result of that entry is the result of the call, also if the answer is lost. An answer that
 * says "repeated" waits until this node has applied as far as the leader that gave it.
 *
 * This is nearly exact. An entry of another call with the same id and contents, which arrived at
 * the same time at another node, looks the same. Such calls are concurrent, so either may be the
 * first. If this node learns late that the entry of an earlier call was committed, only the stamp
 * shows that it was earlier. With clocks that differ by d, a call within d of an acknowledged one
 * may be answered as the first if its leader was lost. A token in the command would be exact, but
 * needs a new format of the log. */
#include "base/check.h"
#include "driver/node_internal.h"

static bool is_own(const struct node_request *request, uint32_t hash, struct bytes data,
                   raft_term term)
{
    struct bytes command = {request->command, request->command_size};
    return request->watch_hash == hash && !request->is_stored && term >= request->forward_term &&
           command_is_same(command, data) && command_stamp_of(data) >= request->came_wall_ms;
}

void node_note_stored(struct node *node, struct bytes data, raft_term term,
                      const struct command_result *result)
{
    if (node->watch.count == 0 || !command_result_has_stored(result)) {
        return;
    }
    uint32_t hash = command_hash(data);
    struct node_request *request = *node_watch_bucket(node, hash);
    while (request != NULL && !is_own(request, hash, data, term)) {
        request = request->watch_next;
    }
    if (request == NULL) {
        return;
    }
    buf_reset(&request->stored_result);
    command_result_encode(result, &request->stored_result);
    if (buf_failed(&request->stored_result)) {
        return; /* as if it had not been seen */
    }
    request->is_stored = true;
    if (request->is_unsure) {
        node_finish_stored(node, request);
    }
}

void node_finish_stored(struct node *node, struct node_request *request)
{
    CHECK(request->is_stored);
    int rc = command_result_decode(buf_bytes(&request->stored_result), &request->result);
    CHECK(rc == 0);
    node_finish_request(node, request, NODE_OK);
}

bool node_keep_answer(struct node *node, struct node_request *request, raft_index index)
{
    if (!request->is_unsure || !request->is_watched || !request->result.deduplicated ||
        index <= node->applied_index) {
        return false;
    }
    request->index = index;
    list_remove(&request->link);
    list_push_back(&node->requests.answered, &request->link);
    return true;
}

void node_release_answers(struct node *node)
{
    struct list *link = node->requests.answered.next;
    while (link != &node->requests.answered) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (request->index <= node->applied_index) {
            node_finish_request(node, request, NODE_OK);
        }
    }
}
