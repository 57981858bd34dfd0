/* The client message ids of one generation: a hash table of whole ids. */
#include "chat/dedupe.h"

#include "base/check.h"
#include "base/errors.h"
#include "chat/command.h"
#include "chat/hash_table.h"

#include <stdlib.h>
#include <string.h>

struct dedupe_entry {
    uint64_t sequence;
    UT_hash_handle hh;
    uint8_t key[]; /* channel number, client id */
};

enum { KEY_BYTES_MAX = sizeof(uint64_t) + COMMAND_ID_BYTES_MAX };

static size_t make_key(uint64_t channel_number, struct bytes client_id, uint8_t *key)
{
    CHECK(client_id.size > 0);
    CHECK(client_id.size <= COMMAND_ID_BYTES_MAX);
    store_u64(key, channel_number);
    memcpy(key + sizeof(channel_number), client_id.data, client_id.size);
    return sizeof(channel_number) + client_id.size;
}

int dedupe_add(struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id,
               uint64_t sequence)
{
    struct dedupe_entry *entry = malloc(sizeof(*entry) + sizeof(channel_number) + client_id.size);
    if (entry == NULL) {
        return ERR_NOMEM;
    }
    entry->sequence = sequence;
    size_t size = make_key(channel_number, client_id, entry->key);
    HASH_ADD_KEYPTR(hh, dedupe->entries, entry->key, size, entry);
    if (entry->hh.tbl == NULL) {
        free(entry);
        return ERR_NOMEM;
    }
    return 0;
}

bool dedupe_find(const struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id,
                 uint64_t *out_sequence)
{
    uint8_t key[KEY_BYTES_MAX];
    size_t size = make_key(channel_number, client_id, key);
    struct dedupe_entry *entry = NULL;
    HASH_FIND(hh, dedupe->entries, key, size, entry);
    if (entry == NULL) {
        return false;
    }
    *out_sequence = entry->sequence;
    return true;
}

void dedupe_remove(struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id)
{
    uint8_t key[KEY_BYTES_MAX];
    size_t size = make_key(channel_number, client_id, key);
    struct dedupe_entry *entry = NULL;
    HASH_FIND(hh, dedupe->entries, key, size, entry);
    CHECK(entry != NULL);
    HASH_DEL(dedupe->entries, entry);
    free(entry);
}

size_t dedupe_entry_bytes(struct bytes client_id)
{
    return sizeof(struct dedupe_entry) + sizeof(uint64_t) + client_id.size;
}

void dedupe_finish(struct dedupe *dedupe)
{
    /* HASH_CLEAR() frees only the table; its elements stay linked to each other. */
    struct dedupe_entry *entry = dedupe->entries;
    HASH_CLEAR(hh, dedupe->entries);
    while (entry != NULL) {
        struct dedupe_entry *next = entry->hh.next;
        free(entry);
        entry = next;
    }
}
