"""The output of a run: kept whole in files, and sent as far as the server wants it at once.

The server says before a run (the OUTPUT frame) where its streams are to be kept, and how many bytes
of each it wants from the beginning and from the end. Up to the first number all goes to it as it
comes. What follows is held here: written to the file, counted, and only the newest of it is in
memory, so that neither a slow stream nor a slow server holds the run up. At the end, and before the
output is cleared, the server is told how much was left out, and gets the newest. Meanwhile it sees
samples.
"""

import os
import time
from _collections import deque

from cellblock_worker import folders, frames

HELD, SAMPLE, KEPT = range(0x38, 0x3B)
STDOUT = 0x11  # and the next one
NAMES = "stdout", "stderr"
TAIL_CAP = 4 * 1024 * 1024  # bytes of a stream that are in memory, whatever is asked for
SAMPLE_SIZE = 1024
SAMPLE_PARTS = 32
SAMPLE_PAUSE = 0.05  # seconds
HEADER = frames.HEADER
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def _number(request, name, most):
    """A number of a plan, from 0 to `most`."""
    return max(0, min(int(request.get(name) or 0), most))


class Kept:
    """One stream's file: made when there is more than `after` bytes, and `cap` of them at most."""

    def __init__(self, root, path, after, cap):
        self._root = root
        self._path = path
        self._after = after
        self._cap = cap
        self._early = []
        self._waiting = 0
        self._folder = self._fd = -1
        self._over = path is None
        self.kept = 0

    def write(self, data):
        """Takes in what was printed. What cannot be written ends the keeping, never the run."""
        if self._over:
            return
        if self._fd < 0:
            self._early.append(data)
            self._waiting += len(data)
            if self._waiting <= self._after:
                return
            data = b"".join(self._early)
        try:
            if self._fd < 0:
                self._make()
            self._write(memoryview(data)[: self._cap - self.kept])
        except OSError:
            self._end()
        if self.kept >= self._cap:
            self._end()

    def _make(self):
        """Every folder on the way is opened by itself and no link is followed; nothing that is
        there is replaced."""
        self._early.clear()
        self._folder, name = folders.open_parent(self._root, self._path)
        self._fd = os.open(name, _NEW_FILE, 0o600, dir_fd=self._folder)

    def _write(self, view):
        while view:
            done = os.write(self._fd, view)
            self.kept += done
            view = view[done:]

    def _end(self):
        self._over = True
        self._early.clear()

    def give_back(self):
        """The disk limit was met, and this is ours: whether that has made room."""
        self._end()
        if self._fd < 0 or not self.kept:
            return False
        self.kept = 0
        try:
            os.ftruncate(self._fd, 0)
            os.unlink(os.path.basename(self._path), dir_fd=self._folder)
        except OSError:
            pass  # the code was there first
        return True

    def close(self):
        """Nothing more comes."""
        self._end()
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1


class Stream:
    """What is sent of one stream, and what is held."""

    def __init__(self, number, head, tail):
        self._number = number
        self._head = head  # None: all of it
        self._tail = tail
        self._parts = deque()
        self.start()

    def start(self):
        """From here on its beginning is wanted."""
        self.holding = False
        self._sent = 0
        self._size = 0  # of the parts
        self._bytes = self._lines = 0  # that are left out
        self._parts.clear()

    def take(self, data, out):
        """Sends it, or holds it; whether something is held now that was not before."""
        if self._head is None:
            out.add(HEADER.pack(len(data), STDOUT + self._number), data)
            return False
        if not self.holding:
            room = self._head - self._sent
            head, data = data[:room], data[room:]
            self._sent += len(head)
            if head:
                out.add(HEADER.pack(len(head), STDOUT + self._number), head)
            if not data:
                return False
            self.holding = True
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) >= self._tail:
            self._leave_out(self._parts.popleft())
        return True

    def _leave_out(self, data):
        self._size -= len(data)
        self._bytes += len(data)
        self._lines += data.count(b"\n")

    def newest(self):
        """The newest lines of what is held."""
        found = b""
        for n in range(1, min(len(self._parts), SAMPLE_PARTS) + 1):
            found = (self._parts[-n][-SAMPLE_SIZE:] + found)[-SAMPLE_SIZE:]
            if len(found) == SAMPLE_SIZE:
                break
        return found[found.find(b"\n", 0, -1) + 1 :]

    def flush(self, out):
        """Says how much was left out, and sends the newest."""
        if not self.holding:
            return
        newest = b"".join(self._parts)
        if self._size > self._tail:
            cut = self._size - self._tail
            self._leave_out(newest[:cut])
            newest = newest[cut:]
        if self._bytes:
            out.add(frames.frame(HELD, {"stream": NAMES[self._number], "bytes": self._bytes,
                                        "lines": self._lines}))
        if newest:
            out.add(HEADER.pack(len(newest), STDOUT + self._number), newest)
        self.start()


class Keeper:
    """Both streams of a run, by number. `request` is the OUTPUT frame's object, `root` the folder
    that its path is below."""

    def __init__(self, request, root):
        path = request.get("path")
        after, cap = _number(request, "after", 1 << 30), _number(request, "cap", 1 << 40)
        head, tail = _number(request, "head", 1 << 40), _number(request, "tail", TAIL_CAP)
        self._files = [Kept(root, path and "%s.%s" % (path, name), after, cap) for name in NAMES]
        self._streams = [Stream(number, head or None, tail) for number in (0, 1)]
        self._newest = None  # the number of the stream that was held last
        self._next = 0.0  # when a sample may be sent

    def take(self, number, data, out):
        """What was printed."""
        if self._streams[number].take(data, out):
            self._newest = number
        self._files[number].write(data)

    def holds(self, number):
        """Is nothing of it sent now? Then it is taken in however slow the server is."""
        return self._streams[number].holding

    def next_time(self):
        """When a sample is due; None: there is nothing to show."""
        return None if self._newest is None else self._next

    def show(self, out):
        """Sends a sample, when it is time for one."""
        now = time.monotonic()
        if self._newest is None or now < self._next:
            return
        text = self._streams[self._newest].newest()
        if text:
            out.add(HEADER.pack(len(text) + 1, SAMPLE), bytes((self._newest,)) + text)
        self._newest = None
        self._next = now + SAMPLE_PAUSE

    def start_again(self, out):
        """What comes from here on replaces what came before: its beginning is wanted again."""
        self._newest = None
        for stream in self._streams:
            stream.flush(out)
            stream.start()

    def give_back(self):
        """Removes what it keeps; whether there was anything."""
        return any([file.give_back() for file in self._files])

    def finish(self, out):
        """The run is over: the rest of it, and what the files have."""
        self.start_again(out)
        kept = {NAMES[n]: file.kept for n, file in enumerate(self._files) if file.kept}
        if kept:
            out.add(frames.frame(KEPT, kept))
        self.close()

    def close(self):
        """Lets go of the files."""
        for file in self._files:
            file.close()
