/* Memory that fails when a test says so: malloc() and its kin stand before those of glibc, in the
 * program that includes this. Sanitizers have an allocator of their own: nothing fails there. */
#ifndef RAFTOGRAM_TESTS_FAILING_MALLOC_H
#define RAFTOGRAM_TESTS_FAILING_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_FAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CAN_FAIL 0
#endif
#endif
#ifndef CAN_FAIL
#define CAN_FAIL 1
#endif

static long countdown = -1; /* allocations until one fails; negative: none does */
static long outstanding;    /* allocations not freed */

#if CAN_FAIL
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
    outstanding += memory != NULL;
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
    return memory != NULL ? __libc_realloc(memory, size) : counted(__libc_realloc(NULL, size));
}

void free(void *memory)
{
    outstanding -= memory != NULL;
    __libc_free(memory);
}
#endif

#endif
