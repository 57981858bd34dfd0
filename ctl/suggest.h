/* Suggests a known word for a misspelt one. */
#ifndef RAFTOGRAM_CTL_SUGGEST_H
#define RAFTOGRAM_CTL_SUGGEST_H

#include <stddef.h>

#define SUGGEST_BYTES_MAX 32 /* longer words have no suggestion */

/* Returns the nearest of the words: by letters to insert, delete, change or swap with a neighbour.
 * Returns NULL when none is near. Skips words that are NULL. */
const char *suggest(const char *word, const char *const *words, size_t count);

#endif
