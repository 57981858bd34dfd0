/* Tests of base/log.h. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, LINES_EACH = 200 };

/* What the log wrote goes to a pipe with room for a few of the longest lines. */
static int ends[2];
static char text[1 << 17];

static int set_up(void **state)
{
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof(text));
    log_set_fd(ends[1]);
    log_set_common(NULL, NULL);
    log_init(false, LOG_LEVEL_INFO);
    return 0;
}

static int tear_down(void **state)
{
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static const char *written(void)
{
    size_t size = 0;
    ssize_t got;
    while ((got = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0) {
        size += (size_t)got;
    }
    text[size] = '\0';
    return text;
}

/* The one line that was written, as JSON. */
static json_t *written_object(void)
{
    const char *line = written();
    size_t size = strlen(line);
    assert_true(size > 0);
    assert_ptr_equal(strchr(line, '\n'), line + size - 1);
    json_error_t error;
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(object);
    return object;
}

static const char *member(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    assert_non_null(value);
    return value;
}

static void test_line_is_json_with_its_keys_in_order(void **state)
{
    log_set_common("node_id", "node1");
    log_info("node", "became leader", LOG_U64("term", UINT64_MAX), LOG_I64("delta", INT64_MIN),
             LOG_STR("leader", "node1"), LOG_STR("nothing", NULL));
    const char *line = written();
    assert_memory_equal(line, "{\"time\":\"", 9);
    const char *after_time = strstr(line, "\",\"level\"");
    assert_non_null(after_time);
    assert_string_equal(after_time,
                        "\",\"level\":\"info\",\"module\":\"node\",\"msg\":\"became leader\","
                        "\"node_id\":\"node1\",\"term\":18446744073709551615,"
                        "\"delta\":-9223372036854775808,\"leader\":\"node1\",\"nothing\":null}\n");
}

static void test_time_is_rfc3339_utc_with_milliseconds(void **state)
{
    log_info("node", "hello");
    json_t *object = written_object();
    const char *time = member(object, "time");
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    assert_int_equal(strlen(time), strlen(shape));
    for (size_t i = 0; shape[i] != '\0'; i++) {
        if (shape[i] == 'd') {
            assert_in_range(time[i], '0', '9');
        } else {
            assert_int_equal(time[i], shape[i]);
        }
    }
    json_decref(object);
}

static void test_strings_survive_escaping(void **state)
{
    static const char nasty[] = "quote \" backslash \\ newline \n tab \t bell \a del \x7f "
                                "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80";
    log_warn("node", nasty, LOG_STR("value", nasty), LOG_STR("odd \"name\"", "x"));
    json_t *object = written_object();
    assert_string_equal(member(object, "level"), "warn");
    assert_string_equal(member(object, "msg"), nasty);
    assert_string_equal(member(object, "value"), nasty);
    assert_string_equal(member(object, "odd \"name\""), "x");
    json_decref(object);
}

static void test_no_control_character_is_written_as_it_is(void **state)
{
    /* C1 (CSI is one of them), DEL, line separators, and marks of direction. */
    static const char nasty[] =
        "\x7f\xc2\x80\xc2\x85\xc2\x9b[31m\xc2\x9f|\xe2\x80\xa8\xe2\x80\xa9"
        "\xe2\x80\xaa\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9|\xc2\xa0\xe2\x80\x8f";
    static const char escaped[] = "\\u007f\\u0080\\u0085\\u009b[31m\\u009f|\\u2028\\u2029"
                                  "\\u202a\\u202e\\u2066\\u2069|\xc2\xa0\xe2\x80\x8f";
    for (int is_dev = 0; is_dev < 2; is_dev++) {
        log_init(is_dev, LOG_LEVEL_INFO);
        log_warn("node", nasty, LOG_STR("value", nasty), LOG_STR(nasty, "x"));
        const char *line = written();
        for (int i = 0; i < 3; i++) {
            line = strstr(line, escaped);
            assert_non_null(line);
            line += strlen(escaped);
        }
    }
    log_init(false, LOG_LEVEL_INFO);
    log_warn("node", nasty);
    json_t *object = written_object();
    assert_string_equal(member(object, "msg"), nasty);
    json_decref(object);
}

static void test_bad_utf8_is_replaced(void **state)
{
    log_error("node",
              "a\xff"
              "b",
              LOG_STR("cut", "\xe2\x82"));
    json_t *object = written_object();
    assert_string_equal(member(object, "msg"), "a\xef\xbf\xbd"
                                               "b");
    assert_string_equal(member(object, "cut"), "\xef\xbf\xbd\xef\xbf\xbd");
    json_decref(object);
}

static void test_levels_below_the_limit_are_not_written(void **state)
{
    log_debug("node", "not now");
    assert_string_equal(written(), "");
    log_init(false, LOG_LEVEL_DEBUG);
    log_debug("node", "now");
    json_t *object = written_object();
    assert_string_equal(member(object, "level"), "debug");
    json_decref(object);
}

static void test_over_long_string_is_cut_visibly_at_a_character(void **state)
{
    char *value = malloc(30001);
    for (size_t i = 0; i < 30000; i += 3) {
        memcpy(value + i, "\xe2\x82\xac", 3);
    }
    value[30000] = '\0';
    log_info("node", "long", LOG_STR("value", value), LOG_STR("next", "still there"));
    json_t *object = written_object();
    const char *cut = member(object, "value");
    assert_in_range(strlen(cut), 4000, 4200);
    assert_string_equal(cut + strlen(cut) - 3, "\xe2\x80\xa6");
    assert_memory_equal(cut, value, strlen(cut) - 3);
    assert_string_equal(member(object, "next"), "still there");
    json_decref(object);
    free(value);
}

static void test_over_long_line_stays_json_and_says_so(void **state)
{
    char value[4001];
    memset(value, '\x01', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    struct log_field fields[20];
    char names[20][8];
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof(names[i]), "f%d", i);
        fields[i] = LOG_STR(names[i], value);
    }
    log_write(LOG_LEVEL_INFO, "node", value, fields, 20);
    json_t *object = written_object();
    assert_true(json_is_true(json_object_get(object, "truncated")));
    assert_non_null(json_object_get(object, "f0"));
    assert_null(json_object_get(object, "f19"));
    json_decref(object);
}

static void test_dev_line_is_for_people(void **state)
{
    log_init(true, LOG_LEVEL_INFO);
    log_set_common("node_id", "node1");
    log_info("raft", "became \"leader\"", LOG_U64("term", 3), LOG_STR("leader", "node1"),
             LOG_STR("why", "two words"), LOG_STR("empty", ""));
    const char *line = written();
    assert_string_equal(line + strlen("12:34:56.789 "),
                        "info  raft: became \\\"leader\\\" node_id=node1 term=3 leader=node1 "
                        "why=\"two words\" empty=\"\"\n");
}

static void test_dev_line_cannot_be_forged_by_its_values(void **state)
{
    log_init(true, LOG_LEVEL_INFO);
    log_info("raft", "a\nb", LOG_STR("value", "x\n12:00:00.000 error forged"));
    const char *line = written();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_lost_lines_are_told_by_the_next(void **state)
{
    int closed = dup(ends[1]);
    close(closed);
    log_set_fd(closed);
    log_info("node", "lost");
    log_info("node", "lost too");
    log_set_fd(ends[1]);
    log_info("node", "back");
    json_t *object = written_object();
    assert_int_equal(json_integer_value(json_object_get(object, "lost_lines")), 2);
    json_decref(object);
    log_info("node", "again");
    object = written_object();
    assert_null(json_object_get(object, "lost_lines"));
    json_decref(object);
}

static void test_errno_is_kept(void **state)
{
    int closed = dup(ends[1]);
    close(closed);
    log_set_fd(closed);
    errno = ENOENT;
    log_info("node", "lost");
    assert_int_equal(errno, ENOENT);
    log_set_fd(ends[1]);
    log_info("node", "clears the count");
    assert_int_equal(errno, ENOENT);
}

static void *log_lines(void *arg)
{
    for (int i = 0; i < LINES_EACH; i++) {
        log_info("thread", "line", LOG_STR("poster", arg), LOG_I64("number", i));
    }
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, names[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    int lines = 0;
    char *rest = NULL;
    written();
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        json_decref(object);
        lines++;
    }
    assert_int_equal(lines, THREADS * LINES_EACH);
}

static void test_held_lines_come_in_order_at_the_release(void **state)
{
    log_hold();
    log_info("a", "first");
    log_info("a", "second");
    assert_string_equal(written(), "");
    log_warn("a", "urgent");
    assert_non_null(strstr(written(), "urgent"));
    log_release(false);
    const char *both = written();
    const char *first = strstr(both, "first");
    const char *second = strstr(both, "second");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    log_info("a", "third");
    assert_non_null(strstr(written(), "third"));
}

static void test_held_lines_are_dropped_when_the_start_failed(void **state)
{
    log_hold();
    log_info("a", "first");
    log_release(true);
    assert_string_equal(written(), "");
}

static void test_lines_beyond_what_can_be_held_are_counted(void **state)
{
    char word[4000];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    log_hold();
    for (int i = 0; i < 20; i++) {
        log_info("a", "long", LOG_STR("word", word));
    }
    log_release(false);
    size_t lines = 0;
    for (const char *at = written(); (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_true(lines < 20);
    log_info("a", "after");
    json_t *after = written_object();
    assert_int_equal(json_integer_value(json_object_get(after, "lost_lines")), 20 - lines);
    json_decref(after);
}

/* ---- the thread ---- */

static int start_thread(void **state)
{
    set_up(state);
    fcntl(ends[1], F_SETFL, 0); /* as stderr mostly is: a write to a full pipe waits */
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    assert_int_equal(log_start(), 0);
    return 0;
}

/* What is left is read, so that the thread can end. */
static int end_thread(void **state)
{
    while (!log_stop(0)) {
        written();
    }
    return tear_down(state);
}

/* Everything until nothing is left to write. */
static char *drained(void)
{
    static char all[1 << 20];
    size_t size = 0;
    for (bool is_last = false;;) {
        ssize_t got = read(ends[0], all + size, sizeof(all) - 1 - size);
        if (got > 0) {
            size += (size_t)got;
        } else if (is_last) {
            break;
        } else {
            is_last = log_flush(5);
        }
    }
    all[size] = '\0';
    return all;
}

static void test_nobody_waits_for_a_reader_that_has_stopped(void **state)
{
    enum { LINES = 5000 };
    uint64_t dropped_before = log_dropped_total();
    char word[200];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    for (int i = 0; i < LINES; i++) {
        log_info("a", "line", LOG_I64("number", i), LOG_STR("word", word)); /* would hang here */
    }
    uint64_t dropped = log_dropped_total() - dropped_before;
    assert_in_range(dropped, 1, LINES - 100);
    log_flush(20); /* gives up, too */
    char *all = drained();
    uint64_t lines = 0;
    int64_t number = -1;
    bool is_told = false;
    char *rest = NULL;
    for (char *line = strtok_r(all, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        if (json_object_get(object, "lost_lines") != NULL) {
            assert_false(is_told);
            is_told = true;
            assert_int_equal(json_integer_value(json_object_get(object, "lost_lines")), dropped);
            assert_non_null(strstr(member(object, "msg"), " log lines were dropped"));
        } else {
            assert_true(json_integer_value(json_object_get(object, "number")) > number);
            number = json_integer_value(json_object_get(object, "number"));
            lines++;
        }
        json_decref(object);
    }
    assert_true(is_told);
    assert_int_equal(lines + dropped, LINES);
}

static void test_dropped_lines_are_told_in_their_place(void **state)
{
    char word[4000];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    uint64_t dropped_before = log_dropped_total();
    while (log_dropped_total() == dropped_before) {
        log_info("a", "early", LOG_STR("word", word));
    }
    /* Room for a short line: it comes behind the notice. */
    while (read(ends[0], text, 4096) <= 0) {
        usleep(1000);
    }
    log_info("a", "late");
    char *all = drained();
    const char *early = strstr(all, "early");
    const char *notice = strstr(all, "dropped");
    const char *late = strstr(all, "late");
    assert_non_null(early);
    assert_non_null(notice);
    assert_true(early < notice);
    if (late != NULL) { /* else it was one of those that found no room */
        assert_true(notice < late);
        assert_null(strstr(late, "early"));
    }
}

static void test_the_thread_keeps_the_order_and_writes_all_before_the_end(void **state)
{
    fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof(text));
    for (int i = 0; i < 100; i++) {
        log_info("a", "line", LOG_I64("number", i));
    }
    log_plain("raftogram: plain");
    log_flush(10000);
    const char *at = written();
    for (int i = 0; i < 100; i++) {
        char number[32];
        snprintf(number, sizeof(number), "\"number\":%d}", i);
        at = strstr(at, number);
        assert_non_null(at);
    }
    assert_string_equal(strchr(at, '\n'), "\nraftogram: plain\n");
}

static void test_a_reader_that_has_gone_costs_lines_and_nothing_else(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    int gone[2];
    assert_int_equal(pipe(gone), 0);
    close(gone[0]);
    log_set_fd(gone[1]);
    uint64_t dropped_before = log_dropped_total();
    log_info("a", "lost");
    log_flush(10000);
    log_info("a", "lost, too");
    log_flush(10000);
    log_set_fd(ends[1]);
    log_info("a", "back");
    log_flush(10000);
    char *all = drained();
    close(gone[1]);
    assert_int_equal(log_dropped_total() - dropped_before, 2);
    assert_non_null(strstr(all, "\"back\""));
    assert_non_null(strstr(all, "\"lost_lines\":2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nobody_waits_for_a_reader_that_has_stopped,
                                        start_thread, end_thread),
        cmocka_unit_test_setup_teardown(test_dropped_lines_are_told_in_their_place, start_thread,
                                        end_thread),
        cmocka_unit_test_setup_teardown(
            test_the_thread_keeps_the_order_and_writes_all_before_the_end, start_thread,
            end_thread),
        cmocka_unit_test_setup_teardown(test_a_reader_that_has_gone_costs_lines_and_nothing_else,
                                        start_thread, end_thread),
        cmocka_unit_test_setup_teardown(test_line_is_json_with_its_keys_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_time_is_rfc3339_utc_with_milliseconds, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_strings_survive_escaping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_control_character_is_written_as_it_is, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bad_utf8_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_levels_below_the_limit_are_not_written, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_over_long_string_is_cut_visibly_at_a_character, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_over_long_line_stays_json_and_says_so, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dev_line_is_for_people, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dev_line_cannot_be_forged_by_its_values, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lost_lines_are_told_by_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_held_lines_come_in_order_at_the_release, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_held_lines_are_dropped_when_the_start_failed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lines_beyond_what_can_be_held_are_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_errno_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lines_of_threads_do_not_mix, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
