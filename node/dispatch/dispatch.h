/* The API that frontends use. A frontend decodes a request message, submits it here and gets the
 * answer message or a status. Dispatch decides who serves, forwards or refuses, the same for every
 * protocol.
 *
 * Threads: every function may be called on any thread unless its comment says otherwise. Callbacks
 * run on the node's thread or a reader's thread. A callback must not block, and may submit again.
 */
#ifndef RAFTOGRAM_DISPATCH_H
#define RAFTOGRAM_DISPATCH_H

#include "base/buf.h"
#include "base/cluster.h"
#include "base/latency.h"
#include "base/list.h"
#include "base/metric.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct dispatch;

/* ---- methods ---- */

enum dispatch_method_id {
    DISPATCH_CREATE_CHANNEL,
    DISPATCH_SEND_MESSAGE,
    DISPATCH_SEND_MESSAGES,
    DISPATCH_PUBLISH, /* streaming: dispatch_publish_open() */
    DISPATCH_READ_HISTORY,
    DISPATCH_LIST_CHANNELS,
    DISPATCH_SUBSCRIBE, /* streaming: dispatch_subscribe() */
    DISPATCH_PROPOSE,
    DISPATCH_READ,
    DISPATCH_STATUS,
    DISPATCH_TRANSFER_LEADERSHIP,
    DISPATCH_LIST_KEYS,
    DISPATCH_METHOD_COUNT,
};

/* One method, described by the service descriptors of proto/. */
struct dispatch_method {
    enum dispatch_method_id id;
    const char *name;    /* "SendMessage": unique over all services */
    const char *path;    /* "/raftogram.v1.Messenger/SendMessage" */
    const char *service; /* "raftogram.v1.Messenger" */
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
    bool is_streaming;
    bool is_client_streaming; /* requests are a stream as well; only gRPC serves it */
    bool is_mutation;         /* changes state; a follower may forward it */
    bool is_snake_case;       /* JSON names over gRPC (phalanx.*) */
};

/* Find a method. Return NULL if the method is unknown. The objects are static. */
const struct dispatch_method *dispatch_method_by_path(const char *path);
const struct dispatch_method *dispatch_method_by_name(const char *name);
const struct dispatch_method *dispatch_method(enum dispatch_method_id id);

/* ---- status of a call ---- */

/* Numbers of gRPC status codes. */
enum dispatch_code {
    DISPATCH_OK = 0,
    DISPATCH_INVALID_ARGUMENT = 3,
    DISPATCH_DEADLINE_EXCEEDED = 4,
    DISPATCH_NOT_FOUND = 5,
    DISPATCH_RESOURCE_EXHAUSTED = 8,
    DISPATCH_FAILED_PRECONDITION = 9,
    DISPATCH_ABORTED = 10,
    DISPATCH_OUT_OF_RANGE = 11,
    DISPATCH_UNIMPLEMENTED = 12,
    DISPATCH_INTERNAL = 13,
    DISPATCH_UNAVAILABLE = 14,
    DISPATCH_DATA_LOSS = 15,
};

#define DISPATCH_CODES 17 /* gRPC has the codes 0 to 16 */

/* Returns the name, such as "NOT_FOUND", as a static string. */
const char *dispatch_code_name(int code);

#define DISPATCH_ERROR_DOMAIN "raftogram"

/* Of one SendMessages: encoded in protobuf, whatever the encoding of the call. */
#define DISPATCH_BATCH_BYTES_MAX (1u << 20)
#define DISPATCH_BATCH_TOO_LARGE "BATCH_TOO_LARGE"

struct dispatch_status {
    int code;           /* enum dispatch_code */
    const char *reason; /* ErrorInfo.reason, such as "CHANNEL_NOT_FOUND"; NULL: no ErrorInfo */
    char message[256];
    /* Adds a NotLeader detail. Its fields are empty while no leader is known. */
    bool is_not_leader;
    const char *leader_grpc_target; /* static for the life of dispatch; "" if unknown */
    const char *leader_id;
    bool has_item; /* the status is that of one message of a batch: */
    uint32_t item; /* its position, for ErrorInfo.metadata */
};

/* Sets a status that a frontend decided on, such as INVALID_FIELD for a body that does not decode.
 */
void dispatch_status_set(struct dispatch_status *status, int code, const char *reason,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Appends the encoded google.rpc.Status with its details, for grpc-status-details-bin. Appends
 * nothing if the status has no reason. */
void dispatch_status_encode(const struct dispatch_status *status, struct buf *out);

/* Sets the status of a request whose JSON was refused with this text (struct json_error). `method`
 * may be NULL. */
void dispatch_status_of_json(const struct dispatch_method *method, const char *text,
                             struct dispatch_status *status);

/* Decodes a request body, JSON (see json_is_body()) or protobuf, and checks that its strings are
 * UTF-8 without NUL. The caller owns `*out`.
 * Errors: ERR_INVALID (`status` is INVALID_ARGUMENT, INVALID_FIELD), ERR_NOMEM (`status` is
 * RESOURCE_EXHAUSTED, OVERLOADED). */
int dispatch_decode(const struct dispatch_method *method, struct bytes body, ProtobufCMessage **out,
                    struct dispatch_status *status);

/* ---- unary calls ---- */

#define DISPATCH_DEADLINE_MAX_MS 10000

/* One unary call. The memory is the caller's, usually part of a larger object. The caller leaves it
 * untouched from dispatch_submit() until done(). */
struct dispatch_call {
    /* In. */
    const struct dispatch_method *method;
    ProtobufCMessage *request; /* of method->input; dispatch frees it in every case */
    uint64_t deadline_ns;      /* monotonic; UINT64_MAX: DISPATCH_DEADLINE_MAX_MS from now */
    bool may_forward;          /* a follower forwards mutations to the leader */
    /* Runs exactly once, possibly before dispatch_submit() returns. The call is then the caller's
     * again. */
    void (*done)(struct dispatch_call *call);
    /* Runs on the node's thread when the call's outcome is known. It must not do the work of the
     * answer there: it has dispatch_complete() called on a thread of the frontend, and done() runs
     * inside that call. NULL: done() runs on the node's thread. */
    void (*ready)(struct dispatch_call *call);
    /* Results, valid during done(). */
    struct dispatch_status status;
    const ProtobufCMessage *response; /* of method->output; NULL if status.code is not 0 */
    struct work *work;                /* private to dispatch */
};

/* Submits a call. Calls that one thread submits one after the other are proposed in that order. */
void dispatch_submit(struct dispatch *dispatch, struct dispatch_call *call);
/* Completes a call. Must be called once after each ready(). */
void dispatch_complete(struct dispatch_call *call);

/* ---- subscriptions ---- */

struct dispatch_subscription;
struct message_page; /* messages, shared between readers; counted references */

enum dispatch_page_format {
    DISPATCH_PAGE_PROTOBUF, /* an encoded SubscribeChunk */
    DISPATCH_PAGE_JSON,     /* {"messages":[…]} */
    /* The same, with `text` in place of `payload` where the payload is UTF-8. */
    DISPATCH_PAGE_JSON_TEXT,
};

/* Callbacks of a subscription. They run on the thread of one reader, one at a time:
 * `opened`, then any number of `page` or `idle`, then possibly `ended`, and finally `closed`. */
struct dispatch_subscription_events {
    /* Runs once and first. Status OK: the cursor is in place. Otherwise the subscription is
     * refused. `last_sequence` is the end of the channel. `cluster_id` is hex. */
    void (*opened)(void *context, const struct dispatch_status *status, uint64_t last_sequence,
                   const char *cluster_id);
    /* Delivers the page that dispatch_subscription_next() asked for: at least one message, encoded
     * in `format`. The page is valid during the call; dispatch_page_ref() keeps it. */
    void (*page)(void *context, struct message_page *page);
    /* Runs in place of `page` if there is no message after the cursor. The page follows when there
     * is one. May be NULL. */
    void (*idle)(void *context);
    /* Runs just before a page is read. NULL: every page may be read.
     * True: `page`, `idle` or `ended` follows at once.
     * False: the page is not read, and dispatch_subscription_next() must ask for it again. So a
     * frontend bounds the memory of many subscriptions, each of which has asked for its next page.
     */
    bool (*may_read)(void *context);
    /* Runs when dispatch ends the subscription: no leader for 10 s, damage, or shutdown. Only
     * `closed` follows. */
    void (*ended)(void *context, const struct dispatch_status *status);
    /* Runs last, after dispatch_subscription_close(). The context may be freed. */
    void (*closed)(void *context);
    void *context;
    enum dispatch_page_format format;
};

/* Opens a subscription. Takes ownership of `request`, a Raftogram__V1__SubscribeRequest, also on
 * error. `*out` is set before any callback runs. It is valid until dispatch_subscription_close() is
 * called, which must happen exactly once, also after a refusal or `ended`. The deadline limits the
 * opening only.
 * Errors: ERR_NOMEM (no callback runs). */
int dispatch_subscribe(struct dispatch *dispatch, ProtobufCMessage *request, uint64_t deadline_ns,
                       const struct dispatch_subscription_events *events,
                       struct dispatch_subscription **out);
/* Asks for one page. It is delivered as soon as there are messages after the cursor. Must be called
 * once after `opened`, and once after each page has been handled: this is the backpressure. Does
 * nothing after `ended`, which may be running on the reader's thread at that moment.
 * Returns true if a page is being read: `page`, `idle` or `ended` follows soon. Returns false if
 * the subscription waits for a new message. */
bool dispatch_subscription_next(struct dispatch_subscription *subscription);
/* Closes the subscription. `closed` runs later on a reader's thread, never inside this call. */
void dispatch_subscription_close(struct dispatch_subscription *subscription);

/* Appends the messages as a JSON array in the format of the pages, for other answers that hold a
 * list of messages. */
struct Raftogram__V1__StoredMessage;
void dispatch_messages_json(struct Raftogram__V1__StoredMessage *const *messages, size_t count,
                            bool as_text, struct buf *out);
/* Returns the encoded page that a subscription of this format was given: at most 1 MiB, or one
 * message. It is encoded once and shared by all readers. Valid as long as a reference is held. */
struct bytes dispatch_page_encoded(struct message_page *page, enum dispatch_page_format format);
/* Returns the number of messages in the encoded page. */
size_t dispatch_page_count(struct message_page *page, enum dispatch_page_format format);
struct message_page *dispatch_page_ref(struct message_page *page);
void dispatch_page_unref(struct message_page *page);

/* ---- publishing ---- */

/* Frames of messages, many at a time, stored and acknowledged in order (Messenger.Publish).
 *
 * The owner calls all functions, one at a time, from any thread. A frame that cannot be stored ends
 * the stream: no later frame is proposed. */
struct dispatch_publish;

/* At one of these bounds the owner stops reading frames. */
#define DISPATCH_PUBLISH_FRAMES_MAX 1024
#define DISPATCH_PUBLISH_BYTES_MAX (4u << 20)

struct dispatch_publish_events {
    /* dispatch_publish_take() may have news. Any thread, also inside the owner's calls; must only
     * signal. */
    void (*changed)(void *context);
    /* The last, after dispatch_publish_close(): the context may be freed. Any thread, also inside
     * dispatch_publish_close(). */
    void (*closed)(void *context);
    void *context;
};

/* Without `may_forward` a follower refuses: the first dispatch_publish_take() says so. `*out` is
 * valid until dispatch_publish_close(), which must be called once. Errors: ERR_NOMEM (no callback).
 */
int dispatch_publish_open(struct dispatch *dispatch, bool may_forward,
                          const struct dispatch_publish_events *events,
                          struct dispatch_publish **out);
/* Takes a frame (a Raftogram__V1__PublishRequest; freed in every case) of `bytes` encoded bytes.
 * Errors: ERR_NOMEM. */
int dispatch_publish_frame(struct dispatch_publish *publish, ProtobufCMessage *request,
                           size_t bytes);
/* In place of a frame that does not decode: ends the stream after the frames before it. Errors:
 * ERR_NOMEM. */
int dispatch_publish_fail(struct dispatch_publish *publish, const struct dispatch_status *status);
/* True at a bound: no frame should be read now. */
bool dispatch_publish_is_full(const struct dispatch_publish *publish);
/* Memory of the frames that are not acknowledged, unpacked messages included. */
size_t dispatch_publish_held_bytes(const struct dispatch_publish *publish);
/* True when no frame waits for its acknowledgement. */
bool dispatch_publish_is_idle(const struct dispatch_publish *publish);

enum dispatch_publish_news {
    DISPATCH_PUBLISH_NOTHING,
    DISPATCH_PUBLISH_RESPONSE, /* `*response` is set, valid until the next call */
    DISPATCH_PUBLISH_ENDED,    /* `status` is set: the stream ends with it */
};
/* Takes the next response, if there is one. To be called again until there is nothing. */
enum dispatch_publish_news dispatch_publish_take(struct dispatch_publish *publish,
                                                 const ProtobufCMessage **response,
                                                 struct dispatch_status *status);
/* `closed` follows when the frames that are on their way have come back. */
void dispatch_publish_close(struct dispatch_publish *publish);

/* ---- state of this node ---- */

struct dispatch_member {
    const char *node_id; /* static for the life of dispatch, like the addresses */
    const char *raft_addr;
    const char *grpc_addr;
    const char *http_addr; /* "" when not configured */
    bool is_self;
    bool is_leader;
    bool is_connected;
    bool is_whole;
    uint64_t match_index; /* highest index known to be in its log; on the leader */
    /* On the leader: time since its last message; UINT64_MAX: never heard. */
    uint64_t last_contact_ms;
};

struct dispatch_node_status {
    const char *node_id;
    const char *role;  /* "leader", "follower", "candidate" */
    const char *state; /* "LEADER", "FOLLOWER", "CANDIDATE" */
    bool is_leader;
    bool has_leader;
    const char *leader_id; /* "" if unknown, like the addresses */
    const char *leader_raft_addr;
    const char *leader_grpc_addr;
    bool has_quorum;
    bool is_ready; /* a leader is known, this node has caught up and is not draining */
    bool is_caught_up;
    /* Reasons why the node is not ready. */
    bool is_recovering;     /* its data_dir is not admitted yet; it does not count for a quorum */
    bool is_diverged;       /* it applied something other than the majority */
    bool is_damaged;        /* its store is damaged */
    bool is_standing_still; /* it applies nothing although more is committed */
    /* Reasons why it applies nothing; if neither is set, it lacks the entries. */
    bool is_log_without_room;
    bool is_store_without_room;
    uint64_t known_commit; /* highest commit index that this node has heard of */
    bool is_draining;
    bool is_stale; /* no turn for 2.5 election timeouts: role, leader and quorum are unknown */
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t snapshot_index;
    char cluster_id[CLUSTER_ID_HEX_BYTES + 1]; /* hex; "" until founded */
    uint64_t uptime_seconds;
    /* Since the node's last turn; more than a few seconds: its thread is stuck. */
    uint64_t turn_age_ms;
    size_t member_count;
    struct dispatch_member members[CLUSTER_MEMBERS_MAX];
};
/* Copies what the node published in its last turn, if that is recent. While the node's thread hangs
 * (a disk that does not respond, a stopped process), the other nodes may have elected a leader. The
 * status then shows a follower without a leader and a quorum, not ready. All reports of role,
 * leader, quorum and readiness come from here. Never waits. */
void dispatch_get_node_status(struct dispatch *dispatch, struct dispatch_node_status *out);

/* A callback for changes of role, leader, quorum or readiness, including those that follow from the
 * age of the status. It runs on the thread of the node or the main thread of the daemon, and may
 * only signal another thread. The memory is the caller's until dispatch_unwatch(). */
struct dispatch_watcher {
    struct list link;
    void (*changed)(struct dispatch_watcher *watcher);
};
void dispatch_watch(struct dispatch *dispatch, struct dispatch_watcher *watcher);
/* Removes the watcher. The callback does not run after this returns. */
void dispatch_unwatch(struct dispatch *dispatch, struct dispatch_watcher *watcher);

/* Walks the key-value map for the status document, at most `limit` keys. A value other than 0 from
 * `each` ends the walk. */
int dispatch_walk_values(struct dispatch *dispatch, size_t limit,
                         int (*each)(void *context, struct bytes key, struct bytes value),
                         void *context);

/* Figures of this node for /metrics and /status. dispatch_metric_rows describes them; counters
 * count since the start. */
struct dispatch_metrics {
    struct dispatch_node_status node;
    uint64_t messages_sent_total;         /* raft messages to peers */
    uint64_t peer_messages_dropped_total; /* of any kind, because a peer reads too slowly */
    uint64_t peer_connects_total;         /* streams to peers that were established */
    uint64_t election_count;
    uint64_t last_commit_index;
    uint64_t proposals_total;
    uint64_t proposals_failed_total;
    uint64_t reads_total;
    uint64_t applied_index;
    uint64_t leader_changes_total;
    uint64_t forwards_total;
    uint64_t requests_pending;
    uint64_t subscriptions;
    uint64_t dedupe_hits_total;
    uint64_t log_entries;
    uint64_t log_bytes;
    uint64_t store_bytes;
    uint64_t channel_count;
    uint64_t message_count;
    uint64_t value_count;
    uint64_t log_commits_total;
    uint64_t overlay_bytes;
    bool is_log_full;
    bool is_store_full;
    uint64_t proposals_pending;
    uint64_t durable_applied_index; /* highest index that the store has on disk */
    uint64_t log_written_bytes_total;
    uint64_t store_flushes_total;
    uint64_t messages_applied_total;
    uint64_t subscription_lag_max; /* in messages, over all subscriptions; measured every 250 ms */
    struct latency_counts log_sync;
    struct latency_counts apply;
    struct latency_counts proposal;
    struct latency_counts turn_delay; /* from the time a turn was due to its begin */
    uint64_t calls[DISPATCH_METHOD_COUNT][DISPATCH_CODES]; /* calls answered, by method and code */
};
void dispatch_get_metrics(struct dispatch *dispatch, struct dispatch_metrics *out);
extern const struct metric dispatch_metric_rows[];
extern const size_t dispatch_metric_row_count;

/* Adds the figures of a frontend, so that every frontend can show them. The source is the caller's
 * and must stay valid until dispatch_remove_metrics(). */
void dispatch_add_metrics(struct dispatch *dispatch, struct metric_source *source);
/* Removes the source. Its read() does not run after this returns. */
void dispatch_remove_metrics(struct dispatch *dispatch, struct metric_source *source);
/* Calls `each` for every source, with the current figures. */
void dispatch_walk_metrics(struct dispatch *dispatch,
                           void (*each)(void *context, const struct metric_source *source,
                                        const void *figures),
                           void *context);

#endif
