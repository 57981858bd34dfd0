/* Random but valid batches for stores: the same seed makes the same batches. It remembers what it
 * has made, so that counts, sequences and client ids are right. */
#ifndef RAFTOGRAM_TESTS_STORE_BATCHES_H
#define RAFTOGRAM_TESTS_STORE_BATCHES_H

#include "base/random.h"
#include "store/store.h"

#define STORE_BATCHES_CHANNELS_MAX 1024
#define STORE_BATCHES_KEYS_MAX 256

struct store_batches {
    struct random random;
    uint64_t index; /* of the next batch's last entry */
    struct store_meta meta;
    size_t channel_count;
    struct store_channel channels[STORE_BATCHES_CHANNELS_MAX]; /* by id */
    char ids[STORE_BATCHES_CHANNELS_MAX][32];
    bool is_live[STORE_BATCHES_KEYS_MAX];
    size_t message_bytes_max;

    /* The last batch's own. */
    struct store_channel *changed;
    struct store_message *messages;
    struct store_value *values;
    size_t message_count;
    size_t value_count;
    struct store_batch batch;
};

/* `channels` are all made by the first batch. */
void store_batches_init(struct store_batches *batches, uint64_t seed, size_t channels);
void store_batches_finish(struct store_batches *batches);
/* The next batch: up to `messages_max` messages, `values_max` values set or deleted. Valid until
 * the next call. If it was not committed, store_batches_again() gives the same one again. */
const struct store_batch *store_batches_next(struct store_batches *batches, size_t messages_max,
                                             size_t values_max);
const struct store_batch *store_batches_again(const struct store_batches *batches);
/* The client id that the message has; "" if none. `out` has room for 32. */
void store_batches_client_id(uint64_t channel_number, uint64_t sequence, char *out);

#endif
