/* Tests of chat/ordered.h. */
#include "chat/ordered.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

enum { NODES = 500 };

struct item {
    struct ordered_node node;
    char key[16];
    bool is_in;
};

static int compare_text(const char *a, const char *b)
{
    return bytes_compare(bytes_of_text(a), bytes_of_text(b));
}

static void test_bytes_compare_as_unsigned_and_a_prefix_first(void **state)
{
    assert_int_equal(compare_text("", ""), 0);
    assert_true(compare_text("", "a") < 0);
    assert_true(compare_text("ab", "a") > 0);
    assert_true(compare_text("a", "b") < 0);
    assert_true(compare_text("\xff", "a") > 0);
    assert_int_equal(compare_text("abc", "abc"), 0);
}

/* The slow way: the least key that is in and beyond. */
static const struct item *expected_seek(const struct item *items, struct bytes from, bool exclusive)
{
    const struct item *best = NULL;
    for (size_t i = 0; i < NODES; i++) {
        int order = bytes_compare(items[i].node.key, from);
        bool is_beyond = exclusive ? order > 0 : order >= 0;
        if (items[i].is_in && is_beyond &&
            (best == NULL || bytes_compare(items[i].node.key, best->node.key) < 0)) {
            best = &items[i];
        }
    }
    return best;
}

static void assert_seeks(const struct ordered *ordered, const struct item *items, struct bytes from)
{
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        const struct item *expected = expected_seek(items, from, exclusive);
        const struct ordered_node *found = ordered_seek(ordered, from, exclusive);
        assert_ptr_equal(found, expected != NULL ? &expected->node : NULL);
    }
}

static void test_seeks_are_those_of_a_sorted_list(void **state)
{
    static struct item items[NODES];
    struct ordered ordered = {0};
    struct random random;
    random_seed(&random, 3);
    for (size_t i = 0; i < NODES; i++) {
        snprintf(items[i].key, sizeof(items[i].key), "%zx", i * 7919 % 4096);
        items[i].node.key = bytes_of_text(items[i].key);
    }
    size_t count = 0;
    for (int round = 0; round < 5000; round++) {
        struct item *item = &items[random_below(&random, NODES)];
        if (item->is_in) {
            assert_ptr_equal(ordered_find(&ordered, item->node.key), &item->node);
            ordered_remove(&ordered, &item->node);
            count--;
        } else {
            assert_null(ordered_find(&ordered, item->node.key));
            ordered_insert(&ordered, &item->node);
            count++;
        }
        item->is_in = !item->is_in;
        assert_seeks(&ordered, items, item->node.key);
        assert_seeks(&ordered, items, items[random_below(&random, NODES)].node.key);
    }
    assert_seeks(&ordered, items, (struct bytes){0});
    size_t walked = 0;
    const struct ordered_node *before = NULL;
    for (const struct ordered_node *node = ordered_first(&ordered); node != NULL;
         node = ordered_next(node)) {
        assert_true(before == NULL || bytes_compare(before->key, node->key) < 0);
        before = node;
        walked++;
    }
    assert_int_equal(walked, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_compare_as_unsigned_and_a_prefix_first),
        cmocka_unit_test(test_seeks_are_those_of_a_sorted_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
