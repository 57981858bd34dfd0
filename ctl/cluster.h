/* The cluster as a client sees it: some addresses, of which one may be the leader's. Calls find and
 * follow the leader, and are repeated when that is safe.
 *
 * One thread calls; it blocks until the answer is there or the time is up. */
#ifndef RAFTOGRAM_CTL_CLUSTER_H
#define RAFTOGRAM_CTL_CLUSTER_H

#include "base/address.h"
#include "base/buf.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "rpc/name.h"
#include "rpc/rpc.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_ADDRESSES_MAX 64 /* those given and those learnt from the nodes */
#define CLUSTER_MESSAGE_BYTES_MAX 512
#define CLUSTER_REASON_BYTES_MAX 64
#define CLUSTER_ID_BYTES_MAX 256
/* An answer: 1 MiB of messages, or one message of 3 MiB, and what surrounds it. */
#define CLUSTER_ANSWER_BYTES_MAX (8 << 20)

struct cluster;

/* How one call to one node ended. */
struct answer {
    int code; /* GRPC_STATUS_* */
    char message[CLUSTER_MESSAGE_BYTES_MAX];
    char reason[CLUSTER_REASON_BYTES_MAX]; /* of google.rpc.ErrorInfo; "" when the node gave none */
    bool is_unconnected;                   /* the call never left: no connection could be made */
    bool is_wrong_port;                    /* who answers there does not serve clients by gRPC */
    bool is_not_leader;
    char leader[ADDRESS_BYTES_MAX + 1]; /* with is_not_leader: where to go; "" when unknown */
};

/* What is to be done after an answer that was not OK. */
enum answer_class {
    ANSWER_REFUSED,  /* final: the cluster said no */
    ANSWER_REDIRECT, /* the same at the leader */
    ANSWER_RETRY,    /* nothing was done: the same again, here or elsewhere */
    ANSWER_UNKNOWN,  /* it may have been done */
};

/* Takes `addresses` (checked by address_split()) over into its own memory. `timeout_ms` bounds each
 * later cluster_call() as a whole. Errors: ERR_NOMEM, ERR_IO. */
int cluster_create(char *const *addresses, size_t count, uint64_t timeout_ms, struct cluster **out);
/* Calls and streams must be over. Accepts NULL. */
void cluster_destroy(struct cluster *cluster);

enum call_kind {
    CALL_READ,       /* changes nothing */
    CALL_REPEATABLE, /* doing it twice is the same as doing it once */
    CALL_ONCE,       /* not sent again after an unknown outcome; only to who has just answered */
};

/* What was certainly not done is sent again in any case. */
struct cluster_call {
    enum call_kind kind;
    const char *path; /* /package.Service/Method */
    const char
        *what; /* what it is about, for the error text: "channel"; NULL: the cluster itself */
    const char *name; /* and which one */
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *response;
    /* Finds the error inside an answer that gRPC calls OK, and writes it to `answer`; may be
     * NULL. */
    void (*judge)(const ProtobufCMessage *response, struct answer *answer);
};

/* Returns 0 and the response (protobuf_c_message_free_unpacked()), or EXIT_REFUSED, EXIT_USAGE (an
 * address is of a wrong port) or EXIT_UNAVAILABLE (verbs.h) after one line on stderr that says why.
 */
int cluster_call(struct cluster *cluster, const struct cluster_call *call, ProtobufCMessage **out);
/* Writes "channel "general": ", what complaints about it begin with. */
#define CLUSTER_SUBJECT_BYTES_MAX 320
void cluster_describe(const char *what, const char *name, char out[CLUSTER_SUBJECT_BYTES_MAX]);
/* Whether some node answers, and none leads with a quorum. Asks them, for half a second. */
bool cluster_lacks_quorum(struct cluster *cluster);
#define NO_QUORUM_TEXT "NO QUORUM: "

/* ---- all nodes ---- */

/* One node's own Status. */
struct node_answer {
    const char *address; /* lives as long as the cluster */
    struct answer answer;
    Raftogram__V1__StatusResponse *status; /* NULL unless the answer is OK */
};

/* Asks all known addresses at once, each for its own Status, and learns the addresses of their
 * members. Returns how many entries of `out` (CLUSTER_ADDRESSES_MAX) are set; free them by
 * cluster_free_answers(). */
size_t cluster_ask_all(struct cluster *cluster, uint64_t timeout_ms, struct node_answer *out);
/* Adds the members' addresses to the known ones, as far as there is room. */
void cluster_learn_members(struct cluster *cluster, const Raftogram__V1__StatusResponse *status);
void cluster_free_answers(struct node_answer *answers, size_t count);
/* Of these the leader that has a quorum; NULL when there is none. */
const struct node_answer *cluster_find_leader(const struct node_answer *answers, size_t count);

/* ---- one node, for streams ---- */

size_t cluster_address_count(const struct cluster *cluster);
const char *cluster_address(const struct cluster *cluster, size_t index);
/* The address that answered last. */
size_t cluster_current(const struct cluster *cluster);
/* The cluster's to keep; NULL: `fault` says why. Forgets the backoff of earlier dials, and waits
 * some seconds for the look-up of a name. */
struct rpc_channel *cluster_channel(struct cluster *cluster, size_t index, struct answer *fault);

void answer_of_result(const struct rpc_result *result, struct answer *out);
enum answer_class answer_classify(const struct answer *answer);
/* "NOT_FOUND" */
const char *answer_code_name(int code);

#endif
