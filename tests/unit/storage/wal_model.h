/* What a log should contain, for the tests of the log; and a bench: log, faults, memory, model.
 *
 * A commit is atomic: after a crash the log is either as it was acknowledged or as it was
 * attempted. The model keeps both. Static functions, since each test is a program of its own. */
#ifndef RAFTOGRAM_TESTS_WAL_MODEL_H
#define RAFTOGRAM_TESTS_WAL_MODEL_H

#include "base/check.h"
#include "base/errors.h"
#include "base/random.h"
#include "lib/fs_faulty.h"
#include "lib/fs_memory.h"
#include "storage/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_ENTRIES_MAX 2048u

struct model_entry {
    uint64_t term;
    uint64_t seed; /* its payload is made from this */
    uint32_t size;
    uint8_t type;
};

struct model {
    uint64_t base;
    uint64_t base_term;
    uint64_t count;
    uint64_t compacted; /* highest index that wal_compact() was called with */
    struct wal_hard_state hard_state;
    bool is_new; /* nothing was ever written */
    struct model_entry entries[MODEL_ENTRIES_MAX];
};

static inline uint64_t model_last(const struct model *model)
{
    return model->base + model->count;
}

static inline struct model_entry *model_at(struct model *model, uint64_t index)
{
    CHECK(index > model->base);
    CHECK(index <= model_last(model));
    return &model->entries[index - model->base - 1];
}

static inline void model_put(struct model *model, uint64_t index, const struct model_entry *entry)
{
    model->count = index - model->base;
    CHECK(model->count <= MODEL_ENTRIES_MAX);
    *model_at(model, index) = *entry;
    model->is_new = false;
}

/* The caller frees. Every fourth payload is zeros: the hardest to tell from unwritten space. */
static inline uint8_t *model_payload(const struct model_entry *entry)
{
    uint8_t *data = calloc(1, entry->size + 1);
    CHECK(data != NULL);
    struct random random;
    random_seed(&random, entry->seed);
    for (uint32_t i = 0; i < entry->size && entry->seed % 4 != 0; i++) {
        data[i] = (uint8_t)random_next(&random);
    }
    return data;
}

static inline int model_stage(struct wal *wal, uint64_t index, const struct model_entry *entry)
{
    uint8_t *data = model_payload(entry);
    struct wal_entry staged = {
        .index = index,
        .term = entry->term,
        .type = entry->type,
        .data = {data, entry->size},
    };
    int rc = wal_stage_entry(wal, &staged);
    free(data);
    return rc;
}

static inline bool model_entry_is(struct wal *wal, struct model *model, uint64_t index)
{
    struct wal_entry entry;
    if (index <= model->base || index > model_last(model) || wal_read(wal, index, &entry) != 0) {
        return false;
    }
    const struct model_entry *wanted = model_at(model, index);
    uint8_t *data = model_payload(wanted);
    bool is_same = entry.index == index && entry.term == wanted->term &&
                   wal_term(wal, index) == wanted->term && entry.type == wanted->type &&
                   entry.data.size == wanted->size &&
                   memcmp(entry.data.data, data, wanted->size) == 0;
    free(data);
    return is_same;
}

static inline bool model_hard_state_is(const struct wal *wal, const struct model *model)
{
    return memcmp(wal_hard_state(wal), &model->hard_state, sizeof(model->hard_state)) == 0;
}

/* Why the log is not as the model says; NULL if it is. */
static inline const char *model_difference(struct wal *wal, struct model *model)
{
    uint64_t first = wal_first_index(wal);
    if (!model_hard_state_is(wal, model)) {
        return "hard state";
    }
    if (wal_last_index(wal) != model_last(model)) {
        return "last index";
    }
    if (first <= model->base) {
        return "first index is below the base";
    }
    if (first > model->base + 1 && first > model->compacted + 1) {
        return "first index is above what was compacted";
    }
    uint64_t base_term =
        first == model->base + 1 ? model->base_term : model_at(model, first - 1)->term;
    if (wal_term(wal, first - 1) != base_term) {
        return "base term";
    }
    for (uint64_t i = first; i <= model_last(model); i++) {
        if (!model_entry_is(wal, model, i)) {
            return "entry";
        }
    }
    return NULL;
}

struct bench {
    struct fs_memory *memory;
    struct fs_faulty faulty;
    struct random random;
    struct wal_options options;
    struct wal *wal;
    struct wal_report report;
    struct model acked;
    struct model attempted;
};

static inline struct bench *bench_create(uint64_t seed, uint32_t segment_bytes)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    CHECK(bench != NULL);
    random_seed(&bench->random, seed);
    bench->memory = fs_memory_create();
    fs_faulty_init(&bench->faulty, fs_memory_fs(bench->memory));
    bench->faulty.lose = fs_memory_lose_writes;
    bench->options = (struct wal_options){
        .fs = &bench->faulty.fs,
        .dir = "data/log",
        .segment_bytes = segment_bytes,
        .cache_bytes = 2048,
    };
    bench->acked.is_new = true;
    bench->attempted.is_new = true;
    return bench;
}

static inline void bench_destroy(struct bench *bench)
{
    wal_close(bench->wal);
    fs_memory_destroy(bench->memory);
    free(bench);
}

static inline int bench_open(struct bench *bench)
{
    wal_close(bench->wal);
    bench->wal = NULL;
    return wal_open(&bench->options, &bench->wal, &bench->report);
}

static inline uint64_t below(struct bench *bench, uint64_t bound)
{
    return random_below(&bench->random, bound);
}

/* Small ones mostly, some of several sectors. */
static inline struct model_entry bench_random_entry(struct bench *bench)
{
    static const uint32_t sizes[] = {0, 40, 300, 3000};
    return (struct model_entry){
        .term = bench->attempted.hard_state.term,
        .seed = random_next(&bench->random),
        .size = (uint32_t)below(bench, sizes[below(bench, 4)] + 1),
        .type = (uint8_t)below(bench, 4),
    };
}

/* At the end, or sometimes in the middle. */
static inline int bench_stage_entry(struct bench *bench, bool is_replacing)
{
    struct model *model = &bench->attempted;
    uint64_t index = model_last(model) + 1;
    uint64_t first = wal_first_index(bench->wal);
    if (is_replacing && index > first) {
        uint64_t back = below(bench, 20) + 1;
        index = index - first > back ? index - back : first;
    }
    struct model_entry entry = bench_random_entry(bench);
    int rc = model_stage(bench->wal, index, &entry);
    if (rc == 0) {
        model_put(model, index, &entry);
    }
    return rc;
}

static inline int bench_stage_hard_state(struct bench *bench)
{
    struct wal_hard_state *state = &bench->attempted.hard_state;
    bench->attempted.is_new = false;
    state->term += below(bench, 2);
    state->incarnation = random_next(&bench->random);
    state->is_recovering = below(bench, 2);
    memset(state->voted_for, 0, sizeof(state->voted_for));
    snprintf(state->voted_for, sizeof(state->voted_for), "n%" PRIu64, below(bench, 3));
    return wal_stage_hard_state(bench->wal, state);
}

static inline int bench_commit(struct bench *bench)
{
    int rc = wal_commit(bench->wal);
    if (rc == 0) {
        bench->acked = bench->attempted;
    }
    return rc;
}

static inline int bench_reset(struct bench *bench, uint64_t index, uint64_t term)
{
    struct model *model = &bench->attempted;
    model->base = index;
    model->base_term = term;
    model->count = 0;
    model->compacted = 0;
    model->is_new = false;
    int rc = wal_reset(bench->wal, index, term);
    if (rc == 0) {
        bench->acked = bench->attempted;
    }
    return rc;
}

static inline int bench_compact(struct bench *bench, uint64_t index)
{
    if (index > bench->acked.compacted) {
        bench->acked.compacted = index;
        bench->attempted.compacted = index;
    }
    return wal_compact(bench->wal, index);
}

/* After a crash and a reopening: takes over which of the two it is; or says what differs. */
static inline const char *bench_settle(struct bench *bench)
{
    const char *difference = model_difference(bench->wal, &bench->acked);
    if (difference == NULL) {
        bench->attempted = bench->acked;
        return NULL;
    }
    if (model_difference(bench->wal, &bench->attempted) == NULL) {
        bench->acked = bench->attempted;
        return NULL;
    }
    return difference;
}

#endif
