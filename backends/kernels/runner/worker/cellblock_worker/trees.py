"""Folders with all that is in them: removed, copied, moved.

The last three operations of filing.py. A tree is walked by descriptors and no link is followed.
"""

import errno
import os
import stat

from cellblock_worker.paths import (
    CHUNK,
    DEPTH_CAP,
    DIRECTORY,
    FLAGS,
    FOLDER,
    NEW_FILE,
    OTHER,
    SYMLINK,
    Failed,
    entry_at,
    expect_file,
    failure,
    kind_of,
    last_of,
    look,
    pour,
    shown,
    temporary_in,
)

FILES_CAP = 100000


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
                fd = os.open(name, FOLDER, dir_fd=folder)
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
            fd = os.open(name, FOLDER, dir_fd=folder)
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
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | FLAGS, dir_fd=folder)
        try:
            found = os.fstat(fd)
            expect_file(found)
            out = os.open(new, NEW_FILE, 0o600, dir_fd=to)
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
        fd = os.open(source, FOLDER, dir_fd=folder)
        try:
            found = os.fstat(fd)
            os.mkdir(new, 0o700, dir_fd=to)
            out = os.open(new, FOLDER, dir_fd=to)
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
    fd = os.open(path, FOLDER)
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
