/* The store's vtable in memory: the model that LMDB is tested against, and the simulator's store.
 *
 * Deterministic, many instances. A commit is atomic and counts as durable. A read transaction sees
 * the state of its beginning, whatever is committed later. CHECKs what store.h asks of a batch:
 * sorted arrays, sequences without gaps, new client ids, and right counts. */
#ifndef RAFTOGRAM_TESTS_STORE_MEMORY_H
#define RAFTOGRAM_TESTS_STORE_MEMORY_H

#include "store/store.h"

/* Errors: ERR_NOMEM. */
int store_memory_create(struct store **out);
/* The next commit changes nothing and returns `error`. 0 takes it back. */
void store_memory_fail_next_commit(struct store *store, int error);
/* Every read from now on returns `error`, as if the rows had rotted. 0 heals. */
void store_memory_fail_reads(struct store *store, int error);

#endif
