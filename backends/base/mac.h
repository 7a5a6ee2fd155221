#ifndef CELLBLOCK_BASE_MAC_H
#define CELLBLOCK_BASE_MAC_H

#include <stdbool.h>
#include <stddef.h>

/*
 * HMAC-SHA-256 (RFC 2104, FIPS 180-4), as text: who has not the key can neither make one nor change
 * what it is of. For what we leave where others might write.
 */
enum {
    MAC_KEY_SIZE = 32,
    MAC_SIZE = 65, /* 64 hexadecimal digits and NUL */
};

void mac_of(const unsigned char key[MAC_KEY_SIZE], const void *bytes, size_t size,
            char ret[MAC_SIZE]);
/* Are both the same 64 digits? Takes as long whatever they are. NULL never is. */
bool mac_equal(const char *a, const char *b);

#endif
