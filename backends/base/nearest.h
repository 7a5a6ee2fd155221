#ifndef CELLBLOCK_BASE_NEAREST_H
#define CELLBLOCK_BASE_NEAREST_H

#include <stddef.h>

/*
 * The word a person most likely meant. Letters' case, '_' and '-' do not matter; words longer than
 * 64 bytes are never near to anything.
 */

/* How many single-letter changes lead from `a` to `b`; a large number when either is too long. */
unsigned word_distance(const char *a, const char *b);

/* The nearest of `count` words, or NULL when none is near enough to be worth a suggestion. */
const char *word_nearest(const char *given, const char *const *words, size_t count);

#endif
