/* Tests of the paths that the HTTP frontend serves. */
#include "http/http_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_every_path_of_the_contract_has_a_route(void **state)
{
    static const char *const paths[] = {"/health", "/livez",   "/readyz", "/debug/status",
                                        "/status", "/metrics", "/ws"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const struct route *route = route_find(paths[i]);
        assert_non_null(route);
        assert_string_equal(route->path, paths[i]);
    }
}

static void test_status_is_one_document(void **state)
{
    assert_ptr_equal(route_find("/status")->serve, route_find("/debug/status")->serve);
}

static void test_paths_are_compared_whole(void **state)
{
    static const char *const paths[] = {"",        "/",        "health", "/health/",
                                        "/Health", "/healthz", "/debug"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_null(route_find(paths[i]));
    }
}

static void test_an_error_is_json(void **state)
{
    struct answer answer = {.status = 200};
    answer_error(&answer, 404, "no \"such\" page");
    assert_int_equal(answer.status, 404);
    assert_string_equal(answer.content_type, "application/json");
    assert_string_equal(buf_text(&answer.body), "{\"error\":\"no \\\"such\\\" page\"}\n");
    answer_finish(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_path_of_the_contract_has_a_route),
        cmocka_unit_test(test_status_is_one_document),
        cmocka_unit_test(test_paths_are_compared_whole),
        cmocka_unit_test(test_an_error_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
