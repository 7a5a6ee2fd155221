"""A blocking client for measurements: no threads, one write and one read for each request."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.client import binary, default_args  # noqa: E402

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {},
              "clientInfo": {"name": "bench", "version": "1"}}


class Wire:
    """One server and the bytes to and from it."""

    def __init__(self, *args, env=None):
        self.process = subprocess.Popen([binary(), *default_args(), *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, bufsize=0,
                                        env={**os.environ, **(env or {})})
        self.pid, self.rest, self.count = self.process.pid, b"", 0
        self.ask(encode(0, "initialize", INITIALIZE))
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def write(self, data):
        """All of it."""
        fd = self.process.stdin.fileno()
        while data:
            data = data[os.write(fd, data):]

    def line(self):
        """The next answer of the server, as bytes: what it tells unasked is passed over."""
        while True:
            line = self._line()
            if b'"method"' not in line[:100] or "method" not in json.loads(line):
                return line

    def _line(self):
        """The next line of the server."""
        fd, parts = self.process.stdout.fileno(), [self.rest]
        while b"\n" not in parts[-1]:
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                raise EOFError("the server is gone")
            parts.append(chunk)
        line, _, self.rest = b"".join(parts).partition(b"\n")
        return line

    def ask(self, data):
        """One request, one answer, as bytes."""
        self.write(data)
        return self.line()

    def run(self, code, **arguments):
        """run_code; the result as an object. Raises when the run was not ok."""
        self.count += 1
        answer = json.loads(self.ask(call(self.count, code, **arguments)))
        result = answer.get("result")
        if result is None or result.get("isError"):
            raise RuntimeError(json.dumps(answer)[:2000])
        return result

    def close(self):
        """End of stdin, then the exit status."""
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def encode(id_, method, params):
    """A request as a line."""
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": method,
                       "params": params}).encode() + b"\n"


def call(id_, code, **arguments):
    """A run_code request as a line."""
    return encode(id_, "tools/call", {"name": "run_code", "arguments": {"code": code, **arguments}})
