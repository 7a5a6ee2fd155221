"""A command as a run: started, given its stdin and signals while it goes on, waited for."""

import _signal as signal
import errno
import importlib
import os
import select
import sys
from _collections import deque

from cellblock_worker import commands, frames

WORKSPACE = "/workspace"
NOT_FOUND, NOT_STARTED = 127, 126  # as a shell says it
_PATIENCE = (1, 20)  # milliseconds between two looks at a child that nothing tells the end of
_SIGNALS = range(1, 65)


class NotStarted(Exception):
    """Why, as the user reads it, and the exit code that a shell would give."""

    def __init__(self, code, text):
        Exception.__init__(self, text)
        self.code = code


class NoFolder(Exception):
    """There is no such working directory."""


def _path_of(workdir):
    """A folder as it is named in a session whose root is its own."""
    if workdir == WORKSPACE or workdir.startswith(WORKSPACE + "/"):
        workdir = "." + workdir[len(WORKSPACE) :]
    return os.path.normpath(os.path.join(commands.home, workdir))


def enter(folder):
    """The session works there; it is made when it is missing."""
    path = _path_of(folder)
    try:
        os.makedirs(path, exist_ok=True)
        os.chdir(path)
    except OSError as error:
        raise NoFolder("workdir: %s: %s" % (path, os.strerror(error.errno))) from None


def folder_of(workdir):
    """Where a command works: None where the session does."""
    if workdir is None:
        return None
    path = _path_of(workdir)
    try:
        os.stat(os.path.join(path, ""))
        missing = not os.access(path, os.X_OK) and errno.EACCES
    except OSError as error:
        missing = error.errno
    if missing:
        raise NoFolder("workdir: %s: %s" % (path, os.strerror(missing)))
    return path.encode("utf-8", "surrogateescape")


class Feed:
    """The stdin of a command that stays open: what is still to be written to it."""

    def __init__(self, text):
        self.fd = -1
        self.parts = deque()
        self.whole = False  # nothing more will come
        self.add(text.encode("utf-8", "surrogateescape") if text else b"")
        self._handler = None

    def take(self, fd):
        """The child has been started and this is our end. A child that reads nothing any more is
        no reason for us to end."""
        self._handler = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.set_blocking(fd, False)
        self.fd = fd

    def add(self, data):
        """More of it; nothing is written yet."""
        if data and not self.whole:
            self.parts.append(memoryview(data))

    def write(self):
        """Writes what can be written, and closes it when that was all."""
        while self.parts and self.fd >= 0:
            try:
                done = os.write(self.fd, self.parts[0][:65536])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self.parts[0] = self.parts[0][done:]
            if not self.parts[0]:
                self.parts.popleft()
        if self.whole:
            self.close()

    def close(self):
        """Nobody reads it any more, or it has had its end."""
        self.parts.clear()
        self.whole = True
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            signal.signal(signal.SIGPIPE, self._handler or signal.SIG_DFL)


class Running:
    """One command of one run."""

    def __init__(self, channel, request):
        self._channel = channel
        self._run = str(request.get("run") or "")
        self._feed = Feed(request.get("stdin")) if request.get("stdin_open") else None
        self._folder = folder_of(request.get("workdir"))
        self._argv = request.get("argv")
        self._python = bool(request.get("python"))
        self._code = request.get("code", "")
        self._child = None

    def status(self):
        """Runs it to its end; its status as subprocess has it."""
        if self._argv is None:
            return commands.script(self._code, run=self._start_and_attend)
        argv = [commands.to_bytes(word) for word in self._argv]
        if not self._python:
            return self._start_and_attend(argv)
        try:
            return self._start_and_attend([os.fsencode(sys.executable)] + argv)
        finally:
            importlib.invalidate_caches()  # what it installed can be imported

    def _start_and_attend(self, argv):
        from subprocess import PIPE, Popen

        try:
            self._child = child = Popen(
                argv,
                stdin=None if self._feed is None else PIPE,
                cwd=self._folder,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise _not_started(argv[0], error) from None
        try:
            if self._feed is not None:
                self._feed.take(os.dup(child.stdin.fileno()))
                child.stdin.close()
            return self._attend(child)
        except BaseException:
            commands.stop(child)
            raise
        finally:
            if self._feed is not None:
                self._feed.close()

    def _attend(self, child):
        """Waits for its end; meanwhile takes what comes for it."""
        ending = _end_of(child.pid)
        pause, longest = _PATIENCE
        fd = self._channel.fileno()
        try:
            self._take(self._channel.at_hand())
            while child.poll() is None:
                poll = select.poll()
                poll.register(fd, select.POLLIN)
                if ending >= 0:
                    poll.register(ending, select.POLLIN)
                if self._feed is not None and self._feed.fd >= 0:
                    poll.register(self._feed.fd, select.POLLOUT if self._feed.parts else 0)
                found = poll.poll(None if ending >= 0 else pause)
                pause = min(pause * 2, longest)
                if any(number == fd for number, _events in found):
                    self._take(self._channel.arriving())
                if self._feed is not None:
                    self._write(found)
            return child.returncode
        finally:
            if ending >= 0:
                os.close(ending)

    def _write(self, found):
        """Gives it its stdin; a pipe that nobody reads any more is closed."""
        feed = self._feed
        for number, events in found:
            if number == feed.fd and events & ~select.POLLOUT:
                feed.close()
                return
        feed.write()

    def _take(self, arrived):
        """Frames that are no runs."""
        for kind, data in arrived:
            if kind == frames.STDIN:
                self._take_stdin(data)
            elif kind == frames.SIGNAL:
                self._take_signal(data)

    def _take_stdin(self, data):
        size = data[1] if len(data) > 1 else 0
        name = data[2 : 2 + size]
        if self._feed is None or name != self._run.encode("ascii", "replace"):
            return
        self._feed.add(data[2 + size :])
        if data[0]:
            self._feed.whole = True
        self._feed.write()

    def _take_signal(self, data):
        request = frames.decode(str(data, "utf-8"))
        number = request.get("signal") if isinstance(request, dict) else None
        if number not in _SIGNALS or request.get("run") != self._run:
            return
        if self._child.poll() is None:
            try:
                os.killpg(self._child.pid, number)
            except OSError:
                pass  # one with another user's rights, say


def _end_of(pid):
    """A descriptor that can be read when the process has ended; -1 where there is none."""
    try:
        return os.pidfd_open(pid, 0)
    except (AttributeError, OSError):
        return -1


def _not_started(program, error):
    """What a shell says then."""
    name = program.decode("utf-8", "backslashreplace")
    code = NOT_FOUND if error.errno == errno.ENOENT else NOT_STARTED
    missing = code == NOT_FOUND and "/" not in name
    return NotStarted(code, "%s: %s" % (name, "not found" if missing else error.strerror))
