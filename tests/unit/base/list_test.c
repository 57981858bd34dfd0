/* Tests of base/list.h. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list link;
};

static struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};

static void expect_values(const struct list *list, const int *values, size_t count)
{
    size_t i = 0;
    LIST_FOR_EACH (link, list) {
        assert_true(i < count);
        assert_int_equal(LIST_ENTRY(link, struct item, link)->value, values[i]);
        i++;
    }
    assert_int_equal(i, count);
}

static void test_new_list_is_empty(void **state)
{
    struct list list;
    list_init(&list);
    assert_true(list_is_empty(&list));
    assert_null(list_pop_front(&list));
}

static void test_order_is_that_of_pushing(void **state)
{
    struct list list;
    list_init(&list);
    list_push_back(&list, &items[1].link);
    list_push_back(&list, &items[2].link);
    list_push_front(&list, &items[0].link);
    list_insert_after(&items[3].link, &items[1].link);
    expect_values(&list, (int[]){0, 1, 3, 2}, 4);
    assert_ptr_equal(list_pop_front(&list), &items[0].link);
    expect_values(&list, (int[]){1, 3, 2}, 3);
}

static void test_a_link_may_be_removed_twice(void **state)
{
    struct list list;
    list_init(&list);
    list_push_back(&list, &items[0].link);
    list_push_back(&list, &items[1].link);
    list_remove(&items[0].link);
    list_remove(&items[0].link);
    expect_values(&list, (int[]){1}, 1);
}

static void test_splice_moves_everything_to_the_end(void **state)
{
    struct list to;
    struct list from;
    list_init(&to);
    list_init(&from);
    list_splice_back(&to, &from);
    assert_true(list_is_empty(&to));
    list_push_back(&to, &items[0].link);
    list_push_back(&from, &items[1].link);
    list_push_back(&from, &items[2].link);
    list_splice_back(&to, &from);
    expect_values(&to, (int[]){0, 1, 2}, 3);
    assert_true(list_is_empty(&from));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_list_is_empty),
        cmocka_unit_test(test_order_is_that_of_pushing),
        cmocka_unit_test(test_a_link_may_be_removed_twice),
        cmocka_unit_test(test_splice_moves_everything_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
