/* Random batches of changes for tests of stores. */
#include "lib/store_batches.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/unconst.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void store_batches_init(struct store_batches *batches, uint64_t seed, size_t channels)
{
    CHECK(channels <= STORE_BATCHES_CHANNELS_MAX);
    memset(batches, 0, sizeof(*batches));
    random_seed(&batches->random, seed);
    batches->channel_count = channels;
    batches->message_bytes_max = 200;
    for (size_t i = 0; i < channels; i++) {
        /* Numbers that do not sort like the ids, and take one byte and more. */
        snprintf(batches->ids[i], sizeof(batches->ids[i]), "channel-%06zu", i);
        batches->channels[i] = (struct store_channel){.number = (uint64_t)(channels - i) * 11,
                                                      .id = bytes_of_text(batches->ids[i])};
    }
}

static void drop_last(struct store_batches *batches)
{
    for (size_t i = 0; i < batches->message_count; i++) {
        message_unref(batches->messages[i].message);
    }
    for (size_t i = 0; i < batches->value_count; i++) {
        free(unconst(batches->values[i].key.data));
        free(unconst(batches->values[i].value.data));
    }
    free(batches->messages);
    free(batches->values);
    free(batches->changed);
    batches->messages = NULL;
    batches->values = NULL;
    batches->changed = NULL;
    batches->message_count = 0;
    batches->value_count = 0;
}

void store_batches_finish(struct store_batches *batches)
{
    drop_last(batches);
}

void store_batches_client_id(uint64_t channel_number, uint64_t sequence, char *out)
{
    uint64_t pair[2] = {channel_number, sequence};
    uint64_t hash = checksum64(pair, sizeof(pair));
    out[0] = '\0';
    if (hash % 8 != 0) {
        snprintf(out, 32, "%012llx", (unsigned long long)(hash >> 16));
    }
}

static struct message *make_message(struct store_batches *batches, struct store_channel *channel)
{
    static uint8_t payload[1 << 20];
    CHECK(batches->message_bytes_max < sizeof(payload));
    size_t size = (size_t)random_below(&batches->random, batches->message_bytes_max + 1);
    for (size_t i = 0; i < size; i++) {
        payload[i] = (uint8_t)random_next(&batches->random);
    }
    char client_id[32];
    channel->last_sequence++;
    channel->last_timestamp_ms = 1700000000000 + (int64_t)batches->index;
    store_batches_client_id(channel->number, channel->last_sequence, client_id);
    return message_create(channel->last_sequence, channel->last_timestamp_ms,
                          bytes_of_text("author-id-12"), bytes_of_text(client_id),
                          (struct bytes){payload, size});
}

static int compare_messages(const void *left, const void *right)
{
    const struct store_message *a = left;
    const struct store_message *b = right;
    if (a->channel_number != b->channel_number) {
        return a->channel_number < b->channel_number ? -1 : 1;
    }
    return a->message->sequence < b->message->sequence ? -1 : 1;
}

static void make_values(struct store_batches *batches, size_t values_max)
{
    batches->values = calloc(values_max + 1, sizeof(*batches->values));
    size_t step = values_max != 0 ? STORE_BATCHES_KEYS_MAX / values_max + 1 : 0;
    size_t key = 0;
    for (size_t i = 0; i < values_max; i++) {
        key += 1 + (size_t)random_below(&batches->random, step);
        if (key >= STORE_BATCHES_KEYS_MAX) {
            break;
        }
        bool is_deleted = random_below(&batches->random, 3) == 0;
        char *name = malloc(16);
        snprintf(name, 16, "key-%04zu", key);
        size_t size = (size_t)random_below(&batches->random, 100);
        char *value = calloc(1, size + 1);
        memset(value, 'a' + (int)random_below(&batches->random, 26), size);
        batches->values[batches->value_count++] = (struct store_value){
            .key = bytes_of_text(name), .value = {value, size}, .is_deleted = is_deleted};
        batches->meta.value_count += !is_deleted && !batches->is_live[key];
        batches->meta.value_count -= is_deleted && batches->is_live[key];
        batches->is_live[key] = !is_deleted;
    }
}

const struct store_batch *store_batches_next(struct store_batches *batches, size_t messages_max,
                                             size_t values_max)
{
    drop_last(batches);
    bool is_first = batches->index == 0;
    bool *is_changed = calloc(batches->channel_count + 1, sizeof(*is_changed));
    batches->messages = calloc(messages_max + 1, sizeof(*batches->messages));
    batches->changed = calloc(batches->channel_count + 1, sizeof(*batches->changed));
    CHECK(is_changed != NULL);
    CHECK(batches->messages != NULL);
    CHECK(batches->changed != NULL);
    batches->index += messages_max + values_max + 1;
    size_t count = batches->channel_count != 0 ? messages_max : 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)random_below(&batches->random, batches->channel_count);
        batches->messages[i].channel_number = batches->channels[at].number;
        batches->messages[i].message = make_message(batches, &batches->channels[at]);
        is_changed[at] = true;
    }
    batches->message_count = count;
    qsort(batches->messages, count, sizeof(*batches->messages), compare_messages);
    size_t changed = 0;
    for (size_t i = 0; i < batches->channel_count; i++) {
        if (is_changed[i] || is_first) {
            batches->channels[i].name = bytes_of_text(i % 3 != 0 ? "a name" : "");
            batches->changed[changed++] = batches->channels[i];
        }
    }
    free(is_changed);
    make_values(batches, values_max);
    batches->meta.applied_index = batches->index;
    batches->meta.applied_term = 1 + batches->index / 1000;
    batches->meta.result_hash = random_next(&batches->random);
    memset(batches->meta.cluster_id, 7, sizeof(batches->meta.cluster_id));
    batches->meta.channel_count = batches->channel_count;
    batches->meta.message_count += count;
    batches->meta.config_size = (uint32_t)random_below(&batches->random, 64);
    memset(batches->meta.config, 0, sizeof(batches->meta.config));
    memset(batches->meta.config, 'c', batches->meta.config_size);
    batches->batch = (struct store_batch){.channels = batches->changed,
                                          .channel_count = changed,
                                          .messages = batches->messages,
                                          .message_count = count,
                                          .values = batches->values,
                                          .value_count = batches->value_count,
                                          .meta = &batches->meta};
    return &batches->batch;
}

const struct store_batch *store_batches_again(const struct store_batches *batches)
{
    return &batches->batch;
}
