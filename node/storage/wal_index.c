/* The index of the log: the place of each entry, and the payloads of the newest ones. */
#include "storage/wal_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

uint64_t wal_index_last(const struct wal_index *index)
{
    return index->base + index->count;
}

struct wal_slot *wal_index_at(const struct wal_index *index, uint64_t entry_index)
{
    if (entry_index <= index->base || entry_index > wal_index_last(index)) {
        return NULL;
    }
    return &index->slots[index->head + (size_t)(entry_index - index->base - 1)];
}

int wal_index_reserve(struct wal_index *index)
{
    if (index->head + index->count < index->capacity) {
        return 0;
    }
    if (index->head > index->capacity / 2) {
        memmove(index->slots, index->slots + index->head, index->count * sizeof(*index->slots));
        index->head = 0;
        return 0;
    }
    size_t capacity = index->capacity == 0 ? 256 : index->capacity * 2;
    struct wal_slot *slots = realloc(index->slots, capacity * sizeof(*slots));
    if (slots == NULL) {
        return ERR_NOMEM;
    }
    index->slots = slots;
    index->capacity = capacity;
    return 0;
}

void wal_index_push(struct wal_index *index, const struct wal_slot *slot)
{
    CHECK(index->head + index->count < index->capacity);
    index->slots[index->head + index->count++] = *slot;
    if (slot->cached == NULL) {
        index->cached_first = wal_index_last(index) + 1;
    } else {
        index->cached_bytes += slot->length;
    }
}

static void drop_payload(struct wal_index *index, struct wal_slot *slot)
{
    if (slot->cached != NULL) {
        free(slot->cached);
        slot->cached = NULL;
        index->cached_bytes -= slot->length;
    }
}

void wal_index_truncate(struct wal_index *index, uint64_t last)
{
    while (wal_index_last(index) > last && index->count > 0) {
        drop_payload(index, wal_index_at(index, wal_index_last(index)));
        index->count--;
    }
    if (index->cached_first > wal_index_last(index) + 1) {
        index->cached_first = wal_index_last(index) + 1;
    }
}

void wal_index_trim(struct wal_index *index, uint64_t base, uint64_t base_term)
{
    while (index->count > 0 && index->base < base) {
        drop_payload(index, &index->slots[index->head]);
        index->head++;
        index->count--;
        index->base++;
    }
    if (index->count == 0) {
        index->head = 0;
    }
    index->base = base;
    index->base_term = base_term;
    if (index->cached_first <= base) {
        index->cached_first = base + 1;
    }
    if (index->cached_first > wal_index_last(index) + 1) {
        index->cached_first = wal_index_last(index) + 1;
    }
}

void wal_index_evict(struct wal_index *index, uint64_t bytes_max)
{
    while (index->cached_bytes > bytes_max) {
        struct wal_slot *slot = wal_index_at(index, index->cached_first);
        if (slot == NULL || slot->state == SLOT_STAGED) {
            return;
        }
        drop_payload(index, slot);
        index->cached_first++;
    }
}

void wal_index_finish(struct wal_index *index)
{
    wal_index_truncate(index, index->base);
    free(index->slots);
    memset(index, 0, sizeof(*index));
}
