#!/usr/bin/env python3
"""Artifacts: a run writes files, the host follows their links, also when the session has ended.

usage: artifacts.py [--server PATH] [--out DIR]

The transcript goes to standard output, the files to DIR. Only the standard library is used.
"""

import argparse
import base64
import sys
from pathlib import Path

from conversation import Server

REPORT = """\
import csv, math
with open("waves.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["x", "sin", "cos"])
    writer.writerows([x / 10, round(math.sin(x / 10), 4), round(math.cos(x / 10), 4)]
                     for x in range(63))
with open("waves.bin", "wb") as file:
    file.write(bytes(int(127 + 127 * math.sin(x / 10)) for x in range(63)))
"""


def fetch(server, link, out):
    """Reads one resource into a file."""
    contents, = server.request("resources/read", {"uri": link["uri"]})["contents"]
    data = (contents["text"].encode() if "text" in contents
            else base64.b64decode(contents["blob"]))
    path = out / Path(link["name"]).name
    path.write_bytes(data)
    print(f"{contents['uri']}: {contents['mimeType']}, {len(data)} bytes, now in {path.name}")


def work(server, out):
    """What a host would do."""
    server.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                  "clientInfo": {"name": "artifacts.py", "version": "1"}})
    server.send({"method": "notifications/initialized"})
    server.call("create_session", name="report")
    server.call("run_code", session="report", code=REPORT)
    server.call("end_session", session="report")
    for link in server.request("resources/list", {})["resources"]:
        fetch(server, link, out)


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="build/cellblock", help="the program")
    parser.add_argument("--out", type=Path, default=Path("examples/out"), help="for the files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    server = Server([options.server, "--toolsets", "sessions"])
    try:
        work(server, options.out)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"artifacts.py: {error}", file=sys.stderr)
        server.process.kill()
        return 1
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
