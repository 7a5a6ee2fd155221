"""Where the paths of requests lead, and what is there: entries of answers, and why not.

What filing.py and trees.py have in common. Paths and names are bytes.
"""

import errno
import os
import stat
from struct import Struct

PATH_CAP = 4095
DEPTH_CAP = 64
TEMPORARY = b".cellblock-%s.tmp"
REGULAR, DIRECTORY, SYMLINK, OTHER = range(4)
ENTRY = Struct("<BHQqHH")  # type, mode, size, mtime_ns, bytes of the name, of the target
CHUNK = 256 * 1024
FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TIME_CAP = 2**63 - 1
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
