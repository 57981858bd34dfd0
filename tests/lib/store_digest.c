/* A hash of all contents of a store. */
#include "lib/store_digest.h"

#include "base/checksum.h"
#include "base/errors.h"

#include <string.h>

enum { KEY_BYTES_MAX = 511 };

struct digest {
    struct store *store;
    struct store_read *read;
    uint64_t hash;
    struct store_meta meta;
};

static void add(struct digest *digest, const void *data, size_t size)
{
    digest->hash = checksum64_seed(digest->hash, &size, sizeof(size));
    if (size != 0) {
        digest->hash = checksum64_seed(digest->hash, data, size);
    }
}

static void add_bytes(struct digest *digest, struct bytes bytes)
{
    add(digest, bytes.data, bytes.size);
}

static int add_message(struct digest *digest, uint64_t number, const struct message *message)
{
    add(digest, &message->sequence, sizeof(message->sequence));
    add(digest, &message->timestamp_ms, sizeof(message->timestamp_ms));
    add_bytes(digest, message_author_id(message));
    add_bytes(digest, message_client_id(message));
    add_bytes(digest, message_payload(message));
    if (message->client_id_size == 0) {
        return 0;
    }
    uint64_t sequence = 0;
    int rc =
        digest->store->ops->get_dedupe(digest->read, number, message_client_id(message), &sequence);
    return rc == ERR_NOT_FOUND || (rc == 0 && sequence != message->sequence) ? ERR_CORRUPT : rc;
}

static int add_messages(struct digest *digest, uint64_t number, uint64_t last_sequence)
{
    uint64_t sequence = 0;
    for (int rc = 0; rc == 0;) {
        struct message *message;
        rc = digest->store->ops->next_message(digest->read, number, sequence, &message);
        if (rc == ERR_NOT_FOUND) {
            digest->meta.message_count -= sequence;
            return sequence == last_sequence ? 0 : ERR_CORRUPT;
        }
        if (rc == 0) {
            sequence = message->sequence;
            rc = add_message(digest, number, message);
            message_unref(message);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int add_channels(struct digest *digest)
{
    uint8_t id[KEY_BYTES_MAX];
    struct bytes from = {0};
    for (;;) {
        struct store_channel channel, again;
        int rc = digest->store->ops->seek_channel(digest->read, from, true, &channel);
        if (rc == ERR_NOT_FOUND) {
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
        add_bytes(digest, channel.id);
        add_bytes(digest, channel.name);
        add(digest, &channel.number, sizeof(channel.number));
        add(digest, &channel.last_sequence, sizeof(channel.last_sequence));
        add(digest, &channel.last_timestamp_ms, sizeof(channel.last_timestamp_ms));
        digest->meta.channel_count--;
        from = (struct bytes){id, channel.id.size};
        memcpy(id, channel.id.data, channel.id.size);
        rc = digest->store->ops->get_channel(digest->read, from, &again);
        if (rc == 0) {
            rc = add_messages(digest, again.number, again.last_sequence);
        }
        if (rc != 0) {
            return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
        }
    }
}

static int add_values(struct digest *digest)
{
    uint8_t id[KEY_BYTES_MAX];
    struct bytes from = {0};
    for (;;) {
        struct bytes key, value;
        int rc = digest->store->ops->seek_value(digest->read, from, true, &key, &value);
        if (rc == ERR_NOT_FOUND) {
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
        add_bytes(digest, key);
        add_bytes(digest, value);
        digest->meta.value_count--;
        from = (struct bytes){id, key.size};
        memcpy(id, key.data, key.size);
        rc = digest->store->ops->get_value(digest->read, from, &value);
        if (rc != 0) {
            return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
        }
    }
}

static int add_all(struct digest *digest, struct store_meta *meta)
{
    int rc = digest->store->ops->read_meta(digest->read, &digest->meta);
    if (rc != 0) {
        return rc;
    }
    *meta = digest->meta;
    add(digest, &meta->applied_index, sizeof(meta->applied_index));
    add(digest, &meta->applied_term, sizeof(meta->applied_term));
    add(digest, &meta->result_hash, sizeof(meta->result_hash));
    add(digest, meta->cluster_id, sizeof(meta->cluster_id));
    add(digest, meta->config, meta->config_size);
    rc = add_channels(digest);
    if (rc == 0) {
        rc = add_values(digest);
    }
    /* Counted down: all that there is was found. */
    bool is_complete = digest->meta.channel_count == 0 && digest->meta.message_count == 0 &&
                       digest->meta.value_count == 0;
    return rc == 0 && !is_complete ? ERR_CORRUPT : rc;
}

int store_digest(struct store *store, uint64_t *out, struct store_meta *meta)
{
    struct digest digest = {.store = store};
    int rc = store->ops->read_begin(store, &digest.read);
    if (rc != 0) {
        return rc;
    }
    rc = add_all(&digest, meta);
    store->ops->read_end(digest.read);
    *out = digest.hash;
    return rc;
}
