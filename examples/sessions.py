#!/usr/bin/env python3
"""The toolsets `sessions` and `environments`: two experiments side by side, each with its limits.

usage: sessions.py [--server PATH] [--config FILE]

FILE is the config, examples/config.json when left out. The transcript goes to standard output. Only
the standard library is used.
"""

import argparse
import sys
from pathlib import Path

from conversation import Server

CONFIG = Path(__file__).resolve().parent / "config.json"
TRIAL = """\
import os, random
rng = random.Random(int(os.environ["SEED"]))
inside = sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(200_000))
print("pi is about", 4 * inside / 200_000)
"""


def work(server):
    """What an agent would do."""
    server.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                  "clientInfo": {"name": "sessions.py", "version": "1"}})
    server.send({"method": "notifications/initialized"})
    server.call("list_environments")
    for seed in (1, 2):
        server.call("create_session", name=f"trial-{seed}", env={"SEED": str(seed)},
                    memory_mib=256, max_lifetime_seconds=600, tags={"experiment": "pi"})
        server.call("run_code", session=f"trial-{seed}", code=TRIAL)
    server.call("update_session", session="trial-2", timeout_seconds=3600,
                tags={"experiment": "pi", "best": "yes"})
    server.call("list_sessions", tags={"experiment": "pi"})
    server.call("get_session", session="trial-2")
    server.call("end_session", session="trial-1")
    server.call("list_sessions", tags={"experiment": "pi"}, ended=True)


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="build/cellblock", help="the program")
    parser.add_argument("--config", default=CONFIG, help="its config")
    options = parser.parse_args()
    server = Server([options.server, "--toolsets", "sessions,environments", "--config",
                     str(options.config)])
    try:
        work(server)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"sessions.py: {error}", file=sys.stderr)
        server.process.kill()
        return 1
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
