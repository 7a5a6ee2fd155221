#include <sys/random.h>
#include <time.h>

#include "mcp/session_private.h"

/* Ids of sessions and runs. */

void session_handle(char id[SESSION_ID_SIZE], char kind, uint64_t bits)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

    id[0] = kind;
    id[1] = '-';
    for (int i = 0; i < 8; i++, bits >>= 5) {
        id[2 + i] = alphabet[bits & 31];
    }
    id[10] = '\0';
}

void run_id_new(char id[RUN_ID_SIZE])
{
    struct timespec now;
    uint64_t bits;

    _Static_assert((int)RUN_ID_SIZE >= (int)SESSION_ID_SIZE, "a handle has room in both");
    if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != sizeof(bits)) {
        /* Only a machine that has just come up has none. The clock never says the same twice, and a
         * multiplication by an odd number keeps what is different so. */
        clock_gettime(CLOCK_MONOTONIC, &now);
        bits = ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) >> 10;
        bits *= UINT64_C(0x9e3779b97f4a7c15);
    }
    session_handle(id, 'r', bits);
}
