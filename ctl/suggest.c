/* Finds the known word that is closest to a misspelt one. */
#include "suggest.h"

#include <string.h>

#define DISTANCE_MAX 2

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Computes the optimal string alignment distance: Levenshtein's, with a swap of neighbours as one
 * step. */
static size_t distance(const char *a, const char *b)
{
    size_t a_size = strlen(a);
    size_t b_size = strlen(b);
    size_t rows[3][SUGGEST_BYTES_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= b_size; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
            row[j] = min_of(last[j - 1] + change, min_of(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = min_of(row[j], before[j - 2] + 1);
            }
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_size];
}

const char *suggest(const char *word, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    size_t size = strlen(word);
    if (size > SUGGEST_BYTES_MAX) {
        return NULL;
    }
    /* At most half of a short word may be wrong. */
    size_t limit = min_of(DISTANCE_MAX, size / 2) + 1;
    for (size_t i = 0; i < count; i++) {
        if (words[i] == NULL || strlen(words[i]) > SUGGEST_BYTES_MAX) {
            continue;
        }
        size_t far = distance(word, words[i]);
        if (far < limit) {
            limit = far;
            nearest = words[i];
        }
    }
    return nearest;
}
