"""One operation on the sandbox's files: the far half of backends/files.h.

`answer` runs in a process of its own, a child of the supervisor, so that a file system that hangs
and a folder with a million files hold up nobody else; a Jupyter kernel's helper runs a Job in a
thread. Request and answer are those of files_wire.h. Paths and names are bytes throughout; nothing
depends on what belongs to the whole process (its umask, its working directory).
"""

import _signal as signal
import errno
import os
import stat

from cellblock_worker.paths import (
    CHUNK,
    DEPTH_CAP,
    FLAGS,
    NEW_FILE,
    PATH_CAP,
    Failed,
    Places,
    entry_at,
    entry_of,
    expect_file,
    failure,
    last_of,
    pour,
    temporary_in,
)
from cellblock_worker.trees import do_copy, do_move, do_remove

READ_CAP = 8 * 1024 * 1024
WRITE_CAP = 8 * 1024 * 1024
LIST_CAP = 20000
NAMES_CAP = 4 * 1024 * 1024
PIECE = 60 * 1024  # of an answer
TEXT_CAP = 512  # characters of a reason


# ---- reading ----


def do_stat(job):
    """STAT"""
    job.send(entry_at(job.path))


def do_read(job):
    """READ: the entry, then the bytes."""
    expect_file(os.stat(job.path))
    fd = os.open(job.path, os.O_RDONLY | FLAGS)
    try:
        found = os.fstat(fd)
        expect_file(found)
        job.send(entry_of(found))
        offset, left = job.number("offset"), min(job.number("length"), READ_CAP)
        while left > 0:
            try:
                data = os.pread(fd, min(left, CHUNK), offset)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.EOVERFLOW) and offset > found.st_size:
                    return  # past where any file can end
                raise
            if not data:
                return
            job.send(data)
            offset += len(data)
            left -= len(data)
    finally:
        os.close(fd)


class Listing:
    """Entries in the order of their whole names, found no sooner than they are needed: what is in
    a folder comes after the folder itself, so the least name of those that are known is next."""

    def __init__(self, job):
        self._job = job
        self._heap = []
        self._names = 0

    def scan(self, path, prefix):
        """Adds what is in a folder. With os.scandir a name has its type, and not two calls."""
        from heapq import heapify, heappush

        with os.scandir(path) as entries:
            found = [(prefix + entry.name, entry) for entry in entries]
        if self._heap:
            for one in found:
                heappush(self._heap, one)
        else:
            self._heap = found
            heapify(found)

    def _send(self, name, entry):
        """False when there is no room for it."""
        try:
            target = os.readlink(entry.path)[:PATH_CAP] if entry.is_symlink() else b""
            record = entry_of(entry.stat(follow_symlinks=False), name, target)
        except FileNotFoundError:
            return True  # it has gone meanwhile
        except PermissionError:
            if b"/" not in name:
                raise
            return True  # a folder below that may be read and not entered
        self._names += len(name) + len(target)
        if len(name) > PATH_CAP or self._names > NAMES_CAP:
            return False
        self._job.send(record)
        return True

    def _enter(self, name, entry):
        """What is in a folder, if it can be read."""
        if name.count(b"/") >= DEPTH_CAP:
            self._job.more = True
            return
        try:
            self.scan(entry.path, name + b"/")
        except OSError:
            return  # it is listed itself, and nobody may look into it

    def run(self, limit, recursive):
        """Sends them all."""
        from heapq import heappop

        for _ in range(limit):
            if not self._heap:
                return
            name, entry = heappop(self._heap)
            if not self._send(name, entry):
                break
            if recursive and entry.is_dir(follow_symlinks=False):
                self._enter(name, entry)
        else:
            self._job.more = self._job.more or bool(self._heap)
            return
        self._job.more = True


def do_list(job):
    """LIST"""
    if not stat.S_ISDIR(os.stat(job.path).st_mode):
        raise Failed("invalid", "it is no directory")
    listing = Listing(job)
    listing.scan(job.path, b"")
    listing.run(min(job.number("limit"), LIST_CAP), job.flag("recursive"))


# ---- writing ----


def make_folders(path):
    """Makes what is missing of the way to a folder and itself; no umask counts."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or b"."
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def append_to(path, data, mode):
    """All of it at the end, or nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | FLAGS, 0o600)
    try:
        found = os.fstat(fd)
        expect_file(found)
        if mode >= 0:
            os.fchmod(fd, mode)
        try:
            pour(fd, data)
        except OSError:
            if os.fstat(fd).st_size <= found.st_size + len(data):
                os.ftruncate(fd, found.st_size)
            raise
    finally:
        os.close(fd)


def replace_by(path, data, old, mode):
    """The whole of it in the place of what is there."""
    temporary = temporary_in(last_of(path)[0])
    fd = os.open(temporary, NEW_FILE, 0o600)
    try:
        try:
            pour(fd, data)
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                try:
                    os.fchown(fd, old.st_uid, old.st_gid)
                except OSError:
                    pass  # the file is this user's now, as one that is new
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def do_write(job):
    """WRITE"""
    data = job.content()
    path, mode, old = job.path, job.mode(), None
    try:
        old = os.stat(path)
    except FileNotFoundError:
        pass
    if os.path.islink(path):
        path = os.path.realpath(path)
    if old is None:
        make_folders(last_of(path)[0])
    else:
        expect_file(old)
        if not os.access(path, os.W_OK):
            raise Failed("refused", "it may not be written")
    if job.flag("append"):
        append_to(path, data, mode if mode >= 0 or old else 0o644)
    else:
        kept = old.st_mode & 0o777 if old else 0o644
        replace_by(path, data, old, mode if mode >= 0 else kept)
    job.send(entry_at(path))


def do_mkdir(job):
    """MKDIR"""
    path, mode = job.path.rstrip(b"/") or b"/", job.mode()
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path) or b".")
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, mode if mode >= 0 else 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                raise Failed("invalid", "something is there that is no directory") from None
    job.send(entry_of(os.stat(path)))


# ---- one request ----

OPERATIONS = {
    "stat": do_stat,
    "list": do_list,
    "read": do_read,
    "write": do_write,
    "mkdir": do_mkdir,
    "remove": do_remove,
    "copy": do_copy,
    "move": do_move,
}


class Job:
    """A request, and the way of its answer: `write` takes bytes, `read(size)` gives those of the
    content of a WRITE, all of them."""

    def __init__(self, request, places, write, read):
        self.request = request
        self.places = places
        self.more = False
        self.path = self.dest = b""
        self._write = write
        self._read = read

    def run(self):
        """Does it; what an error frame says, or None."""
        try:
            self.path = self.places.find(self.request["path"].encode("latin-1"))
            if self.request.get("dest") is not None:
                self.dest = self.places.find(self.request["dest"].encode("latin-1"))
            OPERATIONS[self.request["op"]](self)
        except Failed as failed:
            return {"kind": failed.kind, "text": str(failed)[:TEXT_CAP], "dest": failed.dest}
        except OSError as error:
            failed = failure(error)
            return {"kind": failed.kind, "text": str(failed)[:TEXT_CAP], "dest": False}
        except Exception as error:
            text = "%s: %s" % (type(error).__name__, error)
            return {"kind": "internal", "text": text[:TEXT_CAP], "dest": False}
        return None

    def number(self, name):
        """A field that is a number from 0 on."""
        return max(0, int(self.request.get(name) or 0))

    def flag(self, name):
        """A field that is true or not."""
        return bool(self.request.get(name))

    def mode(self):
        """The permissions that were asked for, or -1."""
        mode = self.request.get("mode", -1)
        return mode & 0o777 if isinstance(mode, int) and mode >= 0 else -1

    def content(self):
        """What is to be written."""
        size = self.number("size")
        if size > WRITE_CAP:
            raise Failed("limit", "more than one write takes")
        return self._read(size)

    def send(self, data):
        """Sends a part of the answer."""
        self._write(data)


class Answer:
    """Makes frames of an answer, not too small and not too large ones."""

    def __init__(self, fd, number, kinds):
        self._fd = fd
        self._number = number
        self._bytes, self._done = kinds
        self._waiting = []
        self._size = 0

    def write(self, data):
        """Takes a part of it."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= PIECE:
            self.flush()

    def flush(self):
        """Sends what waits."""
        from cellblock_worker.frames import HEADER

        data = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        number = self._number.to_bytes(4, "little")
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            pour(self._fd, HEADER.pack(len(number) + len(piece), self._bytes) + number + piece)

    def end(self, problem, more):
        """The last frame."""
        from cellblock_worker import frames

        if problem is None:
            self.flush()
        payload = {"id": self._number, "more": more, "error": problem}
        pour(self._fd, frames.frame(self._done, payload))

    def read(self, size):
        """All of what is to come."""
        parts = []
        while size > 0:
            data = os.read(self._fd, min(size, CHUNK))
            if not data:
                raise SystemExit  # it was given up: nothing has been done
            parts.append(data)
            size -= len(data)
        return b"".join(parts)


def _ended(_number, _frame):
    raise SystemExit  # what is half made is undone on the way


def answer(fd, number, kinds, home, folder, request):
    """The life of the child: does what the request says and answers on `fd`."""
    signal.signal(signal.SIGTERM, _ended)
    said = Answer(fd, number, kinds)
    try:
        os.chdir(home)
        job = Job(request, Places(home, folder), said.write, said.read)
        problem, more = job.run(), job.more
    except OSError as error:
        problem, more = {"kind": "missing", "text": "the working directory: %s" % error.strerror,
                         "dest": False}, False
    said.end(problem, more)
