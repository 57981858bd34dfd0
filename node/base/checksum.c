/* Checksums: XXH3, 64 bits. */
#include "base/checksum.h"

#include <xxhash.h>

uint64_t checksum64(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t checksum64_seed(uint64_t seed, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

uint32_t checksum32(const void *data, size_t size)
{
    return (uint32_t)checksum64(data, size);
}

struct hash128 hash128(const void *data, size_t size)
{
    XXH128_hash_t hash = XXH3_128bits(data, size);
    return (struct hash128){.high = hash.high64, .low = hash.low64};
}
