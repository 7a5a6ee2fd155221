#ifndef CELLBLOCK_KEPT_WORD_H
#define CELLBLOCK_KEPT_WORD_H

#include "backends/base/mac.h"

/*
 * Words that are made of a kept session's tag, one for each use ("label", "relay"): whoever is
 * given one can lead it back neither to the tag nor to another of them.
 */
void kept_word(const char *tag, const char *what, char ret[MAC_SIZE]);

#endif
