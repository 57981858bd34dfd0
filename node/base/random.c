/* Random numbers: a seeded sequence, and bytes of the system. */
#include "base/random.h"

#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static uint64_t rotate_left(uint64_t value, int bits)
{
    return (value << bits) | (value >> (64 - bits));
}

/* SplitMix64 spreads a seed over the state, as the authors of xoshiro recommend: it never yields
 * the all-zero state, from which xoshiro would not recover. */
static uint64_t splitmix64(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void random_seed(struct random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        random->state[i] = splitmix64(&seed);
    }
}

uint64_t random_next(struct random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    CHECK(bound > 0);
    /* 2^64 mod bound: below it the values of the last, incomplete round would be favoured. */
    uint64_t threshold = (0 - bound) % bound;
    uint64_t value;
    do {
        value = random_next(random);
    } while (value < threshold);
    return value % bound;
}

void random_bytes(void *out, size_t size)
{
    uint8_t *next = out;
    while (size > 0) {
        ssize_t got = getrandom(next, size, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            char line[128];
            snprintf(line, sizeof(line), "raftogram: getrandom: %s; the kernel must provide it\n",
                     strerror(errno));
            log_last_words(line, strlen(line));
            _exit(1);
        }
        next += got;
        size -= (size_t)got;
    }
}
