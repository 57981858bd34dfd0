/* One number over all that a store's reads answer, through the vtable alone: two stores with equal
 * contents have equal digests, whatever they are made of. */
#ifndef RAFTOGRAM_TESTS_STORE_DIGEST_H
#define RAFTOGRAM_TESTS_STORE_DIGEST_H

#include "store/store.h"

/* Errors: those of the reads; also ERR_CORRUPT when the counts in the meta row are not what was
 * found, or a message is not found by its client id. */
int store_digest(struct store *store, uint64_t *out, struct store_meta *meta);

#endif
