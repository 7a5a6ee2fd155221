#include "backends/base/nearest.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

enum { WORD_MAX = 64 };

static int folded(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance, with one row of the table at a time. */
unsigned word_distance(const char *a, const char *b)
{
    size_t na = strnlen(a, WORD_MAX + 1), nb = strnlen(b, WORD_MAX + 1);
    unsigned row[WORD_MAX + 1];

    if (na > WORD_MAX || nb > WORD_MAX) {
        return UINT_MAX;
    }
    for (size_t j = 0; j <= nb; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned above = row[j];
            unsigned change = folded(a[i - 1]) != folded(b[j - 1]);
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + change);
            diagonal = above;
        }
    }
    return row[nb];
}

const char *word_nearest(const char *given, const char *const *words, size_t count)
{
    const char *best = NULL;
    unsigned best_distance = UINT_MAX;

    for (size_t i = 0; i < count; i++) {
        unsigned distance = word_distance(given, words[i]);
        /* Half of the word may be wrong, no more: "cat" is not a "docker". */
        if (distance < best_distance && distance <= (strlen(words[i]) + 1) / 2) {
            best = words[i];
            best_distance = distance;
        }
    }
    return best;
}
