"""Drives a far side: a supervisor on two pipes, and the frames that it sends."""

import glob
import json
import os
import select
import struct
import subprocess
import tarfile
import time
from io import BytesIO

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.normpath(os.path.join(HERE, "../../backends/kernels/runner/worker"))
HEADER = struct.Struct("<IB")
SETUP, START, INTERRUPT, KILL, PUT, PIECE, PUT_END, FILE, ATTACH, OUTPUT = range(0x20, 0x2A)
RUN = 0x01
NAMES = {
    0x10: "greeting", 0x11: "stdout", 0x12: "stderr", 0x13: "display", 0x14: "clear", 0x15: "note",
    0x16: "delayed", 0x17: "begin", 0x1F: "done", 0x30: "hello", 0x31: "started", 0x32: "begun",
    0x33: "exit", 0x34: "taken", 0x35: "put_done", 0x36: "file_bytes",
    0x37: "file_done", 0x38: "held", 0x39: "sample", 0x3A: "kept",
}
LAUNCH = (
    "import sys\n"
    "sys.path.insert(0, {source!r})\n"
    "from cellblock_worker import supervisor\n"
    "{before}\n"
    "supervisor.main()\n"
)


class Gone(Exception):
    """The far side has ended."""


class Far:
    """A supervisor process, and the frames that came from it, as (name, payload)."""

    def __init__(self, python, setup=None, env=None, cwd="/", command=(), before=""):
        code = LAUNCH.format(source=SOURCE, before=before)
        self.process = subprocess.Popen(
            [*command, python, "-I", "-u", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, bufsize=0,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1",
                 **(env or {})})
        self.events = []
        self._buffer = b""
        self._number = 1000
        if setup is not False:
            self.send(SETUP, {"workspace": None, "env": {}, **(setup or {})})
            self.hello = self.wait("hello")
            self.folder = self.hello["folder"]

    def send(self, kind, payload=b""):
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.process.stdin.write(HEADER.pack(len(data), kind) + data)

    def _frame(self):
        size, kind = HEADER.unpack_from(self._buffer)
        end = HEADER.size + size
        if len(self._buffer) < end:
            return None
        data, self._buffer = self._buffer[HEADER.size:end], self._buffer[end:]
        name = NAMES[kind]
        if name not in ("stdout", "stderr", "file_bytes", "sample"):
            data = json.loads(data.decode("utf-8") or "{}")
        return name, data

    def next(self, timeout=20):
        """The next frame."""
        limit = time.monotonic() + timeout
        while True:
            if len(self._buffer) >= HEADER.size:
                frame = self._frame()
                if frame:
                    self.events.append(frame)
                    return frame
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no frame in {timeout} s; so far {self.events[-5:]}")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise Gone()
            self._buffer += data

    def wait(self, name, timeout=20):
        """The payload of the next frame of this name; those before it are in `events`."""
        while True:
            got, data = self.next(timeout)
            if got == name:
                return data

    def start(self):
        """A worker, as far as its greeting."""
        self.send(START)
        pid = self.wait("started")["pid"]
        self.wait("greeting")
        return pid

    def begin(self, code, language="python", **more):
        self.events.clear()
        self.send(RUN, {"run": "r-1", "language": language, "code": code, **more})

    def run(self, code, timeout=20, **more):
        """One run: its DONE; what came before is in `events`."""
        self.begin(code, **more)
        return self.wait("done", timeout)

    def text(self, name="stdout"):
        """What was printed."""
        return b"".join(data for got, data in self.events if got == name).decode()

    def put(self, dest, archive, number=1, limit=0, whole=True, piece=100_000):
        """Puts an archive; its `error`."""
        self.send(PUT, {"id": number, "dest": dest, "limit": limit})
        for start in range(0, len(archive), piece):
            self.send(PIECE, struct.pack("<I", number) + archive[start:start + piece])
        self.send(PUT_END, {"id": number, "whole": whole})
        return self.wait("put_done")["error"]

    def ask(self, op, path, number, content=None, **more):
        """Sends a request about files; paths are bytes or text."""
        fields = {"id": number, "op": op, "path": as_bytes(path).decode("latin-1"), **more}
        if "dest" in fields:
            fields["dest"] = as_bytes(fields["dest"]).decode("latin-1")
        if content is not None:
            fields["size"] = len(content)
        self.send(FILE, fields)
        for start in range(0, len(content or b""), 100_000):
            self.send(PIECE, struct.pack("<I", number) + content[start:start + 100_000])

    def answer(self, number, timeout=20):
        """What comes to that request: (bytes, the fields of its end)."""
        parts = []
        while True:
            name, data = self.next(timeout)
            if name == "file_bytes" and data[:4] == struct.pack("<I", number):
                parts.append(data[4:])
            elif name == "file_done" and data["id"] == number:
                return b"".join(parts), data

    def file(self, op, path, **more):
        """One request, of a number of its own from 1000 on, and its answer; see Answer."""
        self._number += 1
        self.ask(op, path, self._number, **more)
        return Answer(op, *self.answer(self._number))

    def close(self):
        """Ends the stream; the far side has a few seconds to clean up."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def as_bytes(path):
    """A path as the system knows it."""
    return path if isinstance(path, bytes) else str(path).encode()


class Entry:
    """An entry of an answer."""

    FORMAT = struct.Struct("<BHQqHH")

    def __init__(self, data, at=0):
        kind, self.mode, self.size, self.mtime_ns, name, target = self.FORMAT.unpack_from(data, at)
        self.kind = ("file", "directory", "symlink", "other")[kind]
        start = at + self.FORMAT.size
        self.name, self.target = data[start:start + name], data[start + name:][:target]
        self.end = start + name + target


class Answer:
    """An answer, taken apart: `kind` and `text` of an error, else `entry`, `entries`, `content`."""

    def __init__(self, op, data, done):
        error = done["error"] or {}
        self.kind, self.text, self.at_dest = (error.get(key) for key in ("kind", "text", "dest"))
        self.more = done["more"]
        self.entries, self.content, self.entry = [], b"", None
        if error or op == "remove":
            assert error or not data
            return
        at = 0
        while at < len(data) and (op == "list" or not at):
            self.entries.append(Entry(data, at))
            at = self.entries[-1].end
        self.content = data[at:]
        self.entry = None if op == "list" else self.entries[0]
        self.names = [entry.name for entry in self.entries]


def archive_of(files, top="share"):
    """A tar of {name: bytes | None: a folder | ("link", target)}; "" is the top itself."""
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(top + ("/" + name if name else ""))
            info.mtime = 1_600_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[1]
                archive.addfile(info)
            else:
                info.size, info.mode = len(content), 0o640
                archive.addfile(info, BytesIO(content))
    return data.getvalue()


def package_files():
    """name → bytes of the package, as the archive has them."""
    return {"cellblock_worker/" + os.path.basename(path): open(path, "rb").read()
            for path in glob.glob(os.path.join(SOURCE, "cellblock_worker", "*.py"))}
