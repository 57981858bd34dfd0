/* Completion scripts for shells, made from the tables of verbs and flags. */
#ifndef RAFTOGRAM_CTL_COMPLETION_H
#define RAFTOGRAM_CTL_COMPLETION_H

#include "verbs.h"

#include <stdbool.h>
#include <stddef.h>

/* Prints the script for a shell ("bash", "zsh", "fish") to stdout. Returns false, without output,
 * when there is none for that shell. */
bool completion_print(const char *shell, const struct verb *const *verbs, size_t count);

#endif
