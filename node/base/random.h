/* Seeded pseudo-random numbers (xoshiro256**, Blackman and Vigna 2018) for jitter and simulation,
 * and true random bytes for identities. Not for secrets, except random_bytes(). */
#ifndef RAFTOGRAM_BASE_RANDOM_H
#define RAFTOGRAM_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* Uniform in [0, bound); bound must not be 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* From getrandom(2); ends the process if the kernel has none. */
void random_bytes(void *out, size_t size);

#endif
