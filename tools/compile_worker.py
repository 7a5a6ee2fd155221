#!/usr/bin/env python3
"""Writes a C file with the worker as bytecode of the Python that runs this.

usage: compile_worker.py OUTPUT.c SYMBOL PACKAGE FILE...

The C file defines `const struct embedded_file SYMBOL[]` with one row: its name is the magic number
of the bytecode, as a decimal number, its data a zip of PACKAGE/NAME.pyc, each the marshalled code
of a module, compressed as a whole by zlib. The loader stays what it is, source: it is what reads
the others. An interpreter with another magic number gets the sources.
"""
import importlib.util
import io
import marshal
import os
import sys
import zipfile
import zlib

import embed

ROOT = "<cellblock>/"  # as loader.py names the files
LOADER = "loader.py"


def archive_of(package, paths):
    """The bytes of the zip."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(paths, key=os.path.basename):
            name = f"{package}/{os.path.basename(path)}"
            with open(path, "rb") as stream:
                content = stream.read()
            if os.path.basename(path) != LOADER:
                content = marshal.dumps(compile(content, ROOT + name, "exec", 0, True, 0))
                name += "c"
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return zlib.compress(data.getvalue(), 9)


def main(argv):
    """Writes argv[0]; returns the exit status."""
    output, symbol, package, paths = argv[0], argv[1], argv[2], argv[3:]
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    embed.write(output, symbol, [(str(magic), archive_of(package, paths))])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
