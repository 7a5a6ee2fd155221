"""Takes a share in: a tar stream becomes a file or a folder at its dest, whole or not at all.

`receive` runs in a process of its own, a child of the supervisor, so that output keeps flowing
meanwhile. Every step on the way is opened by itself and no link is followed: what the code in the
sandbox puts there cannot lead it elsewhere.
"""

import errno
import json
import os
import struct
import tarfile

from cellblock_worker.folders import open_parent, remove_in

TEMPORARY = ".cellblock-copy-in-progress"
FILES_CAP = 1000000
DEPTH_CAP = 256
CHUNK = 256 * 1024
TEXT_CAP = 512  # characters of a reason
SIZE = struct.Struct("<I")
END = 0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Failed(Exception):
    """Why it did not work: a kind that supervised_put.c has words for, and a text."""

    def __init__(self, kind, text=""):
        Exception.__init__(self, text)
        self.kind = kind


def failure(error, what):
    """What an OSError while doing `what` means."""
    if error.errno in _FULL:
        return Failed("space")
    refused = error.errno in (errno.EACCES, errno.EPERM)
    return Failed("refused" if refused else "invalid", "%s: %s" % (what, error.strerror))


class Pieces:
    """The stream as a file to read: pieces with their lengths before them, and END at the end."""

    def __init__(self, fd):
        self._fd = fd
        self._left = 0
        self.ended = False

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            more = os.read(self._fd, size - len(data))
            if not more:
                raise Failed("stopped", "the stream was cut off")
            data += more
        return data

    def read(self, size):
        """Up to `size` bytes, less only at the end."""
        parts = []
        while size > 0 and not self.ended:
            if self._left == 0:
                (self._left,) = SIZE.unpack(self._exactly(SIZE.size))
                self.ended = self._left == END
                continue
            data = os.read(self._fd, min(size, self._left))
            if not data:
                raise Failed("stopped", "the stream was cut off")
            parts.append(data)
            size -= len(data)
            self._left -= len(data)
        return b"".join(parts)

    def finish(self):
        """Reads what is left; only a stream that says that it has ended is a whole one."""
        while not self.ended:
            self.read(CHUNK)


def _exists(folder, name):
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


class Tree:
    """Makes the members of the archive, the first of which becomes `name` in `folder`."""

    def __init__(self, folder, name, limit):
        self._folder = folder
        self._name = name
        self._limit = limit
        self._open = (None, -1)  # the folder that was made last: most often the next one's
        self._folders = []
        self._files = 0
        self.bytes = 0
        self.is_folder = False

    def add(self, archive, member):
        """One member."""
        parts = member.name.split("/")
        if ".." in parts or "" in parts or len(parts) > DEPTH_CAP + 1:
            raise Failed("invalid", "a name in the archive is not allowed")
        self._files += 1
        if self._files > FILES_CAP:
            raise Failed("limit", "it holds more than %d files" % FILES_CAP)
        parts = parts[1:]
        try:
            folder, name = self._place(parts)
            self._make(archive, member, parts, folder, name)
        except OSError as error:
            raise failure(error, "/".join(parts) or "it") from None

    def _place(self, parts):
        """The folder that a member goes to, and its name there."""
        if not parts:
            return self._folder, self._name
        above = parts[:-1]
        if self._open[0] != above:
            folder = os.open(self._name, _FOLDER, dir_fd=self._folder)
            for part in above:
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            self.close()
            self._open = (above, folder)
        return self._open[1], parts[-1]

    def close(self):
        """Lets go of the folder that is open."""
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = (None, -1)

    def _make(self, archive, member, parts, folder, name):
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=folder)
            self._folders.append((parts, member.mode, member.mtime))
            self.is_folder = self.is_folder or not parts
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
        elif member.isreg():
            self._make_file(archive.extractfile(member), member, folder, name)
        else:
            raise Failed("invalid", "%s is neither a file, a folder nor a link" % name)

    def _make_file(self, source, member, folder, name):
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            while True:
                data = source.read(CHUNK)
                if not data:
                    break
                self.bytes += len(data)
                if self._limit and self.bytes > self._limit:
                    raise Failed("space")
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            os.fchmod(fd, (member.mode & 0o777) | 0o600)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def finish(self):
        """Modes and times of the folders, now that nothing is made in them any more."""
        for parts, mode, mtime in reversed(self._folders):
            folder, name = self._place(parts)
            fd = os.open(name, _FOLDER, dir_fd=folder)
            os.fchmod(fd, (mode & 0o777) | 0o700)
            os.utime(fd, (mtime, mtime))
            os.close(fd)
        self.close()


def _rename(folder, old, new, is_folder):
    """Puts it in place without replacing anything."""
    if is_folder:
        os.mkdir(new, 0o700, dir_fd=folder)  # a folder may be renamed over an empty one
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if _exists(folder, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(old, dir_fd=folder)


def _fill(pieces, folder, limit):
    """Makes TEMPORARY in `folder` of the stream; returns the tree."""
    tree = Tree(folder, TEMPORARY, limit)
    try:
        with tarfile.open(fileobj=pieces, mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                tree.add(archive, member)
                archive.members = []  # a million of them would be kept
        pieces.finish()
        tree.finish()
    except tarfile.TarError as error:
        raise Failed("invalid", "the archive is broken: %s" % error) from None
    finally:
        tree.close()
    return tree


def take(pieces, root, path, limit):
    """Takes one share in at `path` below `root`; raises Failed, and then nothing is at dest."""
    try:
        folder, name = open_parent(root, path)
    except OSError as error:
        raise failure(error, "making the folder of its dest in the sandbox") from None
    try:
        if _exists(folder, name):
            raise Failed("exists")
        remove_in(TEMPORARY, folder)
        try:
            tree = _fill(pieces, folder, limit)
            if not _exists(folder, TEMPORARY):
                raise Failed("invalid", "the archive is empty")
            _rename(folder, TEMPORARY, name, tree.is_folder)
        except FileExistsError:
            raise Failed("exists") from None
        except OSError as error:
            raise failure(error, "putting it in place") from None
        finally:
            remove_in(TEMPORARY, folder)
    finally:
        os.close(folder)


def receive(fd, root, path, limit):
    """The life of the child: takes the share in from `fd` and says there how it went."""
    problem = None
    try:
        take(Pieces(fd), root, path, limit)
    except Failed as failed:
        problem = {"kind": failed.kind, "text": str(failed)[:TEXT_CAP]}
    except BaseException as error:
        text = "%s: %s" % (type(error).__name__, error)
        problem = {"kind": "internal", "text": text[:TEXT_CAP]}
    try:
        os.write(fd, json.dumps(problem).encode("ascii"))
    finally:
        os._exit(0)
