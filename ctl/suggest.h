/* Finds what somebody may have meant by a word that is none of those we know. */
#ifndef RAFTOGRAM_CTL_SUGGEST_H
#define RAFTOGRAM_CTL_SUGGEST_H

#include <stddef.h>

#define SUGGEST_BYTES_MAX 32 /* longer words have no suggestion */

/* The nearest of the words, by letters to insert, delete, change or swap with a neighbour; NULL
 * when none is near. Words that are NULL are passed over. */
const char *suggest(const char *word, const char *const *words, size_t count);

#endif
