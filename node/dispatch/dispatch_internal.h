/* What the files of dispatch share. */
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
#define READER_BATCH_MAX 64           /* subscriptions served before unary reads get a turn */
#define READER_QUEUE_MAX 32           /* reads that wait for one reader before another is woken */
#define READER_TICK_NS (NS_PER_S / 4) /* how often subscriptions are looked over */
#define SUBSCRIPTION_LEADERLESS_NS                                \
    (10 * NS_PER_S) /* then a node cannot vouch for being current \
                     */
/* Of messages or channels in one answer. */
#define PAGE_LIMIT_DEFAULT 100
#define PAGE_LIMIT_MAX 1000
#define NOT_LEADER_MESSAGE "not leader: retry on suggested leader client endpoint"

/* A thread that serves reads: unary ones from its mailbox, subscriptions from the hub. */
struct reader {
    struct dispatch *dispatch;
    pthread_t thread;
    struct mailbox mailbox; /* of reader_job.link */
    struct hub_listener listener;
    struct list subscriptions; /* open ones, by dispatch_subscription.link; reader thread only */
    atomic_bool is_stopping;
    atomic_uint jobs;             /* posted and not done */
    atomic_uint_fast64_t lag_max; /* of its subscriptions, in messages, when it last looked */
};

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
    bool was_stale;        /* as the watchers were told by dispatch_look_at_age(); its thread's */
    atomic_bool is_ending; /* subscriptions end with DRAINING */
    atomic_uint_fast64_t calls[DISPATCH_METHOD_COUNT][DISPATCH_CODES];
};

/* One unary call on its way. */
struct work {
    struct node_request request; /* first: node callbacks find the work by it */
    struct reader_job job;
    struct dispatch *dispatch;
    struct dispatch_call *call;
    struct buf command; /* encoded, or scratch of a read; then the items of the result */
    bool has_item;      /* a refusal is that of one message of a batch: */
    uint32_t item;      /* its position */
};

/* What a method does with a call. */
struct method_handler {
    /* Frontend's thread: checks fields, fills in work->request. Returns true to submit it; false
     * when call->status or the response says all (dispatch_finish_work() was called). */
    bool (*prepare)(struct work *work);
    /* Node's thread, commands: the request is done. */
    void (*applied)(struct work *work);
    /* Reader's thread, reads: the barrier was reached. */
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

/* As dispatch_submit(); `chain` may be NULL. */
void dispatch_submit_in_chain(struct dispatch *dispatch, struct dispatch_call *call,
                              struct node_chain *chain);

/* ---- publish.c ---- */

/* Signals all open publishes; dispatch->is_ending is set. */
void dispatch_end_publishes(struct dispatch *dispatch);

/* ---- work.c: what handlers share ---- */

/* Counts an answer with this status. */
void dispatch_count_call(struct dispatch *dispatch, enum dispatch_method_id id, int code);
/* Ends the call: runs done(), then frees the request message and the work. */
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
/* The limit of a page as the client gave it, within the bounds; 0 is the default. */
size_t work_clamp_limit(uint32_t limit);
/* NULL, or one line: why the id is refused. */
const char *dispatch_channel_id_fault(const char *id);
/* The next reader in turn, for a subscription, which stays with it. */
struct reader *reader_pick(struct dispatch *dispatch);
/* The first reader whose queue is short, so that reads which became due together wake one thread.
 */
struct reader *reader_pick_idle(struct dispatch *dispatch);
/* Queues the job. The frontends' limits on calls and subscriptions bound the queue. */
void reader_post(struct reader *reader, struct reader_job *job);

/* ---- call_status.c ---- */

/* Sets the status of a request that did not end with NODE_OK. */
void dispatch_status_of_outcome(struct dispatch *dispatch, const struct node_request *request,
                                struct dispatch_status *status);
/* Sets the status of a failed query. */
void dispatch_status_of_error(int error, struct dispatch_status *status);

/* ---- readers.c ---- */
int readers_start(struct dispatch *dispatch, size_t count);
void readers_stop(struct dispatch *dispatch);

/* ---- node_status.c ---- */

/* The cluster's id in hex, as published; "" until founded. */
void dispatch_get_cluster_id(const struct dispatch *dispatch, char out[CLUSTER_ID_HEX_BYTES + 1]);

/* Since when no leader is known, also while the node's thread cannot say so; 0: one is. */
uint64_t dispatch_leaderless_since(const struct dispatch *dispatch, const struct node_status *node,
                                   uint64_t now_ns);

/* ---- subscriptions.c; on a reader's thread ---- */
void subscription_serve(struct hub_subscription *hub_subscription);
void subscription_sweep(struct reader *reader, uint64_t now_ns);
void subscription_measure_lag(struct reader *reader);

/* ---- pages.c ---- */

/* Encodes as many messages of the page as `format` has room for, if nobody has done so before.
 * Returns the page's; NULL: no memory. */
struct page_encoding *dispatch_encode_page(struct message_page *page,
                                           enum dispatch_page_format format);

/* The messages of a page as protobuf-c messages, in one allocation. NULL: no memory. */
struct stored_messages {
    size_t count;
    Raftogram__V1__StoredMessage **list;
};
struct stored_messages *stored_messages_create(const struct message_page *page);
void stored_messages_destroy(struct stored_messages *messages);

#endif
