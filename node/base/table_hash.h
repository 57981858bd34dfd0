/* A hash for tables whose keys clients choose. It is keyed by a secret of the process, so that
 * no client can prepare keys that collide. Nothing stored, sent or compared between nodes may
 * depend on it. */
#ifndef RAFTOGRAM_BASE_TABLE_HASH_H
#define RAFTOGRAM_BASE_TABLE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Before the first table and the first thread. Without it the key is 0, as in tests and the
 * simulator. */
void table_hash_set_key(uint64_t key);
uint32_t table_hash(const void *data, size_t size);

#endif
