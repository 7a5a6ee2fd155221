#include "backends/remote/kept_word.h"

#include <string.h>

#include "backends/base/hex.h"

enum { NIBBLES = 2 * MAC_KEY_SIZE };

void kept_word(const char *tag, const char *what, char ret[MAC_SIZE])
{
    unsigned char key[MAC_KEY_SIZE] = {0};

    for (size_t i = 0; tag[i] && i < NIBBLES; i++) {
        int digit = hex_value(tag[i]);

        key[i / 2] = (unsigned char)(key[i / 2] << 4 | (digit < 0 ? 0 : digit));
    }
    mac_of(key, what, strlen(what), ret);
    explicit_bzero(key, sizeof(key));
}
