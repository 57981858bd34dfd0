/* The loop: one completion queue, the thread that empties it, and posted functions in a heap by
 * deadline. The only public way to put an event into a queue is an empty batch on a call. So the
 * loop keeps a call on a lame channel to wake its thread. */
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"
#include "base/log.h"
#include "rpc/rpc_internal.h"

#include <errno.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_NAME_MAX 15
#define GRPC_END_S_MAX 3
#define POSTS_CAPACITY_FIRST 16
/* Most queued events that are handled before posted functions and turns. */
#define EVENTS_BEFORE_POSTS_MAX 256

struct post {
    uint64_t deadline_ns;
    uint64_t sequence; /* orders posts of one deadline */
    void (*fn)(void *context);
    void *context;
    struct rpc_loop *owner; /* the sharing loop that posted it; NULL: the loop itself */
};

/* gRPC's poller reads one ready connection in each pass. After a long turn, such as one with a slow
 * fsync, messages wait at all connections. They are read before the next turn. Otherwise a leader
 * would receive no answers during two turns and step down. */
#define LONG_TURN_NS (5 * NS_PER_MS)
#define PASSES_AFTER_LONG_TURN 32

struct rpc_loop {
    grpc_completion_queue *queue;
    grpc_channel *wake_channel;
    grpc_call *wake_call;
    struct rpc_tag wake;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    struct post *posts;   /* a binary heap */
    size_t post_count;
    size_t post_capacity;
    uint64_t post_sequence;
    uint64_t planned_until_ns; /* when the thread next checks the posts, unless it is woken */
    /* The thread may be waiting. Set under the lock and cleared without it: if a poster sees it
     * cleared, the thread will check the posts. */
    atomic_bool is_asleep;
    bool is_waking;
    bool is_stopping;

    pthread_mutex_t turn_lock; /* held while a turn runs */
    uint64_t (*turn)(void *context);
    void *turn_context;
    uint64_t turn_ns; /* when the next turn is due; loop's thread */
    atomic_bool is_turn_wanted;
    atomic_uint_fast64_t wanted_ns; /* time of the request, if is_turn_wanted is set */
    struct latency turn_delays;
    uint64_t turn_delay_ns; /* of the last turn; loop's thread */
    unsigned passes;        /* poller passes that are due before the next turn; loop's thread */

    /* A sharing loop uses only these. The host's lock guards `owned_count` and `is_stopping`. */
    struct rpc_loop *host;
    size_t owned_count; /* its posts in the host's heap */
    pthread_cond_t drained;
};

static __thread const struct rpc_loop *current_loop;

gpr_timespec rpc_timespec(uint64_t monotonic_ns)
{
    if (monotonic_ns >= INT64_MAX) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return gpr_time_from_nanos((int64_t)monotonic_ns, GPR_CLOCK_MONOTONIC);
}

uint64_t rpc_timespec_ns(gpr_timespec time)
{
    if (gpr_time_cmp(time, gpr_inf_future(time.clock_type)) == 0) {
        return UINT64_MAX;
    }
    gpr_timespec monotonic = gpr_convert_clock_type(time, GPR_CLOCK_MONOTONIC);
    if (monotonic.tv_sec < 0) {
        return 0;
    }
    if ((uint64_t)monotonic.tv_sec >= INT64_MAX / NS_PER_S) {
        return UINT64_MAX;
    }
    return (uint64_t)monotonic.tv_sec * NS_PER_S + (uint64_t)monotonic.tv_nsec;
}

static const struct rpc_loop *thread_of(const struct rpc_loop *loop)
{
    return loop->host != NULL ? loop->host : loop;
}

grpc_completion_queue *rpc_loop_queue(struct rpc_loop *loop)
{
    return thread_of(loop)->queue;
}

bool rpc_loop_is_current(const struct rpc_loop *loop)
{
    return current_loop == thread_of(loop);
}

/* ---- the heap of posts ---- */

static bool is_before(const struct post *a, const struct post *b)
{
    if (a->deadline_ns != b->deadline_ns) {
        return a->deadline_ns < b->deadline_ns;
    }
    return a->sequence < b->sequence;
}

static void heap_swap(struct post *a, struct post *b)
{
    struct post held = *a;
    *a = *b;
    *b = held;
}

static int heap_push(struct rpc_loop *loop, struct post post)
{
    if (loop->post_count == loop->post_capacity) {
        size_t capacity = loop->post_capacity == 0 ? POSTS_CAPACITY_FIRST : loop->post_capacity * 2;
        struct post *posts = realloc(loop->posts, capacity * sizeof(*posts));
        if (posts == NULL) {
            return ERR_NOMEM;
        }
        loop->posts = posts;
        loop->post_capacity = capacity;
    }
    size_t at = loop->post_count++;
    loop->posts[at] = post;
    while (at > 0 && is_before(&loop->posts[at], &loop->posts[(at - 1) / 2])) {
        heap_swap(&loop->posts[at], &loop->posts[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    return 0;
}

static void heap_sink(struct rpc_loop *loop, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < loop->post_count && is_before(&loop->posts[child], &loop->posts[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        heap_swap(&loop->posts[at], &loop->posts[least]);
        at = least;
    }
}

static struct post heap_pop(struct rpc_loop *loop)
{
    struct post first = loop->posts[0];
    loop->posts[0] = loop->posts[--loop->post_count];
    heap_sink(loop, 0);
    return first;
}

/* Makes all posts of a sharing loop due at once. */
static void heap_hasten(struct rpc_loop *loop, const struct rpc_loop *owner)
{
    for (size_t i = 0; i < loop->post_count; i++) {
        if (loop->posts[i].owner == owner) {
            loop->posts[i].deadline_ns = 0;
        }
    }
    for (size_t i = loop->post_count; i > 0; i--) {
        heap_sink(loop, i - 1);
    }
}

/* ---- the thread ---- */

/* Requires the lock. */
static void wake(struct rpc_loop *loop)
{
    if (loop->is_waking || !atomic_load(&loop->is_asleep)) {
        return;
    }
    loop->is_waking = true;
    RPC_TSAN_RELEASE(&loop->wake);
    grpc_call_error error = grpc_call_start_batch(loop->wake_call, NULL, 0, &loop->wake, NULL);
    CHECK(error == GRPC_CALL_OK);
}

static void on_wake(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_loop *loop = CONTAINER_OF(tag, struct rpc_loop, wake);
    pthread_mutex_lock(&loop->lock);
    loop->is_waking = false;
    pthread_mutex_unlock(&loop->lock);
}

/* Runs the posts that are due at its start, so that functions that post again cannot block the
 * thread. */
static void run_posts(struct rpc_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    uint64_t sequence_end = loop->post_sequence;
    uint64_t now_ns = loop->is_stopping ? UINT64_MAX : clock_monotonic_ns(clock_system());
    while (loop->post_count > 0 && loop->posts[0].deadline_ns <= now_ns &&
           loop->posts[0].sequence < sequence_end) {
        struct post post = heap_pop(loop);
        pthread_mutex_unlock(&loop->lock);
        post.fn(post.context);
        pthread_mutex_lock(&loop->lock);
        if (post.owner != NULL && --post.owner->owned_count == 0) {
            pthread_cond_signal(&post.owner->drained);
        }
    }
    pthread_mutex_unlock(&loop->lock);
}

static void run_turn(struct rpc_loop *loop)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    bool is_wanted = atomic_load(&loop->is_turn_wanted);
    if (!is_wanted && now_ns < loop->turn_ns) {
        return;
    }
    uint64_t due_ns = is_wanted ? atomic_load(&loop->wanted_ns) : loop->turn_ns;
    due_ns = loop->turn_ns < due_ns ? loop->turn_ns : due_ns;
    loop->turn_delay_ns = now_ns > due_ns ? now_ns - due_ns : 0;
    latency_record(&loop->turn_delays, loop->turn_delay_ns);
    pthread_mutex_lock(&loop->turn_lock);
    /* Cleared before the turn: a request during the turn asks for the next one. */
    atomic_store(&loop->is_turn_wanted, false);
    loop->turn_ns = loop->turn != NULL ? loop->turn(loop->turn_context) : UINT64_MAX;
    pthread_mutex_unlock(&loop->turn_lock);
    if (clock_monotonic_ns(clock_system()) - now_ns >= LONG_TURN_NS) {
        loop->passes = PASSES_AFTER_LONG_TURN;
    }
}

/* Computes until when the thread may wait for events. Returns false if the loop ends. */
static bool plan_sleep(struct rpc_loop *loop, uint64_t *until_ns)
{
    pthread_mutex_lock(&loop->lock);
    bool is_running = !loop->is_stopping || loop->post_count > 0 || loop->is_waking;
    *until_ns = UINT64_MAX;
    if (loop->is_stopping) {
        *until_ns = loop->post_count > 0 ? 0 : UINT64_MAX;
    } else if (loop->post_count > 0) {
        *until_ns = loop->posts[0].deadline_ns;
    }
    if (*until_ns > loop->turn_ns) {
        *until_ns = loop->turn_ns;
    }
    if (atomic_load(&loop->is_turn_wanted)) {
        *until_ns = 0;
    }
    loop->planned_until_ns = *until_ns;
    atomic_store(&loop->is_asleep, true);
    pthread_mutex_unlock(&loop->lock);
    return is_running;
}

static void *run(void *argument)
{
    struct rpc_loop *loop = argument;
    current_loop = loop;
    unsigned events = 0;
    uint64_t until_ns;
    while (plan_sleep(loop, &until_ns)) {
        bool is_catching_up = loop->passes > 0;
        grpc_event event = grpc_completion_queue_next(
            loop->queue, rpc_timespec(is_catching_up ? 0 : until_ns), NULL);
        atomic_store(&loop->is_asleep, false);
        CHECK(event.type != GRPC_QUEUE_SHUTDOWN);
        if (event.type == GRPC_OP_COMPLETE) {
            struct rpc_tag *tag = event.tag;
            RPC_TSAN_ACQUIRE(tag);
            tag->fn(tag, event.success != 0);
            events++;
        }
        if (event.type == GRPC_QUEUE_TIMEOUT && is_catching_up) {
            loop->passes--;
            continue;
        }
        if (event.type == GRPC_QUEUE_TIMEOUT || events >= EVENTS_BEFORE_POSTS_MAX) {
            events = 0;
            run_posts(loop);
            run_turn(loop);
        }
    }
    grpc_completion_queue_shutdown(loop->queue);
    /* Servers and channels are destroyed, so none of their events can be left. */
    grpc_event event =
        grpc_completion_queue_next(loop->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    CHECK(event.type == GRPC_QUEUE_SHUTDOWN);
    return NULL;
}

/* ---- public ---- */

/* Logs gRPC's own lines as ours, since gRPC would write plain text to stderr. */
static void log_for_grpc(gpr_log_func_args *args)
{
    log_debug("rpc", "grpc", LOG_STR("text", args->message), LOG_STR("file", args->file),
              LOG_I64("line", args->line));
}

static void take_over_log(void)
{
    const char *verbosity = getenv("GRPC_VERBOSITY");
    if (verbosity == NULL || verbosity[0] == '\0') {
        gpr_set_log_function(log_for_grpc);
    }
}

static bool open_queue(struct rpc_loop *loop)
{
    loop->queue = grpc_completion_queue_create_for_next(NULL);
    loop->wake_channel =
        grpc_lame_client_channel_create("lame:wake", GRPC_STATUS_UNAVAILABLE, "never connects");
    loop->wake_call = grpc_channel_create_call(loop->wake_channel, NULL, GRPC_PROPAGATE_DEFAULTS,
                                               loop->queue, grpc_slice_from_static_string("/wake"),
                                               NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return loop->wake_call != NULL;
}

static void close_queue(struct rpc_loop *loop)
{
    grpc_call_unref(loop->wake_call);
    grpc_channel_destroy(loop->wake_channel);
    grpc_completion_queue_destroy(loop->queue);
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned begun;
    unsigned done;
} ends = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *end_grpc_now(void *context)
{
    grpc_shutdown();
    pthread_mutex_lock(&ends.lock);
    ends.done++;
    pthread_cond_broadcast(&ends.changed);
    pthread_mutex_unlock(&ends.lock);
    return NULL;
}

/* Shuts gRPC down, with a time limit. If a thread of its own could not be started, gRPC (1.51)
 * waits for it indefinitely. Nothing depends on gRPC any more, so the process ends without it. */
static void end_grpc(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_grpc_now, NULL) != 0) {
        grpc_shutdown();
        return;
    }
    pthread_detach(thread);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GRPC_END_S_MAX;
    pthread_mutex_lock(&ends.lock);
    unsigned wanted = ++ends.begun;
    int error = 0;
    while (ends.done < wanted && error == 0) {
        error = pthread_cond_timedwait(&ends.changed, &ends.lock, &until);
    }
    pthread_mutex_unlock(&ends.lock);
    if (error != 0) {
        log_warn("rpc", "gRPC does not shut down; continuing without waiting for it");
    }
}

int rpc_loop_create(const char *name, struct rpc_loop **out)
{
    static pthread_once_t log_once = PTHREAD_ONCE_INIT;
    CHECK(strlen(name) <= THREAD_NAME_MAX);
    struct rpc_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return ERR_NOMEM;
    }
    pthread_once(&log_once, take_over_log);
    grpc_init();
    pthread_mutex_init(&loop->lock, NULL);
    pthread_mutex_init(&loop->turn_lock, NULL);
    loop->turn_ns = UINT64_MAX;
    loop->wake.fn = on_wake;
    bool is_open = open_queue(loop);
    CHECK(is_open);
    int error = pthread_create(&loop->thread, NULL, run, loop);
    if (error != 0) {
        grpc_completion_queue_shutdown(loop->queue);
        close_queue(loop);
        end_grpc();
        pthread_mutex_destroy(&loop->turn_lock);
        pthread_mutex_destroy(&loop->lock);
        free(loop);
        return error == ENOMEM ? ERR_NOMEM : ERR_IO;
    }
    pthread_setname_np(loop->thread, name);
    *out = loop;
    return 0;
}

int rpc_loop_share(struct rpc_loop *host, struct rpc_loop **out)
{
    CHECK(host->host == NULL);
    struct rpc_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return ERR_NOMEM;
    }
    loop->host = host;
    pthread_cond_init(&loop->drained, NULL);
    *out = loop;
    return 0;
}

static void destroy_sharing(struct rpc_loop *loop)
{
    struct rpc_loop *host = loop->host;
    pthread_mutex_lock(&host->lock);
    loop->is_stopping = true;
    heap_hasten(host, loop);
    wake(host);
    while (loop->owned_count > 0) {
        pthread_cond_wait(&loop->drained, &host->lock);
    }
    pthread_mutex_unlock(&host->lock);
    pthread_cond_destroy(&loop->drained);
    free(loop);
}

void rpc_loop_destroy(struct rpc_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    CHECK(!rpc_loop_is_current(loop));
    if (loop->host != NULL) {
        destroy_sharing(loop);
        return;
    }
    pthread_mutex_lock(&loop->lock);
    loop->is_stopping = true;
    wake(loop);
    pthread_mutex_unlock(&loop->lock);
    int error = pthread_join(loop->thread, NULL);
    CHECK(error == 0);
    CHECK(loop->post_count == 0);
    close_queue(loop);
    end_grpc();
    pthread_mutex_destroy(&loop->turn_lock);
    pthread_mutex_destroy(&loop->lock);
    free(loop->posts);
    free(loop);
}

int rpc_loop_post(struct rpc_loop *loop, uint64_t deadline_ns, void (*fn)(void *context),
                  void *context)
{
    bool is_sharing = loop->host != NULL;
    struct rpc_loop *host = is_sharing ? loop->host : loop;
    struct post post = {deadline_ns, 0, fn, context, is_sharing ? loop : NULL};
    pthread_mutex_lock(&host->lock);
    post.sequence = host->post_sequence;
    int rc = ERR_CLOSED;
    if (!host->is_stopping && !loop->is_stopping) {
        rc = heap_push(host, post);
    }
    if (rc == 0) {
        host->post_sequence++;
        loop->owned_count += is_sharing ? 1 : 0;
        if (deadline_ns < host->planned_until_ns && !rpc_loop_is_current(loop)) {
            wake(host);
        }
    }
    pthread_mutex_unlock(&host->lock);
    return rc;
}

void rpc_loop_set_turn(struct rpc_loop *loop, uint64_t (*fn)(void *context), void *context)
{
    CHECK(loop->host == NULL);
    CHECK(!rpc_loop_is_current(loop));
    pthread_mutex_lock(&loop->turn_lock);
    loop->turn = fn;
    loop->turn_context = context;
    pthread_mutex_unlock(&loop->turn_lock);
    rpc_loop_turn_soon(loop);
}

void rpc_loop_turn_soon(struct rpc_loop *loop)
{
    CHECK(loop->host == NULL);
    if (atomic_load(&loop->is_turn_wanted)) {
        return;
    }
    /* If two threads store at once, either time is good enough. */
    atomic_store(&loop->wanted_ns, clock_monotonic_ns(clock_system()));
    if (atomic_exchange(&loop->is_turn_wanted, true) || rpc_loop_is_current(loop)) {
        return;
    }
    pthread_mutex_lock(&loop->lock);
    wake(loop);
    pthread_mutex_unlock(&loop->lock);
}

void rpc_loop_turn_delays(const struct rpc_loop *loop, struct latency_counts *out)
{
    CHECK(loop->host == NULL);
    latency_read(&loop->turn_delays, out);
}

uint64_t rpc_loop_turn_delay_ns(const struct rpc_loop *loop)
{
    CHECK(rpc_loop_is_current(loop));
    return loop->turn_delay_ns;
}
