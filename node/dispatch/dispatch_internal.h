/* Declarations that the files of dispatch share. */
#ifndef RAFTOGRAM_DISPATCH_INTERNAL_H
#define RAFTOGRAM_DISPATCH_INTERNAL_H

#include "base/mailbox.h"
#include "dispatch/dispatch.h"
#include "dispatch/service.h"
#include "driver/node.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

#define READERS_MAX 8
#define READER_BATCH_MAX 64 /* subscriptions served before the next unary reads */
/* Reads queued for one reader before the next reader is used. */
#define READER_QUEUE_MAX 32
#define READER_TICK_NS (NS_PER_S / 4) /* interval of subscription_sweep() */
/* A subscription ends if the node has had no leader for so long: its data may be outdated. */
#define SUBSCRIPTION_LEADERLESS_NS (10 * NS_PER_S)
/* Messages, channels or keys in one answer. */
#define PAGE_LIMIT_DEFAULT 100
#define PAGE_LIMIT_MAX 1000
#define NOT_LEADER_MESSAGE "not leader: retry on suggested leader client endpoint"

/* A thread that serves unary reads from its mailbox and subscriptions from the hub. It is the only
 * kind of thread that may wait for the disk to answer a client. */
struct reader {
    struct dispatch *dispatch;
    pthread_t thread;
    struct mailbox mailbox; /* of reader_job.link */
    struct hub_listener listener;
    struct list subscriptions; /* open ones, by dispatch_subscription.link; its own thread only */
    atomic_bool is_stopping;
    atomic_uint jobs; /* posted and not finished */
    /* Largest lag of its subscriptions, in messages, as last measured. */
    atomic_uint_fast64_t lag_max;
};

/* One task for a reader, such as a unary read. Part of a larger object. */
struct reader_job {
    struct list link;
    void (*run)(struct reader_job *job, struct reader *reader);
};

struct dispatch {
    struct dispatch_options options;
    struct node *node;
    struct chat *chat;
    uint64_t started_ns;
    struct reader readers[READERS_MAX];
    size_t reader_count;
    atomic_uint next_reader;
    pthread_mutex_t watch_lock;
    struct list watchers;
    struct list metric_sources; /* under watch_lock */
    struct list publishes;      /* under watch_lock */
    bool was_stale;             /* state last reported by dispatch_look_at_age(); its thread's */
    atomic_bool is_ending;      /* subscriptions and publishes end with DRAINING */
    atomic_uint_fast64_t calls[DISPATCH_METHOD_COUNT][DISPATCH_CODES];
};

/* One unary call in progress. Freed by dispatch_finish_work(). */
struct work {
    struct node_request request; /* first: node callbacks find the work by it */
    struct reader_job job;
    struct dispatch *dispatch;
    struct dispatch_call *call;
    struct buf command; /* the encoded command or scratch memory of a read, then result items */
    bool has_item;      /* a refusal is about one message of a batch, */
    uint32_t item;      /* at this position */
};

/* The functions of a method. NULL: the method does not need it. */
struct method_handler {
    /* Frontend's thread: checks the fields and fills in work->request. Returns true to submit the
     * request. Returns false if it has ended the call by dispatch_finish_work(). */
    bool (*prepare)(struct work *work);
    /* Commands: answers the call after the request has ended. Node's thread, or the frontend's in
     * dispatch_complete(). */
    void (*applied)(struct work *work);
    /* Reads: answers the call after its barrier was reached. Reader's thread. */
    void (*read)(struct work *work);
};

extern const struct method_handler *const dispatch_method_handlers[DISPATCH_METHOD_COUNT];
extern const struct method_handler dispatch_handle_create_channel;
extern const struct method_handler dispatch_handle_send_message;
extern const struct method_handler dispatch_handle_send_messages;
extern const struct method_handler dispatch_handle_publish;
extern const struct method_handler dispatch_handle_read_history;
extern const struct method_handler dispatch_handle_list_channels;
extern const struct method_handler dispatch_handle_subscribe;
extern const struct method_handler dispatch_handle_propose;
extern const struct method_handler dispatch_handle_read;
extern const struct method_handler dispatch_handle_status;
extern const struct method_handler dispatch_handle_transfer_leadership;
extern const struct method_handler dispatch_handle_list_keys;

/* ---- calls.c ---- */

/* As dispatch_submit(). `chain` may be NULL. */
void dispatch_submit_in_chain(struct dispatch *dispatch, struct dispatch_call *call,
                              struct node_chain *chain);

/* ---- publish.c ---- */

/* Signals all open publishes; dispatch->is_ending is set. */
void dispatch_end_publishes(struct dispatch *dispatch);

/* ---- work.c: functions that handlers share ---- */

/* Counts an answer with this status. */
void dispatch_count_call(struct dispatch *dispatch, enum dispatch_method_id id, int code);
/* Ends the call: runs done(), then frees the request message and the work. `response` is NULL
 * unless the status is OK; it must be valid during done() only. */
void dispatch_finish_work(struct work *work, const ProtobufCMessage *response);
/* Ends the call with the status of its request, which was not NODE_OK. */
void work_finish_with_outcome(struct work *work);
/* Ends the call with the status of a failed query. */
void work_finish_with_error(struct work *work, int error);
/* Ends the call with INVALID_ARGUMENT. Returns false, for prepare() to return. */
bool work_refuse_field(struct work *work, const char *reason, const char *text);
/* Checks the command's fields. False: the call has been ended. */
bool work_refuse_command(struct work *work, const struct command *command);
/* Encodes the command into the work and makes it the request. False: the call has been ended. */
bool work_prepare_command(struct work *work, const struct command *command);
/* Makes the command that work->command holds the request. False: the call has been ended, because
 * there was no memory for it. */
bool work_prepare_encoded(struct work *work);
/* True: the request failed, or its command was applied without effect, and the call has been
 * ended. */
bool work_refuse_result(struct work *work);
/* Returns the limit of a page that the client asked for, within the bounds. 0 is the default. */
size_t work_clamp_limit(uint32_t limit);
/* Returns NULL, or one line that says why the id is refused. */
const char *dispatch_channel_id_fault(const char *id);
/* Returns the next reader in rotation, for a subscription, which stays with it. */
struct reader *reader_pick(struct dispatch *dispatch);
/* Returns the first reader whose queue is shorter than READER_QUEUE_MAX, else the next in rotation.
 * Reads that are due together then wake one thread instead of all. */
struct reader *reader_pick_idle(struct dispatch *dispatch);
/* Queues the job. The frontends' limits on calls and subscriptions bound the queue. */
void reader_post(struct reader *reader, struct reader_job *job);

/* ---- call_status.c ---- */

/* Sets the status of a request that did not end with NODE_OK. */
void dispatch_status_of_outcome(struct dispatch *dispatch, const struct node_request *request,
                                struct dispatch_status *status);
/* Sets the status of a failed query. */
void dispatch_status_of_error(int error, struct dispatch_status *status);

/* ---- readers.c: the reader threads ---- */

/* Starts `count` reader threads, at most READERS_MAX. Each one runs its jobs, serves ready
 * subscriptions in batches of READER_BATCH_MAX, and sweeps its subscriptions every READER_TICK_NS.
 * dispatch->chat must be set. On error no thread runs.
 * Errors: ERR_NOMEM, ERR_IO. */
int readers_start(struct dispatch *dispatch, size_t count);
/* Stops the threads and waits for them. Every subscription must be closed and every call ended. */
void readers_stop(struct dispatch *dispatch);

/* ---- node_status.c ---- */

/* Writes the cluster id in hex, as of the last turn; "" until the cluster is founded. */
void dispatch_get_cluster_id(const struct dispatch *dispatch, char out[CLUSTER_ID_HEX_BYTES + 1]);

/* Returns the time since which no leader is known; 0 while one is known. While the status is too
 * old, that is the time when it was published. */
uint64_t dispatch_leaderless_since(const struct dispatch *dispatch, const struct node_status *node,
                                   uint64_t now_ns);

/* ---- subscriptions.c: on the thread of the subscription's reader ---- */

/* Serves a subscription that the hub has made ready: reads and encodes one page, moves the cursor
 * behind it, and calls `page`. Calls `idle` if there is no message, and `ended` if the read fails.
 * Does nothing if the subscription has been closed or may_read() refuses. */
void subscription_serve(struct hub_subscription *hub_subscription);
/* Ends all subscriptions of the reader if dispatch is ending, if no leader has been known for
 * SUBSCRIPTION_LEADERLESS_NS, or if the node has applied nothing for so long. */
void subscription_sweep(struct reader *reader, uint64_t now_ns);
/* Sets reader->lag_max to the most messages that a subscription of the reader still has to read. */
void subscription_measure_lag(struct reader *reader);

/* ---- pages.c ---- */

/* Encodes as many messages of the page as `format` has room for, unless the page already has this
 * encoding. The page owns the result. Returns NULL if there is no memory. */
struct page_encoding *dispatch_encode_page(struct message_page *page,
                                           enum dispatch_page_format format);

/* The messages of a page as protobuf-c messages, in one allocation. Texts are copied; payloads are
 * views into the page, which must outlive them. */
struct stored_messages {
    size_t count;
    Raftogram__V1__StoredMessage **list;
};
/* Returns NULL if there is no memory. */
struct stored_messages *stored_messages_create(const struct message_page *page);
void stored_messages_destroy(struct stored_messages *messages);

#endif
