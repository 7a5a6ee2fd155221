"""fds 0, 1, 2 and the sys.std* objects over them: sane at the start of every run."""

import fcntl
import io
import os
import select
import sys
from os import close, dup2, fstat, lseek, write

from cellblock_worker import interrupts

HIGH_FD = 700
_LOOK_MS = 50
_OPEN = os.open
_TEMPORARY = getattr(os, "O_TMPFILE", 0) | os.O_RDWR
_fcntl = fcntl.fcntl
_F_DUPFD_CLOEXEC = getattr(fcntl, "F_DUPFD_CLOEXEC", 1030)  # PyPy does not name it
_flush_c = None
_WATCHED = frozenset(
    ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.spawn", "pty.spawn")
)


def keep_high(fd):
    """A close-on-exec copy of `fd` where code that closes low fds does not find it."""
    for base in (HIGH_FD, 200, 64, 10):
        try:
            return _fcntl(fd, _F_DUPFD_CLOEXEC, base)
        except OSError:
            continue
    return -1


def _identity(fd):
    """What `fd` is open on, to notice when it is not that any more."""
    try:
        found = fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def find_c_stdout():
    """Finds C's own stdout, so that what extension modules print there is not kept back."""
    global _flush_c
    try:
        import ctypes

        library = ctypes.CDLL(None)
        stream = ctypes.c_void_p.in_dll(library, "stdout")
        flush = library.fflush
        flush.argtypes = [ctypes.c_void_p]
    except (ImportError, OSError, ValueError, AttributeError):
        return
    _flush_c = lambda: flush(stream)  # noqa: E731


def _writer(fd, name):
    """A text stream over `fd` that hands on every line at once and takes any str."""
    raw = io.FileIO(fd, "wb", closefd=False)
    raw.name = name
    return io.TextIOWrapper(
        io.BufferedWriter(raw, 65536), "utf-8", "backslashreplace", "\n", line_buffering=True
    )


class _Waiting(io.FileIO):
    """Bytes that may have to be waited for. A read that blocks is not begun before there is
    something to read: a signal that comes just before it would be seen after it."""

    def _wait(self):
        while True:
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            if poll.poll(_LOOK_MS):
                return

    def readinto(self, buffer):
        self._wait()
        return io.FileIO.readinto(self, buffer)

    def read(self, size=-1):
        if size is None or size < 0:
            return self.readall()
        self._wait()
        return io.FileIO.read(self, size)

    def readall(self):
        parts = []
        while not parts or parts[-1]:
            parts.append(self.read(65536) or b"")
        return b"".join(parts)


def _reader(kind=io.FileIO):
    """A text stream over fd 0 without anything read ahead."""
    raw = kind(0, "rb", closefd=False)
    raw.name = "<stdin>"
    return io.TextIOWrapper(io.BufferedReader(raw), "utf-8", "surrogateescape")


class Stdio:
    """The three standard streams of a worker."""

    def __init__(self):
        null = os.open(os.devnull, os.O_RDONLY)
        if _identity(0) is None:
            dup2(null, 0)
        self._kept = {0: keep_high(null), 1: keep_high(1), 2: keep_high(2)}
        if null > 2:
            close(null)
        dup2(self._kept[0], 0)
        self._ids = {fd: _identity(fd) for fd in (0, 1, 2)}
        self.has_stdin = False
        self.out = self.err = self.inp = None
        self._make()
        sys.addaudithook(self._audit)
        os.register_at_fork(before=self.flush)

    def _make(self):
        """Fresh stream objects, put where everybody looks for them."""
        self.inp = sys.stdin = sys.__stdin__ = _reader()
        self.out = sys.stdout = sys.__stdout__ = _writer(1, "<stdout>")
        self.err = sys.stderr = sys.__stderr__ = _writer(2, "<stderr>")

    def _audit(self, event, _args):
        """Text printed before a child starts comes before what the child prints."""
        if event in _WATCHED:
            self.flush()

    def flush(self):
        """Writes out what is buffered, in our streams and in what the user put in their place."""
        names = vars(sys)
        for stream in (names.get("stdout"), names.get("stderr"), self.out, self.err):
            try:
                stream.flush()
            except Exception:
                continue
        if _flush_c is not None:
            _flush_c()

    def begin(self, text, pipe=None):
        """Before a run: mends what the last one broke; the input is `text`, or what the
        descriptor `pipe` reads, or there is none."""
        for fd in (0, 1, 2):
            if _identity(fd) != self._ids[fd] and self._kept[fd] >= 0:
                dup2(self._kept[fd], fd)
        names = vars(sys)
        if not (
            names.get("stdout") is self.out
            and names.get("stderr") is self.err
            and names.get("stdin") is self.inp
        ):
            self._make()
        elif self.out.closed or self.err.closed or self.inp.closed:
            self._make()
        if pipe is not None:
            dup2(pipe, 0)
            self.has_stdin = True
            self.inp = sys.stdin = sys.__stdin__ = _reader(_Waiting)
        elif text is not None:
            self._feed(text.encode("utf-8", "surrogateescape"))
            self.inp = sys.stdin = sys.__stdin__ = _reader()

    def _feed(self, data):
        """Makes `data` what fd 0 reads, for this process and its children; it never blocks."""
        fd = _nameless_file()
        try:
            view = memoryview(data)
            while view:
                view = view[write(fd, view) :]
            lseek(fd, 0, 0)
            dup2(fd, 0)
        finally:
            close(fd)
        self.has_stdin = True

    def end(self):
        """After a run: fd 0 is empty again."""
        if self.has_stdin:
            self.has_stdin = False
            dup2(self._kept[0], 0)
            self.inp = sys.stdin = sys.__stdin__ = _reader()


def _nameless_file():
    """A file in /tmp that has no name there."""
    try:
        return _OPEN("/tmp", _TEMPORARY, 0o600)
    except OSError:
        import tempfile

        fd, path = tempfile.mkstemp()
        os.unlink(path)
        return fd


def write_err(text):
    """Text for the user's eyes on fd 2, past whatever sys.stderr has become."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        with interrupts.shielded():
            try:
                write(2, text.encode("utf-8", "backslashreplace"))
            except OSError:
                pass
