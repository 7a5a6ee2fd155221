#include "mcp/print_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CODE_CAP = 16 * 1024 * 1024, /* bytes of a file with code */
};

char *read_code_of(int fd, size_t *ret_size, struct error *err)
{
    char *bytes = malloc(CODE_CAP + 1);
    size_t size = 0;
    ssize_t n = 0;

    while (bytes && size <= CODE_CAP) {
        n = read(fd, bytes + size, CODE_CAP + 1 - size);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        size += n > 0 ? (size_t)n : 0;
    }
    if (bytes && n >= 0 && size <= CODE_CAP) {
        *ret_size = size;
        return bytes;
    }
    error_set_code(err, ERROR_INVALID, !bytes ? ENOMEM : n < 0 ? errno : EFBIG, "cannot be read");
    free(bytes);
    return NULL;
}

bool print_bytes(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}
