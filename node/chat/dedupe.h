/* The client message ids of one generation: (channel, client id) -> sequence. Exact: whole ids are
 * compared. Zeroed memory is a valid empty set. No lock of its own. */
#ifndef RAFTOGRAM_CHAT_DEDUPE_H
#define RAFTOGRAM_CHAT_DEDUPE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct dedupe_entry;

struct dedupe {
    struct dedupe_entry *entries;
};

/* The id must not be in the set. Errors: ERR_NOMEM. */
int dedupe_add(struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id,
               uint64_t sequence);
bool dedupe_find(const struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id,
                 uint64_t *out_sequence);
/* The id must be in the set. */
void dedupe_remove(struct dedupe *dedupe, uint64_t channel_number, struct bytes client_id);
/* Returns the bytes that an id counts against the overlay's bound. */
size_t dedupe_entry_bytes(struct bytes client_id);
void dedupe_finish(struct dedupe *dedupe);

#endif
