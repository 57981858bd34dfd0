/* The one API that frontends see. A frontend decodes a request message, submits it here and gets
 * the answer message or a status: who serves, forwards or refuses is decided here, the same for
 * every protocol.
 *
 * Threads: submit, subscribe and the like from any thread; callbacks run on the node's or a
 * reader's thread, must not block, and may submit again. */
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

/* Made from the service descriptors of proto/. */
struct dispatch_method {
    enum dispatch_method_id id;
    const char *name;    /* "SendMessage": unique over all services */
    const char *path;    /* "/raftogram.v1.Messenger/SendMessage" */
    const char *service; /* "raftogram.v1.Messenger" */
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
    bool is_streaming;
    bool is_client_streaming; /* requests are a stream, too: gRPC alone serves it */
    bool is_mutation;         /* a follower may forward it */
    bool is_snake_case;       /* JSON names over gRPC (phalanx.*) */
};

/* NULL when unknown. Static objects. */
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

#define DISPATCH_CODES 17 /* all numbers of gRPC are below */

/* The name, such as "NOT_FOUND"; a static string. */
const char *dispatch_code_name(int code);

#define DISPATCH_ERROR_DOMAIN "raftogram"

/* Of one SendMessages: encoded in protobuf, whatever the encoding of the call. */
#define DISPATCH_BATCH_BYTES_MAX (1u << 20)
#define DISPATCH_BATCH_TOO_LARGE "BATCH_TOO_LARGE"

struct dispatch_status {
    int code;           /* enum dispatch_code */
    const char *reason; /* ErrorInfo.reason, such as "CHANNEL_NOT_FOUND"; NULL: no ErrorInfo */
    char message[256];
    bool is_not_leader; /* a NotLeader detail goes with it; its fields are empty while no leader is
                           known */
    const char *leader_grpc_target; /* static for the life of dispatch; "" unknown */
    const char *leader_id;
    bool has_item; /* the status is that of one message of a batch: */
    uint32_t item; /* its position, for ErrorInfo.metadata */
};

/* A status of the frontends' own making, such as INVALID_FIELD for a body that does not decode. */
void dispatch_status_set(struct dispatch_status *status, int code, const char *reason,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Appends the encoded google.rpc.Status with its details: for grpc-status-details-bin. Nothing when
 * there are none. */
void dispatch_status_encode(const struct dispatch_status *status, struct buf *out);

/* Sets the status of a request whose JSON was refused with this text (struct json_error). `method`
 * may be NULL. */
void dispatch_status_of_json(const struct dispatch_method *method, const char *text,
                             struct dispatch_status *status);

/* Decodes a request body: JSON (see json_is_body()) or protobuf. Strings are checked here
 * (UTF-8, no NUL). 0, or ERR_INVALID with `status` set to INVALID_ARGUMENT, INVALID_FIELD, or
 * ERR_NOMEM with RESOURCE_EXHAUSTED, OVERLOADED. */
int dispatch_decode(const struct dispatch_method *method, struct bytes body, ProtobufCMessage **out,
                    struct dispatch_status *status);

/* ---- unary calls ---- */

#define DISPATCH_DEADLINE_MAX_MS 10000

/* The caller's memory, usually part of a larger object; untouched until done(). */
struct dispatch_call {
    /* In. */
    const struct dispatch_method *method;
    ProtobufCMessage *request; /* of method->input, unpacked; freed by dispatch in every case */
    uint64_t deadline_ns;      /* monotonic; UINT64_MAX: DISPATCH_DEADLINE_MAX_MS from now */
    bool may_forward;          /* a follower sends mutations on to the leader */
    /* Exactly once; may run before dispatch_submit() returns. The call is the caller's again. */
    void (*done)(struct dispatch_call *call);
    /* May be NULL. The call's fate is known, and this is the node's thread, which nothing should
     * hold up: have dispatch_complete() called on a thread of your own; done() comes inside it. */
    void (*ready)(struct dispatch_call *call);
    /* Out, valid during done(). */
    struct dispatch_status status;
    const ProtobufCMessage *response; /* of method->output when status.code is 0, else NULL */
    struct work *work;                /* dispatch's own */
};

/* Calls submitted from one thread one after the other are proposed in that order. */
void dispatch_submit(struct dispatch *dispatch, struct dispatch_call *call);
/* Once after each ready(). */
void dispatch_complete(struct dispatch_call *call);

/* ---- subscriptions ---- */

struct dispatch_subscription;
struct message_page; /* messages, shared between readers; see dispatch_page_*() */

enum dispatch_page_format {
    DISPATCH_PAGE_PROTOBUF,  /* an encoded SubscribeChunk */
    DISPATCH_PAGE_JSON,      /* {"messages":[…]} */
    DISPATCH_PAGE_JSON_TEXT, /* the same, `text` in place of `payload` where it is UTF-8 */
};

struct dispatch_subscription_events {
    /* First, once: OK and in place, or refused. `cluster_id` is hex. */
    void (*opened)(void *context, const struct dispatch_status *status, uint64_t last_sequence,
                   const char *cluster_id);
    /* The page that dispatch_subscription_next() asked for: at least one message, and encoded in
     * `format`. Valid during the call; dispatch_page_ref() keeps it. */
    void (*page)(void *context, struct message_page *page);
    /* In place of that page, when there was none yet: it comes with news. May be NULL. */
    void (*idle)(void *context);
    /* Asked just before a page is read; NULL: always. True: `page`, `idle` or `ended` follows at
     * once. False: it is not read, and dispatch_subscription_next() asks for it again. So memory is
     * bounded over many subscriptions, each of which has asked for its next page. */
    bool (*may_read)(void *context);
    /* It ended by itself (no leader for 10 s, damage, shutting down); nothing but `closed` follows.
     */
    void (*ended)(void *context, const struct dispatch_status *status);
    /* The answer to dispatch_subscription_close(), and the last: the context may be freed. */
    void (*closed)(void *context);
    void *context;
    enum dispatch_page_format format;
};

/* Takes `request` (a Raftogram__V1__SubscribeRequest; freed in every case). `*out` is set before
 * any callback runs, and is valid until dispatch_subscription_close() is called, which must happen
 * once, also after a refusal or `ended`. The deadline is that of the opening. Errors: ERR_NOMEM (no
 * callback). */
int dispatch_subscribe(struct dispatch *dispatch, ProtobufCMessage *request, uint64_t deadline_ns,
                       const struct dispatch_subscription_events *events,
                       struct dispatch_subscription **out);
/* Asks for one page; it comes as soon as there are messages behind the cursor. Once after `opened`,
 * and once after each page that has been dealt with: this is the backpressure. Does nothing after
 * `ended`, which another thread may just be telling. True: one is being read, and `page` or `idle`
 * (or `ended`) comes soon; false: it waits for news. */
bool dispatch_subscription_next(struct dispatch_subscription *subscription);
/* `closed` follows, on a reader's thread, never inside this call. */
void dispatch_subscription_close(struct dispatch_subscription *subscription);

/* The list of messages as a JSON array, as in the formats above; for other answers that hold one.
 */
struct Raftogram__V1__StoredMessage;
void dispatch_messages_json(struct Raftogram__V1__StoredMessage *const *messages, size_t count,
                            bool as_text, struct buf *out);
/* The page that a subscription of that format was given: at most 1 MiB, or one message; made once
 * and shared by all readers. Valid as long as a reference is held. */
struct bytes dispatch_page_encoded(struct message_page *page, enum dispatch_page_format format);
/* The messages in it. */
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
/* Encoded bytes of the frames that are not acknowledged. */
size_t dispatch_publish_unacked_bytes(const struct dispatch_publish *publish);
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
    const char *node_id; /* static for the life of dispatch, as the addresses */
    const char *raft_addr;
    const char *grpc_addr;
    const char *http_addr; /* "" when not configured */
    bool is_self;
    bool is_leader;
    bool is_connected;
    bool is_whole;
    uint64_t match_index;     /* on the leader */
    uint64_t last_contact_ms; /* on the leader: since it was heard; UINT64_MAX: never */
};

struct dispatch_node_status {
    const char *node_id;
    const char *role;  /* "leader", "follower", "candidate" */
    const char *state; /* "LEADER", "FOLLOWER", "CANDIDATE" */
    bool is_leader;
    bool has_leader;
    const char *leader_id; /* "" when unknown, as the addresses */
    const char *leader_raft_addr;
    const char *leader_grpc_addr;
    bool has_quorum;
    bool is_ready; /* a leader is known, caught up, not draining */
    bool is_caught_up;
    bool is_recovering;       /* why not: its data_dir is not admitted yet: it does not count, */
    bool is_diverged;         /*   it has applied something else than the others, */
    bool is_damaged;          /*   its store is damaged, */
    bool is_standing_still;   /* or it applies nothing of what is committed, for want of room */
    bool is_log_without_room; /*   (this, or the next), or of entries; else entries are missing */
    bool is_store_without_room;
    uint64_t known_commit; /* what is committed, as far as this node has heard */
    bool is_draining;
    bool is_stale; /* no turn for two and a half election timeouts: nothing above is vouched for */
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t snapshot_index;
    char cluster_id[CLUSTER_ID_HEX_BYTES + 1]; /* hex; "" until founded */
    uint64_t uptime_seconds;
    uint64_t turn_age_ms; /* since the node's thread last turned: more than a few s is stuck */
    size_t member_count;
    struct dispatch_member members[CLUSTER_MEMBERS_MAX];
};
/* What the node's thread published in its last turn, if that is recent. While the thread hangs (a
 * disk that does not answer, a stopped process) others may have elected a leader: such a node says
 * of itself that it is a follower without a leader and a quorum, and not ready. All that is said
 * about role, leader, quorum and readiness comes from here. Any thread; never waits. */
void dispatch_get_node_status(struct dispatch *dispatch, struct dispatch_node_status *out);

/* Told whenever role, leader, quorum or readiness changed, also by the status's age. The callback
 * runs on the node's or the daemon's main thread and must only signal. */
struct dispatch_watcher {
    struct list link;
    void (*changed)(struct dispatch_watcher *watcher);
};
void dispatch_watch(struct dispatch *dispatch, struct dispatch_watcher *watcher);
/* After it returns the callback does not run any more. */
void dispatch_unwatch(struct dispatch *dispatch, struct dispatch_watcher *watcher);

/* Walks the key-value map for the status document: at most `limit` keys. `each` returns 0 to go on.
 */
int dispatch_walk_values(struct dispatch *dispatch, size_t limit,
                         int (*each)(void *context, struct bytes key, struct bytes value),
                         void *context);

/* Figures of this node for /metrics and /status; dispatch_metric_rows describes them. */
struct dispatch_metrics {
    struct dispatch_node_status node;
    uint64_t messages_sent_total;         /* raft messages to peers */
    uint64_t peer_messages_dropped_total; /* of any kind: a peer takes them too slowly */
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
    uint64_t durable_applied_index; /* up to there the store is on disk */
    uint64_t log_written_bytes_total;
    uint64_t store_flushes_total;
    uint64_t messages_applied_total;
    uint64_t subscription_lag_max; /* in messages, over all subscriptions, at most 250 ms old */
    struct latency_counts log_sync;
    struct latency_counts apply;
    struct latency_counts proposal;
    struct latency_counts turn_delay; /* from when a turn of the node was due to its begin */
    uint64_t calls[DISPATCH_METHOD_COUNT][DISPATCH_CODES]; /* answered, by status */
};
void dispatch_get_metrics(struct dispatch *dispatch, struct dispatch_metrics *out);
extern const struct metric dispatch_metric_rows[];
extern const size_t dispatch_metric_row_count;

/* Adds the figures of a frontend, which any frontend may then show. The source is the caller's, and
 * stays until dispatch_remove_metrics(). */
void dispatch_add_metrics(struct dispatch *dispatch, struct metric_source *source);
/* After it returns read() does not run any more. */
void dispatch_remove_metrics(struct dispatch *dispatch, struct metric_source *source);
/* Calls `each` for every source, with its figures. */
void dispatch_walk_metrics(struct dispatch *dispatch,
                           void (*each)(void *context, const struct metric_source *source,
                                        const void *figures),
                           void *context);

#endif
