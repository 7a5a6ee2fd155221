#!/usr/bin/env python3
"""Writes a C file that holds files as byte arrays.

usage: embed.py OUTPUT.c SYMBOL NAME=FILE...

The C file defines `const struct embedded_file SYMBOL[]` (see backends/base/embedded.h), one row a
file in the order given, ended by a row without a name. Every array has a NUL after its last byte,
not counted in `size`, so that text can be used as a string.
"""
import sys


def rows(data):
    """Yields lines of at most 20 comma-separated byte values of `data` (bytes)."""
    for start in range(0, len(data), 20):
        yield ",".join(str(byte) for byte in data[start:start + 20])


def write(output, symbol, files):
    """Writes the C file; `files` are (name, bytes)."""
    parts = ['#include "backends/base/embedded.h"\n\n',
             f"extern const struct embedded_file {symbol}[];\n\n"]
    table = []
    for number, (name, data) in enumerate(files):
        body = ",\n".join(rows(data + b"\0"))
        parts.append(f"static const unsigned char file_{number}[] = {{\n{body}}};\n\n")
        table.append(f'    {{"{name}", file_{number}, sizeof(file_{number}) - 1}},\n')
    parts.append(f"const struct embedded_file {symbol}[] = {{\n{''.join(table)}    {{0}},\n}};\n")
    with open(output, "w", encoding="ascii") as stream:
        stream.write("".join(parts))


def main(argv):
    """Writes argv[0]; returns the exit status."""
    files = []
    for pair in argv[2:]:
        name, _, path = pair.partition("=")
        with open(path, "rb") as stream:
            files.append((name, stream.read()))
    write(argv[0], argv[1], files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
