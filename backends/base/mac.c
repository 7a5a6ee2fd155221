#include "backends/base/mac.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    BLOCK = 64,
    DIGEST = 32,
    LENGTH_AT = BLOCK - 8,
    INNER = 0x36,
    OUTER = 0x5c,
};

struct sha256 {
    uint32_t state[8];
    unsigned char block[BLOCK];
    size_t used;
    uint64_t bytes;
};

/* The first 32 bits of the fractions of the cube roots of the first 64 primes. */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void expand(const unsigned char *block, uint32_t w[64])
{
    for (int i = 0; i < 16; i++) {
        const unsigned char *b = block + (ptrdiff_t)4 * i;

        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];

        w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
}

static void take_block(struct sha256 *h)
{
    uint32_t w[64], s[8];

    expand(h->block, w);
    memcpy(s, h->state, sizeof(s));
    for (int i = 0; i < 64; i++) {
        uint32_t e = rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25);
        uint32_t a = rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22);
        uint32_t one = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
        uint32_t two = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(*s));
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) {
        h->state[i] += s[i];
    }
    h->used = 0;
}

static void begin(struct sha256 *h)
{
    *h = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                   0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

static void add(struct sha256 *h, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;

    h->bytes += size;
    while (size > 0) {
        size_t n = BLOCK - h->used < size ? BLOCK - h->used : size;

        memcpy(h->block + h->used, from, n);
        h->used += n;
        from += n;
        size -= n;
        if (h->used == BLOCK) {
            take_block(h);
        }
    }
}

static void end(struct sha256 *h, unsigned char digest[DIGEST])
{
    static const unsigned char padding[BLOCK] = {0x80};
    uint64_t bits = h->bytes * 8;
    unsigned char length[8];

    add(h, padding, 1 + (BLOCK + LENGTH_AT - 1 - h->used) % BLOCK);
    for (int i = 0; i < 8; i++) {
        length[i] = (unsigned char)(bits >> (56 - 8 * i));
    }
    add(h, length, sizeof(length));
    for (int i = 0; i < DIGEST; i++) {
        digest[i] = (unsigned char)(h->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

/* One of the two hashes of an HMAC. */
static void hash_with(const unsigned char key[MAC_KEY_SIZE], unsigned char pad, const void *bytes,
                      size_t size, unsigned char digest[DIGEST])
{
    unsigned char block[BLOCK] = {0};
    struct sha256 h;

    memcpy(block, key, MAC_KEY_SIZE);
    for (int i = 0; i < BLOCK; i++) {
        block[i] ^= pad;
    }
    begin(&h);
    add(&h, block, sizeof(block));
    add(&h, bytes, size);
    end(&h, digest);
    explicit_bzero(block, sizeof(block));
    explicit_bzero(&h, sizeof(h));
}

void mac_of(const unsigned char key[MAC_KEY_SIZE], const void *bytes, size_t size,
            char ret[MAC_SIZE])
{
    unsigned char inner[DIGEST], outer[DIGEST];

    hash_with(key, INNER, bytes, size, inner);
    hash_with(key, OUTER, inner, sizeof(inner), outer);
    for (int i = 0; i < DIGEST; i++) {
        (void)snprintf(ret + (ptrdiff_t)2 * i, 3, "%02x", outer[i]);
    }
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
