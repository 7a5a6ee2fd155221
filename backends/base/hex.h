#ifndef CELLBLOCK_BASE_HEX_H
#define CELLBLOCK_BASE_HEX_H

#include <stddef.h>

/* The value of a hexadecimal digit, in either case; -1 for what is none. */
int hex_value(char c);
/* `size` bytes as 2 * size lower-case digits, and NUL. */
void hex_write(const unsigned char *bytes, size_t size, char *ret);

#endif
