/* Tests of static_files.h. */
#include "base/errors.h"
#include "http/static_files.h"
#include "lib/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_the_page_is_in_the_program(void **state)
{
    const struct static_file *page = static_find("/");
    assert_non_null(page);
    assert_string_equal(page->path, "/index.html");
    assert_non_null(memmem(page->data, page->size, "<html", 5));
    assert_ptr_equal(static_find("/index.html"), page);
    assert_non_null(static_find("/raftogram.js"));
    assert_null(static_find("/nothing.html"));
    assert_null(static_find("/../config.yaml"));
    assert_null(static_find(""));
}

static void test_only_plain_paths_are_served(void **state)
{
    assert_true(static_path_is_plain("/index.html"));
    assert_true(static_path_is_plain("/a/b-c_d.js"));
    assert_true(static_path_is_plain("/a..b.js"));
    static const char *const bad[] = {"",      "index.html", "/..",  "/../x", "/a/../b",
                                      "/.git", "/a/.x",      "//x",  "/a//b", "/a/",
                                      "/a\\b", "/a\nb",      "/./x", "/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(static_path_is_plain(bad[i]));
    }
}

static void test_types_go_by_the_ending(void **state)
{
    assert_string_equal(static_type("/"), "text/html; charset=utf-8");
    assert_string_equal(static_type("/a/raftogram.js"), "text/javascript; charset=utf-8");
    assert_string_equal(static_type("/STYLE.CSS"), "text/css; charset=utf-8");
    assert_string_equal(static_type("/favicon.svg"), "image/svg+xml");
    assert_string_equal(static_type("/what"), "application/octet-stream");
}

static void test_tags_follow_the_content(void **state)
{
    char a[STATIC_ETAG_BYTES];
    char b[STATIC_ETAG_BYTES];
    static_etag(bytes_of_text("one"), a);
    static_etag(bytes_of_text("two"), b);
    assert_string_not_equal(a, b);
    static_etag(bytes_of_text("one"), b);
    assert_string_equal(a, b);
    assert_int_equal(a[0], '"');
    assert_int_equal(a[strlen(a) - 1], '"');
}

static void test_a_known_tag_is_found_in_any_list(void **state)
{
    assert_true(static_etag_matches("\"a\"", "\"a\""));
    assert_true(static_etag_matches("W/\"a\"", "\"a\""));
    assert_true(static_etag_matches("\"x\", W/\"a\" , \"y\"", "\"a\""));
    assert_true(static_etag_matches("*", "\"a\""));
    assert_false(static_etag_matches("", "\"a\""));
    assert_false(static_etag_matches("a", "\"a\""));
    assert_false(static_etag_matches("\"ab\"", "\"a\""));
    assert_false(static_etag_matches("\"b\",,", "\"a\""));
}

static void test_a_folder_serves_its_files_only(void **state)
{
    char root[64];
    char name[128];
    struct buf out = {0};
    scratch_make_dir(root, sizeof(root), "raftogram-static");
    snprintf(name, sizeof(name), "%s/index.html", root);
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs("<p>mine", file);
    fclose(file);
    assert_int_equal(static_read(root, "/", &out), 0);
    assert_string_equal(buf_text(&out), "<p>mine");
    assert_int_equal(static_read(root, "/index.html/x", &out), ERR_NOT_FOUND);
    assert_int_equal(static_read(root, "/../../etc/passwd", &out), ERR_NOT_FOUND);
    assert_int_equal(static_read(root, "/none", &out), ERR_NOT_FOUND);
    char folder[160];
    snprintf(folder, sizeof(folder), "%s/sub", root);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(static_read(root, "/sub", &out), ERR_NOT_FOUND);
    char pipe_name[160];
    snprintf(pipe_name, sizeof(pipe_name), "%s/pipe", root);
    assert_int_equal(mkfifo(pipe_name, 0600), 0);
    assert_int_equal(static_read(root, "/pipe", &out), ERR_NOT_FOUND);
    assert_int_equal(truncate(name, STATIC_FILE_BYTES_MAX + 1), 0);
    assert_int_equal(static_read(root, "/", &out), ERR_FULL);
    buf_finish(&out);
    unlink(pipe_name);
    rmdir(folder);
    unlink(name);
    rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_page_is_in_the_program),
        cmocka_unit_test(test_only_plain_paths_are_served),
        cmocka_unit_test(test_types_go_by_the_ending),
        cmocka_unit_test(test_tags_follow_the_content),
        cmocka_unit_test(test_a_known_tag_is_found_in_any_list),
        cmocka_unit_test(test_a_folder_serves_its_files_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
