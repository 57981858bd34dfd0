/* The keyed hash of tables that clients fill. */
#include "base/table_hash.h"

#include "base/checksum.h"

static uint64_t table_key;

void table_hash_set_key(uint64_t key)
{
    table_key = key;
}

uint32_t table_hash(const void *data, size_t size)
{
    return (uint32_t)checksum64_seed(table_key, data, size);
}
