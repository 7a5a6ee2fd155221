"""Copies that are brought in, requests about files, and the processes that are left behind."""

import contextlib
import errno
import os
import queue
import signal
import threading

from cellblock_worker import filing, taking

QUEUE = 64
REQUESTS = 64  # about files, at once: one more, and the oldest is forgotten
ANSWER_PIECE = 512 * 1024
PATIENCE = 0.005  # so long one question waits for its answer: others wait behind it
END, CANCEL = None, False  # in the place of a piece
_NUMBERS = {"exists": errno.EEXIST, "refused": errno.EACCES, "space": errno.ENOSPC}


class _Pieces:
    """The pieces of a tar stream as a file to read from."""

    def __init__(self):
        self.queue = queue.Queue(QUEUE)
        self._rest = b""
        self._ended = False

    def _next(self):
        piece = self.queue.get()
        if piece is CANCEL:
            self._ended = True
            raise taking.Failed("stopped", "given up")
        self._ended = piece is END
        self._rest = piece or b""

    def read(self, size):
        """Blocks until there are bytes; b"" at the end."""
        parts = []
        while size > 0 and not self._ended:
            if not self._rest:
                self._next()
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def finish(self):
        """Reads what is left."""
        while not self._ended:
            self._next()


class _Failure(OSError):
    """Why a copy did not work, in words without a number."""

    def __str__(self):
        return self.strerror


class _Put:
    """One copy that is on its way, in a thread of its own; see the worker's taking.py."""

    def __init__(self, root, dest):
        self.failure = None
        self.pieces = _Pieces()
        self.thread = threading.Thread(target=self._work, args=(root, dest), daemon=True)
        self.thread.start()

    def _work(self, root, dest):
        try:
            taking.take(self.pieces, root, dest, 0)
        except taking.Failed as error:
            self.failure = _Failure(_NUMBERS.get(error.kind, errno.EINVAL), str(error))
        except Exception as error:
            self.failure = error
        with contextlib.suppress(taking.Failed):
            self.pieces.finish()

    def finish(self):
        """All pieces are in."""
        self.pieces.queue.put(END)
        self.thread.join()
        if self.failure is not None:
            raise self.failure

    def cancel(self):
        """Nothing of it is left."""
        self.pieces.queue.put(CANCEL)
        self.thread.join()


class Puts:
    """The copies of a session, by number."""

    def __init__(self, folder):
        self.folder = folder
        self._puts = {}

    def step(self, content, buffers):
        """{"step": "begin", "put", "dest"} | "data" | {"step": "end", "name"} | "cancel"."""
        step, number = content["step"], content["put"]
        if step == "begin":
            self._puts[number] = _Put(self.folder or "/", content["dest"])
            return {}
        put = self._puts.get(number) if step == "data" else self._puts.pop(number, None)
        if put is None:
            raise ValueError("no such copy")
        if step == "data":
            if put.failure is not None:
                raise put.failure
            for piece in buffers:
                put.pieces.queue.put(bytes(piece))
        elif step == "end":
            put.finish()
        else:
            put.cancel()
        return {}


class _Request:
    """One request about files, done in a thread of its own when its content is there."""

    def __init__(self, places, request):
        self._content = []
        self._missing = max(0, int(request.get("size") or 0))
        self._answer = []
        self._job = filing.Job(request, places, self._answer.append, self._read)
        self._over = threading.Event()
        self._done = None
        self._at = 0
        self.feed(())

    def feed(self, buffers):
        """More of the content; with the last of it the work begins."""
        for piece in buffers:
            self._content.append(bytes(piece))
            self._missing -= len(piece)
        if self._missing <= 0:
            self._missing = 1 << 62
            threading.Thread(target=self._work, daemon=True).start()

    def _read(self, size):
        return b"".join(self._content)[:size]

    def _work(self):
        problem = self._job.run()
        self._content = []
        self._answer = b"" if problem else b"".join(self._answer)
        self._done = {"more": self._job.more, "error": problem}
        self._over.set()

    def next(self):
        """What is to be told now: more of the answer, and at its end how it went."""
        if not self._over.wait(PATIENCE):
            return {"bytes": "", "done": None}
        piece = self._answer[self._at : self._at + ANSWER_PIECE]
        self._at += len(piece)
        return {"bytes": piece.hex(), "done": self._done if self._at >= len(self._answer) else None}


class Files:
    """The requests about files of a session, by number."""

    def __init__(self, home, folder):
        self._places = filing.Places(home, folder)
        self._requests = {}

    def step(self, content, buffers):
        """{"step": "begin", "number", "request"} | "data" | "next": see files_wire.h."""
        step, number = content["step"], content["number"]
        if step == "begin":
            while len(self._requests) >= REQUESTS:
                del self._requests[min(self._requests)]
            self._requests[number] = _Request(self._places, content["request"])
        one = self._requests[number]
        if step == "data":
            one.feed(buffers)
        told = one.next()
        if told["done"] is not None:
            del self._requests[number]
        return told


def _parents():
    """pid → parent, of all processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    found[int(name)] = int(file.read().rsplit(b")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    return found


def _read(pid, what):
    try:
        with open("/proc/%d/%s" % (pid, what), "rb") as file:
            return file.read()
    except OSError:
        return b""


def _ours(mark):
    """The pids of what this session's code has started, here or in a kernel before this one."""
    me, parents = os.getpid(), _parents()
    family = {me}
    for _ in range(100):
        more = {pid for pid, parent in parents.items() if parent in family} - family
        if not more:
            break
        family |= more
    mine = _read(me, "cmdline")
    for pid in parents:
        if pid not in family and mark:
            environ = b"\0" + _read(pid, "environ")
            if b"\0" + mark + b"\0" in environ or (mine and _read(pid, "cmdline") == mine):
                family.add(pid)
    return family - {me}


def end_before(pid):
    """Kills the kernel of before, which the server may take a while to end."""
    if isinstance(pid, int) and pid > 1 and b"ipykernel" in _read(pid, "cmdline"):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def end_processes(value, name):
    """Kills them all; what they start meanwhile too."""
    mark = ("%s=%s" % (name, value)).encode() if value else b""
    for _ in range(20):
        try:
            found = _ours(mark)
        except OSError:
            return
        living = [pid for pid in found if b") Z " not in _read(pid, "stat")]
        if not living:
            return
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
