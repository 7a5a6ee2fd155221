#!/usr/bin/env python3
"""The toolsets `commands` and `runs`: work that outlives the call that asked for it.

usage: background.py [--server PATH]

A program is started in the background and fed from outside; code computes in the background; both
are read when they have ended. The transcript goes to standard output. Only the standard library is
used.
"""

import argparse
import re
import sys

from conversation import Server

SEARCH = """\
def collatz(n):
    steps = 0
    while n != 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps

longest = max(range(1, 30_000), key=collatz)
print(longest, collatz(longest))
"""


def texts(result):
    """All that a result says."""
    return "\n".join(block.get("text", "") for block in result.get("content", []))


class Watched(Server):
    """Knows the run that was started last."""

    run = None

    def request(self, method, params):
        result = super().request(method, params)
        found = re.search(r"\br-[a-z2-7]{8}\b", texts(result))
        self.run = found.group() if found else self.run
        return result

    def read(self):
        """Waits for the end of the run, and shows all of it."""
        arguments = {"run": self.run, "wait_seconds": 45}
        while "has ended" not in texts(self.request(
                "tools/call", {"name": "poll_run", "arguments": arguments})):
            pass
        self.call("poll_run", run=self.run)


def work(server):
    """What an agent would do."""
    server.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                  "clientInfo": {"name": "background.py", "version": "1"}})
    server.send({"method": "notifications/initialized"})
    server.call("run_command", argv=["sort", "-n"], background=True, stdin_open=True)
    server.call("write_run", run=server.run, text="30\n4\n100\n", eof=True)
    server.read()
    server.call("run_code", code=SEARCH, background=True)
    server.read()


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="build/cellblock", help="the program")
    options = parser.parse_args()
    server = Watched([options.server, "--toolsets", "commands,runs"])
    try:
        work(server)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"background.py: {error}", file=sys.stderr)
        server.process.kill()
        return 1
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
