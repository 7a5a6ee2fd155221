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
from struct import Struct

READ_CAP = 8 * 1024 * 1024
WRITE_CAP = 8 * 1024 * 1024
LIST_CAP = 20000
NAMES_CAP = 4 * 1024 * 1024
PATH_CAP = 4095
DEPTH_CAP = 64
FILES_CAP = 100000
CHUNK = 256 * 1024
PIECE = 60 * 1024  # of an answer
TEXT_CAP = 512  # characters of a reason
TEMPORARY = b".cellblock-%s.tmp"
REGULAR, DIRECTORY, SYMLINK, OTHER = range(4)
ENTRY = Struct("<BHQqHH")  # type, mode, size, mtime_ns, bytes of the name, of the target
_TIME_CAP = 2**63 - 1
_FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    errno.ENOENT: "missing",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.EROFS: "refused",
    errno.ENOSPC: "space",
    errno.EDQUOT: "space",
    errno.EFBIG: "space",
    errno.EMFILE: "limit",
    errno.ENFILE: "limit",
    errno.ENOMEM: "limit",
    errno.EIO: "internal",
}


class Failed(Exception):
    """Why it did not work: a kind that supervised_files.c knows, and a text. `dest`: the trouble is
    there and not at the path."""

    def __init__(self, kind, text, dest=False):
        Exception.__init__(self, text)
        self.kind = kind
        self.dest = dest


def shown(name):
    """A name for a text: on one line, whatever is in it."""
    return "".join(chr(c) if 32 <= c < 127 and c != 92 else "\\x%02x" % c for c in name)


def failure(error, where=b"", dest=False):
    """What an OSError means, that came from something called `where` below the path."""
    text = (error.strerror or str(error)).lower()
    if where:
        text = "%s: %s" % (shown(os.fsencode(where)), text)
    return Failed(_KINDS.get(error.errno, "invalid"), text, dest)


class Places:
    """Where a path of the server's is: relative ones in the working directory, and of the absolute
    ones those whose first part is a folder's in the private folder (/workspace, /tmp, a share's
    dest) are there."""

    def __init__(self, home, folder):
        self.home = os.fsencode(home)
        self.folder = os.fsencode(folder) if folder else None

    def find(self, path):
        """The path as the system knows it."""
        if not path or b"\0" in path or len(path) > PATH_CAP:
            raise Failed("invalid", "this is no path")
        folder = self.folder
        if path[:1] != b"/":
            return os.path.join(self.home, path)
        if folder is None or (path + b"/").startswith(folder + b"/"):
            return path
        first = path.lstrip(b"/").partition(b"/")[0]
        if first in (b"", b".", b"..") or not os.path.lexists(os.path.join(folder, first)):
            return path
        return folder + path

    def keep(self, found):
        """Raises when that is one of the folders that the sandbox is made of."""
        for path in (b"/", self.folder, self.home):
            if path and os.path.samestat(found, os.stat(path)):
                raise Failed("invalid", "the sandbox's own folder stays where it is")
        if self.folder and os.path.samestat(found, os.stat(os.path.join(self.folder, b"tmp"))):
            raise Failed("invalid", "the sandbox's own folder stays where it is")


# ---- entries ----


def kind_of(found):
    """The type of what a stat has found."""
    if stat.S_ISREG(found.st_mode):
        return REGULAR
    if stat.S_ISDIR(found.st_mode):
        return DIRECTORY
    return SYMLINK if stat.S_ISLNK(found.st_mode) else OTHER


def entry_of(found, name=b"", target=b""):
    """The bytes of an entry."""
    kind = kind_of(found)
    size = found.st_size if kind in (REGULAR, SYMLINK) else 0
    time = max(-_TIME_CAP, min(found.st_mtime_ns, _TIME_CAP))
    mode = stat.S_IMODE(found.st_mode)
    return ENTRY.pack(kind, mode, size, time, len(name), len(target)) + name + target


def entry_at(path):
    """The entry of what is there, links as themselves."""
    found = os.lstat(path)
    target = os.readlink(path)[:PATH_CAP] if stat.S_ISLNK(found.st_mode) else b""
    return entry_of(found, target=target)


def expect_file(found, dest=False):
    """Raises when it is none that can be read or written."""
    kind = kind_of(found)
    if kind == DIRECTORY:
        raise Failed("invalid", "it is a directory, and a file was expected", dest)
    if kind != REGULAR:
        raise Failed(
            "invalid", "it is neither a file nor a directory (a FIFO, a device, a socket)", dest
        )


def look(path):
    """Its lstat, or None when nothing is there."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


# ---- reading ----


def do_stat(job):
    """STAT"""
    job.send(entry_at(job.path))


def do_read(job):
    """READ: the entry, then the bytes."""
    expect_file(os.stat(job.path))
    fd = os.open(job.path, os.O_RDONLY | _FLAGS)
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


def pour(fd, data):
    """Writes all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def temporary_in(folder):
    """A name in that folder that nobody guesses."""
    return os.path.join(folder, TEMPORARY % os.urandom(8).hex().encode())


def last_of(path, dest=False):
    """(folder, name) of a path."""
    folder, name = os.path.split(path)
    if name in (b"", b".", b".."):
        raise Failed("invalid", "its last part is no name of a file", dest)
    return folder or b".", name


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
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FLAGS, 0o600)
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
    fd = os.open(temporary, _NEW_FILE, 0o600)
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


# ---- trees ----


class Tree:
    """Copies or removes a tree by descriptors, counting what is in it."""

    def __init__(self):
        self._files = 0

    def _count(self, depth):
        self._files += 1
        if self._files > FILES_CAP:
            raise Failed("limit", "there are more than %d files in it" % FILES_CAP)
        if depth > DEPTH_CAP:
            raise Failed("limit", "its folders are deeper than %d" % DEPTH_CAP)

    def check(self, folder, depth=1):
        """Raises when there is more in it than may be."""
        for name in os.listdir(folder):
            self._count(depth)
            try:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                    continue
                fd = os.open(name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise failure(error, name) from None
            try:
                self.check(fd, depth + 1)
            finally:
                os.close(fd)

    def remove(self, name, folder=None):
        """Removes what has that name, in the folder that `folder` is open on."""
        try:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                os.unlink(name, dir_fd=folder)
                return
            fd = os.open(name, _FOLDER, dir_fd=folder)
            try:
                for inner in os.listdir(fd):
                    self.remove(inner, fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=folder)
        except FileNotFoundError:
            return  # somebody else was first
        except OSError as error:
            raise failure(error, name if folder is not None else b"") from None

    def copy(self, source, new, folder=None, to=None, depth=0):
        """Copies `source` in the folder `folder` to `new` in the folder `to`."""
        self._count(depth)
        where = source if folder is not None else b""
        try:
            found = os.lstat(source, dir_fd=folder)
            kind = kind_of(found)
            if kind == SYMLINK:
                os.symlink(os.readlink(source, dir_fd=folder), new, dir_fd=to)
                os.utime(
                    new, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=to, follow_symlinks=False
                )
            elif kind == DIRECTORY:
                self._copy_folder(source, new, folder, to, depth)
            else:
                expect_file(found)
                self._copy_file(source, new, folder, to)
        except OSError as error:
            raise failure(error, where) from None
        except Failed as failed:
            if where and failed.kind == "invalid" and depth:
                text = "%s: %s" % (shown(os.fsencode(where)), failed)
                raise Failed("invalid", text) from None
            raise

    def _copy_file(self, source, new, folder, to):
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | _FLAGS, dir_fd=folder)
        try:
            found = os.fstat(fd)
            expect_file(found)
            out = os.open(new, _NEW_FILE, 0o600, dir_fd=to)
            try:
                while True:
                    data = os.read(fd, CHUNK)
                    if not data:
                        break
                    pour(out, data)
                keep_looks(out, found)
            finally:
                os.close(out)
        finally:
            os.close(fd)

    def _copy_folder(self, source, new, folder, to, depth):
        fd = os.open(source, _FOLDER, dir_fd=folder)
        try:
            found = os.fstat(fd)
            os.mkdir(new, 0o700, dir_fd=to)
            out = os.open(new, _FOLDER, dir_fd=to)
            try:
                for name in os.listdir(fd):
                    self.copy(name, name, fd, out, depth + 1)
                keep_looks(out, found)
            finally:
                os.close(out)
        finally:
            os.close(fd)


def keep_looks(fd, found):
    """Times and modes of a copy are the original's."""
    os.fchmod(fd, stat.S_IMODE(found.st_mode) & 0o1777)
    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))


def do_remove(job):
    """REMOVE"""
    path = job.path.rstrip(b"/") or b"/"
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
        return
    job.places.keep(found)
    if not job.flag("recursive"):
        os.rmdir(path)
        return
    tree = Tree()
    fd = os.open(path, _FOLDER)
    try:
        tree.check(fd)
    finally:
        os.close(fd)
    tree.remove(path)


def swap_in(new, path, old):
    """Puts `new` at `path`, where `old` was found, or nothing."""
    if old is None or (not stat.S_ISDIR(old.st_mode) and not os.path.isdir(new)):
        os.rename(new, path)
        return
    aside = temporary_in(last_of(path)[0])
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(aside, path)
        raise
    Tree().remove(aside)


def copy_to(job, dest, old):
    """A copy beside dest, and then there."""
    temporary = temporary_in(last_of(dest, True)[0])
    try:
        Tree().copy(job.path, temporary)
        swap_in(temporary, dest, old)
    finally:
        Tree().remove(temporary)


def prepare_dest(job, found):
    """(path, lstat of what is there) of the dest of a copy or a move."""
    dest = job.dest.rstrip(b"/") if stat.S_ISDIR(found.st_mode) else job.dest
    folder = last_of(dest, True)[0]
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise Failed("invalid", "its folder is no directory", True)
        old = look(dest)
    except OSError as error:
        raise failure(error, dest=True) from None
    if old is not None:
        if os.path.samestat(found, old):
            raise Failed("invalid", "it is the same file as the path", True)
        if not job.flag("replace"):
            raise Failed("invalid", "something is there already, and replace was not asked for",
                         True)
        if stat.S_ISDIR(old.st_mode):
            job.places.keep(old)
    if stat.S_ISDIR(found.st_mode):
        inside = os.path.realpath(folder) + b"/"
        if inside.startswith(os.path.realpath(job.path).rstrip(b"/") + b"/"):
            raise Failed("invalid", "it is inside of the directory itself", True)
    return dest, old


def do_copy(job):
    """COPY"""
    found = os.lstat(job.path)
    if stat.S_ISDIR(found.st_mode) and not job.flag("recursive"):
        raise Failed("invalid", "it is a directory: it is copied with recursive only")
    if kind_of(found) == OTHER:
        expect_file(found)
    dest, old = prepare_dest(job, found)
    copy_to(job, dest, old)
    job.send(entry_at(dest))


def do_move(job):
    """MOVE"""
    found = os.lstat(job.path)
    if stat.S_ISDIR(found.st_mode):
        job.places.keep(found)
    dest, old = prepare_dest(job, found)
    try:
        swap_in(job.path, dest, old)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_to(job, dest, old)
        Tree().remove(job.path)
    job.send(entry_at(dest))


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
