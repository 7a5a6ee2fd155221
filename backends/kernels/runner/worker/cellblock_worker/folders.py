"""The private folder of a far side that has no file system of its own: made, measured, removed; and
a way to a folder that follows no link."""

import fcntl
import os
import stat
import time

PREFIX = "cellblock-far-"
LOCK = ".lock"
_DEPTH = 64
_MOVES = 1 << 20
ENTRIES_CAP = 200000
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make():
    """A new folder with workspace/ and tmp/ in it; (path, descriptor of its lock).

    The lock is held as long as this process lives, so the next one knows what nobody owns any more.
    """
    path = _new_folder()
    early = os.path.join(path, LOCK + ".new")
    lock = os.open(early, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(early, os.path.join(path, LOCK))  # locked before anybody can find it
    except OSError:
        pass  # a file system without locks: nobody can sweep there
    for name in ("workspace", "tmp"):
        os.mkdir(os.path.join(path, name), 0o700)
    sweep(os.path.dirname(path))
    return path, lock


def _new_folder():
    """A folder that nobody else can look into, where the module tempfile would make it."""
    failure = None
    tops = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    for top in tops + ["/tmp", "/var/tmp", "/usr/tmp", "."]:
        if not top:
            continue
        try:
            path = os.path.join(os.path.abspath(top), PREFIX + os.urandom(6).hex())
            os.mkdir(path, 0o700)
            return path
        except OSError as error:
            failure = failure or error
    raise failure


def sweep(top):
    """Removes the folders whose owner was killed before it could."""
    try:
        names = [name for name in os.listdir(top) if name.startswith(PREFIX)]
    except OSError:
        return
    for name in names[:64]:
        path = os.path.join(top, name)
        try:
            if os.lstat(path).st_uid != os.getuid():
                continue
            lock = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # in the middle of being made, or not ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        except OSError:
            pass
        finally:
            os.close(lock)


class _Removal:
    """Removes a tree by descriptors, whatever the code has made of its modes and depths."""

    def __init__(self, top):
        self.top = top
        self.moved = 0

    def _open(self, name, folder):
        """The folder `name`; its owner's rights come back if they were taken away."""
        try:
            fd = os.open(name, _OPEN, dir_fd=folder)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=folder)
            fd = os.open(name, _OPEN, dir_fd=folder)
        os.fchmod(fd, 0o700)
        return fd

    def _move_up(self, name, folder):
        """One that is too deep goes to the top, for another round."""
        other = ".deep-%d" % self.moved
        self.moved += 1
        try:
            os.rename(name, other, src_dir_fd=folder, dst_dir_fd=self.top)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=folder)
            os.rename(name, other, src_dir_fd=folder, dst_dir_fd=self.top)

    def empty(self, folder, depth=_DEPTH):
        """Removes what is in the folder `folder` is open on."""
        for name in os.listdir(folder):
            try:
                self._remove(name, folder, depth)
            except OSError:
                continue

    def _remove(self, name, folder, depth):
        """One entry, whatever it is."""
        if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            os.unlink(name, dir_fd=folder)
        elif depth == 0:
            self._move_up(name, folder)
        else:
            fd = self._open(name, folder)
            try:
                self.empty(fd, depth - 1)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=folder)


def remove_in(name, folder):
    """Removes the entry `name` of the folder that `folder` is open on, if there is one."""
    try:
        _Removal(folder)._remove(name, folder, _DEPTH)
    except OSError:
        pass


def remove(path):
    """Removes the whole folder."""
    try:
        top = os.open(path, _OPEN)
    except OSError:
        return
    try:
        removal = _Removal(top)
        before = -1
        while removal.moved > before and removal.moved < _MOVES:
            before = removal.moved
            removal.empty(top)
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except OSError:
        pass


def _enter(folder, name):
    """Opens the folder `name` in `folder`, made when missing."""
    try:
        return os.open(name, _OPEN, dir_fd=folder)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        pass
    return os.open(name, _OPEN, dir_fd=folder)


def open_parent(root, path):
    """The folder of `path` below the folder `root`, made as far as it is missing, and its name."""
    parts = [part for part in path.split("/") if part]
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts[:-1]:
        try:
            inner = _enter(folder, part)
        finally:
            os.close(folder)
        folder = inner
    return folder, parts[-1]


class Count:
    """What a walk has found."""

    def __init__(self):
        self.bytes = 0
        self.files = 0


def walk(paths, count, budget):
    """Adds up the trees into `count`; yields whenever `budget` seconds have passed."""
    waiting = list(paths)
    until = time.monotonic() + budget
    while waiting and count.files < ENTRIES_CAP:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                if time.monotonic() > until:
                    yield
                    until = time.monotonic() + budget
                count.files += 1
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                count.bytes += found.st_blocks * 512
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
