"""A process in a sandbox with its streams, which are read and written by offsets."""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
import time

from grpclib import Status

from .cells import CellError
from .rpc import fail

AHEAD = 8 << 20  # bytes that a process may be ahead of its readers
BEHIND = 32 << 20  # bytes that stay for a reader that comes back
GRACE = 1.0  # seconds of silence after which a stream ends that others than the process hold


class Output:
    """What a process has written: read by offset any number of times, until its end."""

    def __init__(self):
        self.data = bytearray()
        self.start = 0  # the offset of data[0]
        self.closed = False
        self.lost = None  # why nothing more comes, when that is no end
        self._read = 0  # the furthest that anybody has read
        self._fd = None
        self._paused = False
        self._quiet = time.monotonic()
        self._news = asyncio.Event()

    @property
    def end(self):
        """The offset behind the last byte."""
        return self.start + len(self.data)

    def attach(self, fd):
        """Reads from this end of a pipe until it is closed."""
        os.set_blocking(fd, False)
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _tell(self):
        self._news.set()
        self._news = asyncio.Event()

    def _readable(self):
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:  # a terminal's other end is closed
            data = b""
        if not data:
            self.close()
            return
        self.data += data
        self._quiet = time.monotonic()
        if self.end - self._read > AHEAD and not self._paused:
            self._paused = True
            asyncio.get_running_loop().remove_reader(self._fd)
        self._tell()

    def close(self, lost=None):
        """There is no more."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if not self.closed:
            self.closed, self.lost = True, lost
            self._tell()

    def wind_up(self):
        """Its process is gone: what is still in the pipe is read, then it is closed."""
        if self.closed:
            return
        if not self._paused and time.monotonic() - self._quiet > GRACE:
            self.close()
        else:
            asyncio.get_running_loop().call_later(GRACE / 4, self.wind_up)

    async def read(self, offset, largest):
        """Pieces from an offset on; ends with the stream."""
        if offset > self.end:
            fail(Status.OUT_OF_RANGE, f"offset {offset} is behind the end, {self.end}")
        while True:
            offset = max(offset, self.start)
            piece = bytes(self.data[offset - self.start:offset - self.start + largest])
            if piece:
                yield offset, piece
                offset += len(piece)
                self._advance(offset)
            elif self.closed:
                if self.lost:
                    fail(Status.NOT_FOUND, self.lost)
                return
            else:
                await self._news.wait()

    def _advance(self, offset):
        self._read = max(self._read, offset)
        if (spare := self._read - self.start - BEHIND) > 0:
            del self.data[:spare]
            self.start += spare
        if self._paused and self.end - self._read < AHEAD // 2:
            self._paused = False
            if self._fd is not None:
                asyncio.get_running_loop().add_reader(self._fd, self._readable)


class Input:
    """A process's stdin: what is written twice arrives once."""

    def __init__(self):
        self.offset = 0
        self.closed = False
        self._fd = None
        self._lock = asyncio.Lock()

    def attach(self, fd):
        """Writes into this end of a pipe."""
        os.set_blocking(fd, False)
        self._fd = fd

    async def write(self, offset, data, eof):
        """Bytes that begin at an offset; those that are known are passed over."""
        async with self._lock:
            if offset > self.offset:
                fail(Status.OUT_OF_RANGE, f"offset {offset}, but {self.offset} bytes are written")
            data = memoryview(data)[self.offset - offset:]
            if self.closed and (data or not eof):
                fail(Status.FAILED_PRECONDITION, "stdin is closed")
            while data:
                data = data[await self._some(data):]
            if eof:
                self.close()

    async def _some(self, data):
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        while self._fd is not None:
            try:
                count = os.write(self._fd, data)
            except BlockingIOError:
                loop.add_writer(self._fd, ready.set)
                try:
                    await asyncio.wait_for(ready.wait(), 0.5)
                except asyncio.TimeoutError:
                    pass
                finally:
                    if self._fd is not None:
                        loop.remove_writer(self._fd)
                ready.clear()
            except OSError:
                self.close()
            else:
                self.offset += count
                return count
        fail(Status.FAILED_PRECONDITION, "stdin is closed")

    def close(self):
        """The process reads its end."""
        self.closed = True
        if self._fd is not None:
            with contextlib.suppress(OSError, ValueError):
                asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = None


class Exec:
    """One process."""

    def __init__(self, name, argv):
        self.id = name
        self.argv = list(argv)
        self.pid = None  # in the sandbox
        self.status = None  # as subprocess says it: negative is a signal
        self.lost = None  # why its status is not known
        self.stdout, self.stderr, self.stdin = Output(), Output(), Input()
        self.done = asyncio.Event()
        self.on_exit = None

    async def start(self, cell, env, cwd, *, stdout=True, stderr="pipe", terminal=None, timeout=0,
                    on_exit=None):
        """Starts it; what cannot be started has ended with 127 and says so on stderr."""
        theirs = self._streams(stdout, stderr, terminal)
        self.on_exit = on_exit

        def exited(status):
            self._exited(status)
            if self.on_exit:
                self.on_exit(self)

        try:
            self.pid = await cell.exec(self.id, self.argv, env, cwd, theirs, exited,
                                       terminal is not None)
        except CellError as problem:
            with contextlib.suppress(OSError):
                os.write(theirs[2], f"exec {self.argv[0]!r}: {problem}\n".encode())
            exited(127)
        finally:
            for fd in set(theirs):
                os.close(fd)
        if timeout and self.status is None:
            asyncio.get_running_loop().call_later(timeout, self._late, cell)

    def _late(self, cell):
        if self.status is None:
            cell.kill(self.id, signal.SIGKILL)

    def _streams(self, stdout, stderr, terminal):
        if terminal is not None:
            master, slave = os.openpty()
            rows, columns = terminal
            size = struct.pack("HHHH", rows or 24, columns or 80, 0, 0)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
            self.stdout.attach(master)
            self.stdin.attach(os.dup(master))
            self.stderr.close()
            return [slave, slave, slave]
        inner, outer = os.pipe()
        self.stdin.attach(outer)
        fds = [inner, self._pipe(self.stdout) if stdout else self._nothing(self.stdout)]
        if stderr == "stdout":
            self.stderr.close()
            return [*fds, os.dup(fds[1])]
        return [*fds, self._pipe(self.stderr) if stderr == "pipe" else self._nothing(self.stderr)]

    @staticmethod
    def _pipe(stream):
        outer, inner = os.pipe()
        stream.attach(outer)
        return inner

    @staticmethod
    def _nothing(stream):
        stream.close()
        return os.open(os.devnull, os.O_WRONLY)

    def _exited(self, status):
        if self.done.is_set():
            return
        self.status = status
        self.stdin.close()
        self.stdout.wind_up()
        self.stderr.wind_up()
        self.done.set()

    def lose(self, reason):
        """Its sandbox is gone."""
        if not self.done.is_set():
            self.lost = reason
            self.done.set()
        for stream in (self.stdout, self.stderr):
            stream.close(reason if self.lost else None)
        self.stdin.close()

    def forget(self):
        """Its output takes no room any more."""
        for stream in (self.stdout, self.stderr):
            stream.start = stream.end
            stream.data = bytearray()

    def describe(self):
        """For the state."""
        return {"id": self.id, "argv": self.argv, "pid": self.pid, "status": self.status,
                "stdin": self.stdin.offset, "stdout": self.stdout.end, "stderr": self.stderr.end}
