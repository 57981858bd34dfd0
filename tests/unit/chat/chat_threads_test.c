/* Readers, subscribers, apply and flushes at once. Each batch adds as many messages to channel "a"
 * as to "b" and sets the keys "x" and "y" to the same value: so whoever sees half of a batch, or a
 * seam, or a gap, knows it. Meant for TSan, too. */
#include "chat_fixture.h"

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/random.h"

#include <pthread.h>

enum { BATCHES = 1500, BATCH_MAX = 12, READERS = 2, SUBSCRIBERS = 2 };
static const uint64_t deadline_ns = 60 * NS_PER_S;

struct world {
    struct chat *chat;
    uint64_t channel_a;
    uint64_t end_ns;
    atomic_bool has_failed;
    atomic_bool is_done;
    atomic_uint_fast64_t last_sequence; /* of "a", as acknowledged */
};

struct actor {
    struct world *world;
    pthread_t thread;
    uint64_t seed;
};

#define EXPECT(world, condition)                                            \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            atomic_store(&(world)->has_failed, true);                       \
        }                                                                   \
    } while (0)

static bool goes_on(struct world *world)
{
    if (clock_monotonic_ns(clock_system()) > world->end_ns) {
        EXPECT(world, !"in time");
    }
    return !atomic_load(&world->is_done) && !atomic_load(&world->has_failed);
}

/* ---- the node thread ---- */

static void apply_batch(struct fixture *f, uint64_t *index, uint64_t *sequence, uint64_t count)
{
    struct command_result result;
    char text[32];
    uint64_t first = *sequence;
    chat_apply_begin(f->chat);
    for (uint64_t i = 1; i <= count; i++) {
        snprintf(text, sizeof(text), "payload %u", (unsigned)(first + i));
        struct command to_a = send_command("a", text, text);
        struct command to_b = send_command("b", "", text);
        assert_int_equal(try_apply_at(f, ++*index, &to_a, &result), 0);
        assert_int_equal(result.sequence, first + i);
        assert_false(result.deduplicated);
        assert_int_equal(try_apply_at(f, ++*index, &to_b, &result), 0);
    }
    snprintf(text, sizeof(text), "payload %u", (unsigned)(first / 2 + 1));
    struct command again = send_command("a", text, "again");
    assert_int_equal(try_apply_at(f, ++*index, &again, &result), 0);
    assert_true(result.deduplicated);
    assert_int_equal(result.sequence, first / 2 + 1);
    *sequence += count;
    snprintf(text, sizeof(text), "%u", (unsigned)*sequence);
    struct command set_x = set_command("x", text), set_y = set_command("y", text);
    assert_int_equal(try_apply_at(f, ++*index, &set_x, &result), 0);
    assert_int_equal(try_apply_at(f, ++*index, &set_y, &result), 0);
    chat_apply_end(f->chat);
}

/* ---- the store thread ---- */

static void *run_flusher(void *context)
{
    struct actor *actor = context;
    struct world *world = actor->world;
    uint64_t before = 0;
    while (goes_on(world)) {
        uint64_t applied = chat_applied(world->chat);
        EXPECT(world, chat_flush(world->chat, CHAT_FLUSH_NOW, 0) == 0);
        uint64_t durable = chat_durable_applied(world->chat);
        EXPECT(world, durable >= applied);
        EXPECT(world, durable >= before);
        before = durable;
        sched_yield();
    }
    return NULL;
}

/* ---- readers ---- */

static bool is_right_message(const struct message *message, uint64_t sequence)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "payload %u", (unsigned)sequence);
    struct bytes payload = message_payload(message);
    return message->sequence == sequence && payload.size == (size_t)size &&
           memcmp(payload.data, text, payload.size) == 0;
}

static void expect_page(struct world *world, uint64_t after, size_t limit, uint64_t at_least)
{
    struct message_page *page = NULL;
    int rc = chat_read_page(world->chat, world->channel_a, after, limit, &page);
    EXPECT(world, rc == 0);
    if (rc != 0) {
        return;
    }
    EXPECT(world, page->after_sequence == after);
    EXPECT(world, page->last_sequence == after + page->count);
    EXPECT(world, page->count <= limit);
    EXPECT(world, !page->has_more || page->count == limit);
    EXPECT(world, page->has_more || page->last_sequence >= at_least);
    for (size_t i = 0; i < page->count; i++) {
        EXPECT(world, is_right_message(page->messages[i], after + i + 1));
    }
    page_unref(page);
}

static void expect_even_channels(struct world *world, uint64_t at_least)
{
    struct channel_info infos[3];
    size_t count = 0;
    bool has_more = true;
    int rc = chat_list_channels(world->chat, (struct bytes){0}, (struct bytes){0}, 3, infos, &count,
                                &has_more);
    EXPECT(world, rc == 0);
    EXPECT(world, count == 2 && !has_more);
    EXPECT(world, infos[0].last_sequence == infos[1].last_sequence);
    EXPECT(world, infos[0].last_sequence >= at_least);
}

struct pair {
    size_t count;
    struct buf values[2];
};

static int take_value(void *context, struct bytes key, struct bytes value)
{
    struct pair *pair = context;
    buf_append(&pair->values[pair->count++], value.data, value.size);
    return pair->count == 2;
}

static void expect_even_values(struct world *world)
{
    struct pair pair = {0};
    chat_walk_values(world->chat, (struct bytes){0}, (struct bytes){0}, 10, take_value, &pair);
    EXPECT(world, pair.count != 1);
    EXPECT(world, bytes_equal(buf_bytes(&pair.values[0]), buf_bytes(&pair.values[1])));
    buf_finish(&pair.values[0]);
    buf_finish(&pair.values[1]);
}

static void *run_reader(void *context)
{
    struct actor *actor = context;
    struct world *world = actor->world;
    struct random random;
    random_seed(&random, actor->seed);
    while (goes_on(world)) {
        uint64_t end = atomic_load(&world->last_sequence);
        struct channel_info info;
        EXPECT(world, chat_find_channel(world->chat, bytes_of_text("a"), &info) == 0);
        EXPECT(world, info.last_sequence >= end);
        expect_page(world, random_below(&random, end + 2), 1 + random_below(&random, 400), end);
        expect_page(world, end > 10 ? end - 10 : 0, 1000, end);
        expect_even_channels(world, end);
        expect_even_values(world);
    }
    return NULL;
}

/* ---- subscribers ---- */

struct subscriber {
    struct actor actor;
    struct hub_listener listener;
    struct hub_subscription subscription;
    struct mailbox mailbox;
    uint64_t target;
};

static void wake_subscriber(struct hub_listener *listener)
{
    mailbox_wake(&CONTAINER_OF(listener, struct subscriber, listener)->mailbox);
}

static void serve(struct subscriber *subscriber)
{
    struct world *world = subscriber->actor.world;
    struct hub_subscription *subscription = &subscriber->subscription;
    struct message_page *page = NULL;
    int rc = chat_read_page(world->chat, world->channel_a, subscription->after_sequence, 20, &page);
    EXPECT(world, rc == 0);
    if (rc != 0) {
        return;
    }
    for (size_t i = 0; i < page->count; i++) {
        EXPECT(world, is_right_message(page->messages[i], subscription->after_sequence + i + 1));
    }
    subscription->after_sequence = page->last_sequence;
    if (page->has_more) {
        hub_make_ready(subscription);
    } else {
        hub_wait(subscription);
    }
    page_unref(page);
}

/* Until it has every message, and it is woken by the hub alone: a lost wake-up would leave it
 * waiting beyond the deadline. */
static void *run_subscriber(void *context)
{
    struct subscriber *subscriber = context;
    struct world *world = subscriber->actor.world;
    while (subscriber->subscription.after_sequence < subscriber->target &&
           !atomic_load(&world->has_failed)) {
        EXPECT(world, clock_monotonic_ns(clock_system()) < world->end_ns);
        mailbox_wait(&subscriber->mailbox, NS_PER_S);
        struct list nothing, ready;
        list_init(&nothing);
        list_init(&ready);
        mailbox_drain(&subscriber->mailbox, &nothing);
        if (hub_take_ready(&subscriber->listener, &ready, 1) == 1) {
            list_pop_front(&ready);
            serve(subscriber);
        }
    }
    return NULL;
}

static uint64_t batch_size(uint64_t batch)
{
    return 1 + batch * 7 % BATCH_MAX;
}

static void start_subscriber(struct subscriber *subscriber, struct world *world)
{
    subscriber->actor.world = world;
    for (uint64_t i = 0; i < BATCHES; i++) {
        subscriber->target += batch_size(i);
    }
    assert_int_equal(mailbox_init(&subscriber->mailbox), 0);
    hub_listener_init(chat_hub(world->chat), &subscriber->listener, wake_subscriber);
    assert_int_equal(hub_add(&subscriber->listener, &subscriber->subscription, world->channel_a, 0),
                     0);
    hub_make_ready(&subscriber->subscription);
    assert_int_equal(pthread_create(&subscriber->actor.thread, NULL, run_subscriber, subscriber),
                     0);
}

static void start(struct actor *actor, struct world *world, uint64_t seed, void *(*run)(void *))
{
    *actor = (struct actor){.world = world, .seed = seed};
    assert_int_equal(pthread_create(&actor->thread, NULL, run, actor), 0);
}

static void test_readers_see_whole_batches_without_seams_beside_apply_and_flush(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    static struct world world;
    world.chat = f.chat;
    world.channel_a = 1;
    world.end_ns = clock_monotonic_ns(clock_system()) + deadline_ns;
    struct actor flusher, readers[READERS];
    static struct subscriber subscribers[SUBSCRIBERS];
    start(&flusher, &world, 0, run_flusher);
    for (uint64_t i = 0; i < READERS; i++) {
        start(&readers[i], &world, i + 1, run_reader);
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        start_subscriber(&subscribers[i], &world);
    }
    uint64_t index = 2, sequence = 0;
    for (uint64_t i = 0; i < BATCHES && !atomic_load(&world.has_failed); i++) {
        apply_batch(&f, &index, &sequence, batch_size(i));
        atomic_store(&world.last_sequence, sequence);
        if (i % 16 == 0) {
            sched_yield();
        }
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        pthread_join(subscribers[i].actor.thread, NULL);
    }
    atomic_store(&world.is_done, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
    }
    pthread_join(flusher.thread, NULL);
    assert_false(atomic_load(&world.has_failed));
    for (int i = 0; i < SUBSCRIBERS; i++) {
        assert_int_equal(subscribers[i].subscription.after_sequence, sequence);
        hub_remove(&subscribers[i].subscription);
        mailbox_finish(&subscribers[i].mailbox);
    }
    struct chat_stats stats;
    chat_get_stats(f.chat, &stats);
    assert_true(stats.generations_flushed > 5);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_see_whole_batches_without_seams_beside_apply_and_flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
