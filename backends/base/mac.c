#include "backends/base/mac.h"

#include <sha256.h>
#include <stdio.h>
#include <string.h>

#include "backends/base/hex.h"

enum {
    INNER = 0x36,
    OUTER = 0x5c,
};

/* One of the two hashes of an HMAC (RFC 2104, section 2). A key of 32 bytes is shorter than a block
 * and is taken as it is. */
static void hash_with(const unsigned char key[MAC_KEY_SIZE], uint8_t pad, const void *bytes,
                      size_t size, uint8_t digest[SHA256_DIGEST_LENGTH])
{
    uint8_t block[SHA256_BLOCK_LENGTH] = {0};
    SHA2_CTX context;

    memcpy(block, key, MAC_KEY_SIZE);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] ^= pad;
    }
    SHA256Init(&context);
    SHA256Update(&context, block, sizeof(block));
    SHA256Update(&context, bytes, size);
    SHA256Final(digest, &context);
    explicit_bzero(block, sizeof(block));
    explicit_bzero(&context, sizeof(context));
}

void mac_of(const unsigned char key[MAC_KEY_SIZE], const void *bytes, size_t size,
            char ret[MAC_SIZE])
{
    uint8_t inner[SHA256_DIGEST_LENGTH], outer[SHA256_DIGEST_LENGTH];

    hash_with(key, INNER, bytes, size, inner);
    hash_with(key, OUTER, inner, sizeof(inner), outer);
    hex_write(outer, sizeof(outer), ret);
}

bool mac_equal(const char *a, const char *b)
{
    unsigned char different = 0;

    if (!a || !b || strlen(a) != MAC_SIZE - 1 || strlen(b) != MAC_SIZE - 1) {
        return false;
    }
    for (int i = 0; i < MAC_SIZE - 1; i++) {
        different |= (unsigned char)(a[i] ^ b[i]);
    }
    return different == 0;
}
