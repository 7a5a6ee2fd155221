#!/usr/bin/env python3
"""Packs Python files into a zip that can be imported from, the same bytes for the same files.

usage: pack.py OUTPUT.zip PACKAGE FILE...

Every FILE becomes PACKAGE/NAME in the zip, uncompressed: it is read at each start of an
interpreter, and inflating costs more than the few kilobytes.
"""
import os
import sys
import zipfile


def main(argv):
    """Writes argv[0]; returns the exit status."""
    output, package, files = argv[0], argv[1], argv[2:]
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files, key=os.path.basename):
            entry = zipfile.ZipInfo(f"{package}/{os.path.basename(path)}", (1980, 1, 1, 0, 0, 0))
            with open(path, "rb") as stream:
                archive.writestr(entry, stream.read())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
