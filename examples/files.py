#!/usr/bin/env python3
"""The toolset `files`: a folder goes up, code works on it, and the result comes down.

usage: files.py [--server PATH] FOLDER

FOLDER is the only one that the server may touch. The transcript goes to standard output; the
report that the code writes ends up in FOLDER/report.txt. Only the standard library is used.
"""

import argparse
import sys
from pathlib import Path

from conversation import Server

COUNT = """\
from pathlib import Path
lines = {str(path): len(path.read_bytes().splitlines())
         for path in sorted(Path("work").rglob("*")) if path.is_file()}
report = "".join(f"{count:6} {name}\\n" for name, count in lines.items())
Path("work/report.txt").write_text(f"{report}{sum(lines.values()):6} in all\\n")
"""


def work(server, folder):
    """What an agent would do."""
    server.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                  "clientInfo": {"name": "files.py", "version": "1"}})
    server.send({"method": "notifications/initialized"})
    server.call("upload", source=str(folder), dest="work")
    server.call("list_files", path="work", recursive=True)
    server.call("run_code", code=COUNT)
    server.call("read_file", path="work/report.txt")
    server.call("download", source="work/report.txt", dest=str(folder / "report.txt"))


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="build/cellblock", help="the program")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    server = Server([options.server, "--toolsets", "files", "--share-root", str(folder)])
    try:
        work(server, folder)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"files.py: {error}", file=sys.stderr)
        server.process.kill()
        return 1
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
