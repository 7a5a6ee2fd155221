"""Drives one worker process: a socketpair for frames, pipes for its stdout and stderr."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.normpath(os.path.join(HERE, "../../backends/kernels/runner/worker"))
HEADER = struct.Struct("<IB")
RUN, ACK, STDIN, SIGNAL = 0x01, 0x02, 0x03, 0x04
NAMES = {0x10: "greeting", 0x13: "display", 0x14: "clear", 0x15: "note", 0x16: "delayed",
         0x17: "begin", 0x1F: "done"}


class Result:
    """Everything that one run gave, `events` in the order of arrival."""

    def __init__(self):
        self.events = []
        self.done = None

    def _joined(self, name):
        return b"".join(data for kind, data in self.events if kind == name)

    @property
    def raw_out(self):
        return self._joined("stdout")

    @property
    def out(self):
        return self.raw_out.decode("utf-8")

    @property
    def err(self):
        return self._joined("stderr").decode("utf-8")

    def frames(self, name):
        return [data for kind, data in self.events if kind == name]

    @property
    def displays(self):
        return self.frames("display")

    @property
    def notes(self):
        return [frame["text"] for frame in self.frames("note")]

    @property
    def result(self):
        found = [d for d in self.displays if d["kind"] == "result"]
        return found[-1]["data"] if found else None

    @property
    def text(self):
        return self.result["text/plain"] if self.result else None

    @property
    def status(self):
        return self.done["status"]

    @property
    def error(self):
        return self.done["error"]

    @property
    def traceback(self):
        return self.done["error"]["traceback"]

    def order(self):
        """Kinds and texts in the order of arrival, neighbouring pieces of text joined."""
        seen = []
        for kind, data in self.events:
            if kind == "display":
                seen.append((kind, data["data"].get("text/plain", "")))
            elif kind in ("stdout", "stderr"):
                text = data.decode()
                if seen and seen[-1][0] == kind:
                    text = seen.pop()[1] + text
                seen.append((kind, text))
        return seen


class Dead(Exception):
    """The worker ended."""


class Worker:
    """A worker process."""

    def __init__(self, python, cwd, args=(), env=None, source=SOURCE):
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        full = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(cwd),
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_TARGET": os.path.join(str(cwd), ".local", "packages"),
            "MPLCONFIGDIR": "/tmp/cellblock-test-mpl",
        }
        full.update(env or {})
        self.process = subprocess.Popen(
            [str(python), "-m", "cellblock_worker", *args, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=[theirs.fileno()],
            cwd=str(cwd),
            env={name: value for name, value in full.items() if value is not None},
        )
        for fd in (out_write, err_write):
            os.close(fd)
        theirs.close()
        self.socket = ours
        self.pipes = {out_read: "stdout", err_read: "stderr"}
        self.buffer = b""
        self.count = 0
        self.cwd = str(cwd)
        self.greeting = self._greeting()

    def _greeting(self):
        result = Result()
        self._pump(result, time.monotonic() + 30, lambda: result.frames("greeting"))
        return result.frames("greeting")[0]

    @property
    def has_ipython(self):
        return self.greeting["ipython"] is not None

    def send(self, kind, payload=b""):
        self.socket.sendall(HEADER.pack(len(payload), kind) + payload)

    def start(self, code, language="python", stdin=None, env=None, **fields):
        """Sends a run without waiting."""
        self.count += 1
        request = {
            "run": "r-%d" % self.count,
            "language": language,
            "code": code,
            "stdin": stdin,
            "env": env,
            **fields,
        }
        self.send(RUN, json.dumps(request).encode())

    def command(self, argv=None, script=None, **fields):
        """Sends a run that is a command, without waiting."""
        self.count += 1
        request = {"run": "r-%d" % self.count, "stdin": None, "env": None, **fields}
        request.update({"language": "shell", "code": script} if argv is None else {"argv": argv})
        self.send(RUN, json.dumps(request).encode())

    def write(self, data, eof=False, run=None):
        """More stdin for the run that is going, or for the one that is named."""
        run = (run or "r-%d" % self.count).encode()
        self.send(STDIN, bytes((eof, len(run))) + run + data)

    def signal(self, number, run=None):
        """A signal for it."""
        run = run or "r-%d" % self.count
        self.send(SIGNAL, json.dumps({"run": run, "signal": number}).encode())

    def finish(self, timeout=30, until=None):
        """Reads until the run is done (or `until(result)`)."""
        result = Result()
        self._pump(
            result, time.monotonic() + timeout, until and (lambda: until(result)) or
            (lambda: result.done)
        )
        if result.done is not None:
            assert result.done["run"] == "r-%d" % self.count
            self._drain(result)
        return result

    def run(self, code, language="python", stdin=None, env=None, timeout=30, **fields):
        self.start(code, language, stdin, env, **fields)
        return self.finish(timeout)

    def sh(self, code, **options):
        return self.run(code, "shell", **options)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def _drain(self, result):
        """Takes the text that is already in the pipes."""
        for fd, name in self.pipes.items():
            while select.select([fd], [], [], 0)[0]:
                data = os.read(fd, 1 << 20)
                if not data:
                    break
                result.events.append((name, data))

    def _pump(self, result, deadline, ready):
        self._parse(result)
        while not ready():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the worker has not answered; so far: %r" % result.events)
            fds = [self.socket.fileno(), *self.pipes]
            found = select.select(fds, [], [], left)[0]
            for fd in found:
                if fd != self.socket.fileno():
                    self._text(fd, result)
            if self.socket.fileno() in found:
                self._frames(result)

    def _text(self, fd, result):
        data = os.read(fd, 1 << 20)
        if data:
            result.events.append((self.pipes[fd], data))
        else:
            del self.pipes[fd]
            os.close(fd)

    def _frames(self, result):
        data = self.socket.recv(1 << 20)
        if not data:
            self._drain(result)
            raise Dead("the worker ended: %r" % result.events)
        self.buffer += data
        self._parse(result)

    def _parse(self, result):
        """Takes the frames that are there, up to the end of the run."""
        while result.done is None and len(self.buffer) >= HEADER.size:
            size, kind = HEADER.unpack_from(self.buffer)
            if len(self.buffer) < HEADER.size + size:
                break
            payload = self.buffer[HEADER.size : HEADER.size + size]
            self.buffer = self.buffer[HEADER.size + size :]
            self._frame(NAMES[kind], json.loads(payload.decode("utf-8") or "{}"), result)

    def _frame(self, name, payload, result):
        if name == "done":
            result.done = payload
            return
        if payload.get("sync"):
            self._drain(result)
        result.events.append((name, payload))
        if payload.get("sync"):
            self.send(ACK)

    def close(self):
        self.socket.close()
        for fd in self.pipes:
            os.close(fd)
        self.pipes = {}
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
