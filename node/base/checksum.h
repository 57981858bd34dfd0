/* Checksums and hashes, all from xxHash (XXH3). They find accidents, not attackers. */
#ifndef RAFTOGRAM_BASE_CHECKSUM_H
#define RAFTOGRAM_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t high;
    uint64_t low;
};

uint64_t checksum64(const void *data, size_t size);
/* Chains parts: pass the previous result as `seed`. */
uint64_t checksum64_seed(uint64_t seed, const void *data, size_t size);
/* The low half of checksum64(), for headers that are short of room. */
uint32_t checksum32(const void *data, size_t size);
struct hash128 hash128(const void *data, size_t size);

#endif
