/* Calls a cluster: knows the addresses of nodes, finds and follows the leader, and repeats a call
 * when that is safe.
 *
 * Only one thread may call. It blocks until the answer arrives or the time is up. */
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

#define CLUSTER_ADDRESSES_MAX 64 /* given, or learnt from the nodes */
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
    bool is_unconnected;                   /* nothing was sent: no connection could be made */
    bool is_wrong_port;                    /* the port does not serve clients by gRPC */
    bool has_item;                         /* it is about one message of a batch: */
    uint32_t item;                         /* its position */
    bool is_not_leader;
    char leader[ADDRESS_BYTES_MAX + 1]; /* with is_not_leader: its address; "" when unknown */
};

/* What to do after an answer that is not OK. */
enum answer_class {
    ANSWER_REFUSED,  /* give up: the cluster refuses */
    ANSWER_REDIRECT, /* repeat the call at the leader */
    ANSWER_RETRY,    /* repeat it at any node: nothing was done */
    ANSWER_UNKNOWN,  /* the call may have been done */
};

/* Copies `addresses`, which address_split() has checked. `timeout_ms` bounds each cluster_call()
 * with all its attempts. Errors: ERR_NOMEM, ERR_IO. */
int cluster_create(char *const *addresses, size_t count, uint64_t timeout_ms, struct cluster **out);
/* Requires that calls and streams have ended. Accepts NULL. */
void cluster_destroy(struct cluster *cluster);

enum call_kind {
    CALL_READ,       /* changes nothing */
    CALL_REPEATABLE, /* idempotent */
    CALL_ONCE,       /* not repeated after an unknown outcome; sent only to a node that answers */
};

/* A call that was certainly not done is repeated, whatever its kind. */
struct cluster_call {
    enum call_kind kind;
    const char *path; /* /package.Service/Method */
    const char *what; /* subject in the error text: "channel"; NULL: the cluster itself */
    const char *name; /* the subject's id */
    /* The lines of input that the messages of the request came from; 0: none. */
    uint64_t first_line;
    uint64_t last_line;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *response;
    /* Finds the error inside an answer that gRPC calls OK, and writes it to `answer`; may be
     * NULL. */
    void (*judge)(const ProtobufCMessage *response, struct answer *answer);
};

/* Returns 0 and the response (protobuf_c_message_free_unpacked()), or EXIT_REFUSED, EXIT_USAGE (an
 * address is of a wrong port) or EXIT_UNAVAILABLE (complain.h) after one line on stderr that says
 * why.
 */
int cluster_call(struct cluster *cluster, const struct cluster_call *call, ProtobufCMessage **out);
/* Writes the beginning of a complaint: "channel "general": ". */
#define CLUSTER_SUBJECT_BYTES_MAX 320
void cluster_describe(const char *what, const char *name, char out[CLUSTER_SUBJECT_BYTES_MAX]);
/* Asks all nodes for half a second. Returns true when a node answers and none leads with a quorum.
 */
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
/* Adds the members' addresses to the known ones, up to CLUSTER_ADDRESSES_MAX. */
void cluster_learn_members(struct cluster *cluster, const Raftogram__V1__StatusResponse *status);
void cluster_free_answers(struct node_answer *answers, size_t count);
/* Returns the answer of the leader that has a quorum; NULL when there is none. */
const struct node_answer *cluster_find_leader(const struct node_answer *answers, size_t count);

/* ---- one node, for streams ---- */

size_t cluster_address_count(const struct cluster *cluster);
const char *cluster_address(const struct cluster *cluster, size_t index);
/* Returns the index of the address that answered last. */
size_t cluster_current(const struct cluster *cluster);
/* The cluster's to keep; NULL: `fault` says why. Forgets the backoff of earlier dials, and waits
 * some seconds for the look-up of a name. */
struct rpc_channel *cluster_channel(struct cluster *cluster, size_t index, struct answer *fault);

void answer_of_result(const struct rpc_result *result, struct answer *out);
enum answer_class answer_classify(const struct answer *answer);
/* Returns the name of a status code: "NOT_FOUND". */
const char *answer_code_name(int code);

#endif
