/* The codec with each of its allocations failing in turn. This program has a malloc of its own in
 * front of glibc's, which leaves nothing to do under the sanitizers. */
#include "json/json.h"

#include "base/errors.h"
#include "unit/json/random_message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above. */
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_OWN_MALLOC 0
#endif
#endif
#ifndef HAS_OWN_MALLOC
#define HAS_OWN_MALLOC 1
#endif

/* Allocations until one fails; -1 for never. */
static long countdown = -1;
static long live;

#if HAS_OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

static bool is_failing(void)
{
    return countdown >= 0 && countdown-- == 0;
}

static void *counted(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *malloc(size_t size)
{
    return is_failing() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return is_failing() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *memory, size_t size)
{
    if (is_failing()) {
        return NULL;
    }
    return memory == NULL ? counted(__libc_malloc(size)) : __libc_realloc(memory, size);
}

void free(void *memory)
{
    live -= memory != NULL;
    __libc_free(memory);
}
#endif

#define FAILURES_MAX 100000

static void test_decoding_survives_each_failed_allocation_and_leaks_nothing(void **state)
{
    if (!HAS_OWN_MALLOC) {
        skip();
    }
    struct random random;
    random_seed(&random, 11);
    ProtobufCMessage *message = random_message(&random, &kinds_descriptor, 2, 0);
    struct buf text = {0};
    json_encode(message, JSON_NAMES_CAMEL, &text);
    struct buf expected = packed(message);

    int rc = ERR_NOMEM;
    for (long failing = 0; rc != 0; failing++) {
        assert_true(failing < FAILURES_MAX);
        struct json_error error;
        ProtobufCMessage *decoded = NULL;
        long live_before = live;
        countdown = failing;
        rc = json_decode(&kinds_descriptor, buf_bytes(&text), &decoded, &error);
        countdown = -1;
        if (rc == 0) {
            struct buf actual = packed(decoded);
            assert_true(bytes_equal(buf_bytes(&actual), buf_bytes(&expected)));
            buf_finish(&actual);
            protobuf_c_message_free_unpacked(decoded, NULL);
        } else {
            assert_int_equal(rc, ERR_NOMEM);
            assert_null(decoded);
        }
        assert_int_equal(live, live_before);
    }
    buf_finish(&expected);
    buf_finish(&text);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void test_encoding_without_memory_is_a_failed_buffer(void **state)
{
    if (!HAS_OWN_MALLOC) {
        skip();
    }
    struct random random;
    random_seed(&random, 12);
    ProtobufCMessage *message = random_message(&random, &kinds_descriptor, 2, 0);
    struct buf out;
    long failing = 0;
    do {
        assert_true(failing < FAILURES_MAX);
        buf_init(&out, 0);
        countdown = failing++;
        json_encode(message, JSON_NAMES_CAMEL, &out);
        countdown = -1;
        bool is_failed = buf_failed(&out);
        buf_finish(&out);
        if (!is_failed) {
            break;
        }
    } while (true);
    assert_true(failing > 1);
    protobuf_c_message_free_unpacked(message, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding_survives_each_failed_allocation_and_leaks_nothing),
        cmocka_unit_test(test_encoding_without_memory_is_a_failed_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
