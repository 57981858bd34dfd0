/* It starts no thread of its own, so that the run under ThreadSanitizer leaves it out: there each
 * megabyte that gRPC moves is a hundred thousand suppressed reports. */
#include "unit/frontend_grpc/grpc_testing.h"

#include "grpc/health/v1/health.pb-c.h"

#define SUBSCRIBE "/raftogram.v1.Messenger/Subscribe"
#define CHECK_HEALTH "/grpc.health.v1.Health/Check"
#define WATCH_HEALTH "/grpc.health.v1.Health/Watch"
#define REFLECTION "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define REFLECTION_ALPHA "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

#define SERVING "{\"status\":\"SERVING\"}"
#define NOT_SERVING "{\"status\":\"NOT_SERVING\"}"

/* ---- Subscribe ---- */

/* A subscription that is in place and asked for its first page. */
static struct dispatch_subscription *subscribe(struct run *run, struct fixture *fixture)
{
    run_stream(run, fixture, SUBSCRIBE, "{\"channelId\":\"c\"}");
    AWAIT(fake.subscription != NULL);
    fake_open(fake.subscription);
    AWAIT(fake.subscription->asked == 1);
    return fake.subscription;
}

static void send_page(struct dispatch_subscription *subscription, struct message_page *page)
{
    subscription->events.page(subscription->events.context, page);
}

static void test_headers_say_that_the_subscription_is_in_place(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_stream(&run, &fixture, SUBSCRIBE, "{}");
    AWAIT(fake.subscription != NULL);
    ASSERT_NOW(run.headers == 0);
    ASSERT_NOW(fake.subscription->asked == 0);
    fake_open(fake.subscription);
    AWAIT(run.headers == 1);
    AWAIT(fake.subscription->asked == 1);
    run_cancel(&run);
    fake_close(fake.subscription);
    fixture_finish(&fixture);
}

static void test_pages_use_the_encoding_of_the_request(void **state)
{
    struct message_page page = {.encoded = {{"protobuf", 8}, {"json", 4}}};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    send_page(subscription, &page);
    AWAIT(run.answer_count == 1);
    assert_string_equal(run_answer(&run, 0), "json");
    run_cancel(&run);
    fake_close(subscription);

    CHANGE(fake.subscription = NULL);
    run_start_stream(&run, fixture.channel, SUBSCRIBE);
    run_send(&run, (struct bytes){"", 0});
    AWAIT(fake.subscription != NULL);
    fake_open(fake.subscription);
    AWAIT(fake.subscription->asked == 1);
    send_page(fake.subscription, &page);
    AWAIT(run.answer_count == 1);
    assert_string_equal(run_answer(&run, 0), "protobuf");
    run_cancel(&run);
    fake_close(fake.subscription);
    fixture_finish(&fixture);
}

static void test_each_page_that_left_asks_for_the_next(void **state)
{
    struct message_page page = {.encoded = {{"protobuf", 8}, {"json", 4}}};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    for (int i = 1; i <= 10; i++) {
        send_page(subscription, &page);
        AWAIT(run.answer_count == i);
        AWAIT(subscription->asked == i + 1);
    }
    run_cancel(&run);
    fake_close(subscription);
    fixture_finish(&fixture);
}

/* A big page is sent without a copy: it is held as long as it is on its way. */
static void test_stalled_client_holds_its_page_and_asks_for_no_more(void **state)
{
    static char megabyte[1 << 20];
    struct message_page page = {.encoded = {{"", 0}, {megabyte, sizeof(megabyte)}}};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    CHANGE(run.is_held = true);
    int pages = 0;
    uint64_t until_ns = clock_monotonic_ns(clock_system()) + NS_PER_S;
    while (clock_monotonic_ns(clock_system()) < until_ns && pages < RUN_ANSWERS_MAX - 1) {
        pthread_mutex_lock(&watch_lock);
        bool is_asked = subscription->asked > pages;
        if (!is_asked) {
            is_asked = watch_wait(until_ns) && subscription->asked > pages;
        }
        pthread_mutex_unlock(&watch_lock);
        if (is_asked) {
            send_page(subscription, &page);
            pages++;
        }
    }
    pthread_mutex_lock(&watch_lock);
    assert_int_equal(subscription->asked, pages);
    assert_true(page.references > 0);
    run.is_held = false;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
    AWAIT(run.answer_count == pages);
    AWAIT(subscription->asked == pages + 1);
    AWAIT(page.references == 0);
    assert_int_equal(run.answers[0].size, sizeof(megabyte));
    run_cancel(&run);
    fake_close(subscription);
    fixture_finish(&fixture);
}

static void test_client_that_leaves_closes_the_subscription_once(void **state)
{
    struct message_page page = {.encoded = {{"protobuf", 8}, {"json", 4}}};
    const struct dispatch_status end = {.code = DISPATCH_UNAVAILABLE, .message = "end"};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    run_cancel(&run);
    AWAIT(subscription->is_closing);
    /* What a reader had begun before it saw the closing. */
    send_page(subscription, &page);
    subscription->events.ended(subscription->events.context, &end);
    fake_close(subscription);
    fixture_finish(&fixture);
}

static void test_client_that_leaves_before_the_opening_is_not_asked_for(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_stream(&run, &fixture, SUBSCRIBE, "{}");
    AWAIT(fake.subscription != NULL);
    run_cancel(&run);
    AWAIT(fake.subscription->is_closing);
    fake_open(fake.subscription);
    fake_close(fake.subscription);
    fixture_finish(&fixture);
}

static void test_refused_subscription_ends_without_headers(void **state)
{
    struct dispatch_status status;
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_stream(&run, &fixture, SUBSCRIBE, "{}");
    AWAIT(fake.subscription != NULL);
    struct dispatch_subscription *subscription = fake.subscription;
    dispatch_status_set(&status, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND", "no such channel");
    subscription->events.opened(subscription->events.context, &status, 0, "");
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_NOT_FOUND);
    assert_string_equal(run.text, "no such channel");
    assert_string_equal(run.details, "CHANNEL_NOT_FOUND");
    assert_int_equal(run.headers, 0);
    fake_close(subscription);
    assert_int_equal(fake.call_count, 0);
    fixture_finish(&fixture);
}

static void test_status_of_an_end_follows_the_last_page(void **state)
{
    struct message_page page = {.encoded = {{"protobuf", 8}, {"json", 4}}};
    struct dispatch_status status;
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "DRAINING", "shutting down");
    send_page(subscription, &page);
    subscription->events.ended(subscription->events.context, &status);
    run_wait(&run);
    assert_int_equal(run.answer_count, 1);
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    assert_string_equal(run.details, "DRAINING");
    fake_close(subscription);
    fixture_finish(&fixture);
}

static void test_subscription_without_memory_is_overloaded(void **state)
{
    struct dispatch_status status = {0};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    CHANGE(fake.has_no_memory = true);
    run_stream(&run, &fixture, SUBSCRIBE, "{}");
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_string_equal(run.details, "OVERLOADED");
    CHANGE(fake.has_no_memory = false);
    struct dispatch_subscription *subscription = subscribe(&run, &fixture);
    /* So dispatch ends it when there is none for a page. */
    dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
    subscription->events.ended(subscription->events.context, &status);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    fake_close(subscription);
    fixture_finish(&fixture);
}

/* ---- health ---- */

static void test_health_of_each_service(void **state)
{
    enum {
        SERVED = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING,
        UNSERVED = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING,
        UNKNOWN = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN,
    };
    static const struct {
        const char *service;
        int ready;
        int unready;
        int closing;
    } cases[] = {
        {"", SERVED, SERVED, UNSERVED},
        {"raftogram.v1.Cluster", SERVED, SERVED, UNSERVED},
        {"raftogram.v1.Messenger", SERVED, UNSERVED, UNSERVED},
        {"phalanx.KV", SERVED, UNSERVED, UNSERVED},
        {"phalanx.Consensus", UNKNOWN, UNKNOWN, UNKNOWN},
        {"raftogram.v1", UNKNOWN, UNKNOWN, UNKNOWN},
        {NULL, UNKNOWN, UNKNOWN, UNKNOWN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(health_status(cases[i].service, true, false), cases[i].ready);
        assert_int_equal(health_status(cases[i].service, false, false), cases[i].unready);
        assert_int_equal(health_status(cases[i].service, true, true), cases[i].closing);
    }
}

static void test_check_speaks_both_encodings(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_unary(&run, fixture.channel, CHECK_HEALTH, bytes_of_text("{\"service\":\"phalanx.KV\"}"));
    assert_string_equal(run_answer(&run, 0), NOT_SERVING);
    run_unary(&run, fixture.channel, CHECK_HEALTH, (struct bytes){"", 0});
    assert_int_equal(run.answers[0].size, 2);
    assert_memory_equal(run.answers[0].data, "\x08\x01", 2);
    run_unary(&run, fixture.channel, CHECK_HEALTH, bytes_of_text("{\"service\":\"nobody\"}"));
    assert_int_equal(run.code, GRPC_STATUS_NOT_FOUND);
    fixture_finish(&fixture);
}

static void test_watch_tells_the_present_and_each_change(void **state)
{
    struct fixture fixture;
    struct run messenger;
    struct run process;
    fixture_init(&fixture);
    run_stream(&messenger, &fixture, WATCH_HEALTH, "{\"service\":\"raftogram.v1.Messenger\"}");
    run_stream(&process, &fixture, WATCH_HEALTH, "{}");
    AWAIT(messenger.answer_count == 1);
    AWAIT(process.answer_count == 1);
    assert_string_equal(run_answer(&messenger, 0), NOT_SERVING);
    assert_string_equal(run_answer(&process, 0), SERVING);
    fake_set_ready(true);
    AWAIT(messenger.answer_count == 2);
    assert_string_equal(run_answer(&messenger, 1), SERVING);
    fake_set_ready(true); /* no news */
    fake_set_ready(false);
    AWAIT(messenger.answer_count == 3);
    assert_string_equal(run_answer(&messenger, 2), NOT_SERVING);
    ASSERT_NOW(process.answer_count == 1);
    run_cancel(&messenger);
    fake_set_ready(true);
    run_cancel(&process);
    fixture_finish(&fixture);
}

static void test_watch_of_an_unknown_service_stays_open(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_stream(&run, &fixture, WATCH_HEALTH, "{\"service\":\"nobody\"}");
    AWAIT(run.answer_count == 1);
    assert_string_equal(run_answer(&run, 0), "{\"status\":\"SERVICE_UNKNOWN\"}");
    fake_set_ready(true);
    ASSERT_NOW(run.closed == 0);
    run_cancel(&run);
    assert_int_equal(run.answer_count, 1);
    fixture_finish(&fixture);
}

static void test_closing_is_told_and_ends_the_watches(void **state)
{
    struct fixture fixture;
    struct run run;
    struct run unknown;
    fixture_init(&fixture);
    run_stream(&run, &fixture, WATCH_HEALTH, "{}");
    run_stream(&unknown, &fixture, WATCH_HEALTH, "{\"service\":\"nobody\"}");
    AWAIT(run.answer_count == 1);
    AWAIT(unknown.answer_count == 1);
    frontend_grpc.close(fixture.frontend);
    run_wait(&run);
    run_wait(&unknown);
    assert_int_equal(run.answer_count, 2);
    assert_string_equal(run_answer(&run, 1), NOT_SERVING);
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    assert_int_equal(unknown.code, GRPC_STATUS_UNAVAILABLE);
    fixture_finish(&fixture);
}

/* ---- reflection ---- */

static void assert_reflected(struct run *run, const char *question, const char *part)
{
    int count = run->answer_count;
    run_send(run, bytes_of_text(question));
    AWAIT(run->answer_count == count + 1);
    if (strstr(run_answer(run, count), part) == NULL) {
        fail_msg("no %s in %s", part, run_answer(run, count));
    }
}

static void test_reflection_answers_each_question(void **state)
{
    static const char *const paths[] = {REFLECTION, REFLECTION_ALPHA};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    for (size_t i = 0; i < 2; i++) {
        run_start_stream(&run, fixture.channel, paths[i]);
        assert_reflected(&run, "{\"listServices\":\"\"}",
                         "{\"service\":[{\"name\":\"grpc.health.v1.Health\"},");
        assert_reflected(&run, "{\"fileByFilename\":\"phalanx/kv.proto\"}",
                         "{\"fileDescriptorProto\":[\"");
        assert_reflected(&run, "{\"fileByFilename\":\"kv.proto\"}", "{\"errorCode\":5,");
        assert_reflected(&run, "{\"fileContainingSymbol\":\"google.rpc.ErrorInfo\"}",
                         "{\"fileDescriptorProto\":[\"");
        assert_reflected(&run, "{\"fileContainingSymbol\":\"google.rpc\"}", "{\"errorCode\":5,");
        assert_reflected(&run, "{\"fileContainingExtension\":{\"containingType\":\"a\"}}",
                         "{\"errorCode\":5,");
        assert_reflected(&run, "{\"allExtensionNumbersOfType\":\"google.rpc.Status\"}",
                         "{\"baseTypeName\":\"google.rpc.Status\",\"extensionNumber\":[]}");
        assert_reflected(&run, "{\"allExtensionNumbersOfType\":\"a\"}", "{\"errorCode\":5,");
        assert_reflected(&run, "{\"host\":\"h\"}", "\"validHost\":\"h\"");
        assert_reflected(&run, "{}", "{\"errorCode\":3,");
        rpc_stream_close_send(run.call);
        run_wait(&run);
        assert_int_equal(run.code, GRPC_STATUS_OK);
    }
    fixture_finish(&fixture);
}

static void test_reflection_can_be_off(void **state)
{
    struct frontend_options options = default_options;
    struct fixture fixture;
    struct run run;
    options.has_reflection = false;
    fixture_init_with(&fixture, &options);
    run_unary(&run, fixture.channel, REFLECTION, bytes_of_text("{}"));
    assert_int_equal(run.code, GRPC_STATUS_UNIMPLEMENTED);
    run_unary(&run, fixture.channel, REFLECTION_ALPHA, bytes_of_text("{}"));
    assert_int_equal(run.code, GRPC_STATUS_UNIMPLEMENTED);
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers_say_that_the_subscription_is_in_place),
        cmocka_unit_test(test_pages_use_the_encoding_of_the_request),
        cmocka_unit_test(test_each_page_that_left_asks_for_the_next),
        cmocka_unit_test(test_stalled_client_holds_its_page_and_asks_for_no_more),
        cmocka_unit_test(test_client_that_leaves_closes_the_subscription_once),
        cmocka_unit_test(test_client_that_leaves_before_the_opening_is_not_asked_for),
        cmocka_unit_test(test_refused_subscription_ends_without_headers),
        cmocka_unit_test(test_status_of_an_end_follows_the_last_page),
        cmocka_unit_test(test_subscription_without_memory_is_overloaded),
        cmocka_unit_test(test_health_of_each_service),
        cmocka_unit_test(test_check_speaks_both_encodings),
        cmocka_unit_test(test_watch_tells_the_present_and_each_change),
        cmocka_unit_test(test_watch_of_an_unknown_service_stays_open),
        cmocka_unit_test(test_closing_is_told_and_ends_the_watches),
        cmocka_unit_test(test_reflection_answers_each_question),
        cmocka_unit_test(test_reflection_can_be_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
