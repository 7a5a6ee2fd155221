"""Takes what is written to fds 1 and 2, by this process and its children, and sends it on."""

import codecs
import collections
import glob
import os
import select
import threading
import time
from fcntl import fcntl

PIPE_SIZE = 1024 * 1024
PIECE = 1024 * 1024
PAUSE = 0.01  # between two pieces: many small ones would drown the server
F_SETPIPE_SZ = 1031
NAMES = ("stdout", "stderr")
KEPT = 4 * 1024 * 1024  # characters of messages; and 256 for each, whatever it is
KEPT_EACH = 256
ASKED = 1024 * 1024  # of them in one answer
SENDERS = "ZMQbg/IO"  # the name of ZeroMQ's threads that write to sockets
SENDERS_LIMIT = 0.2
SENDERS_PAUSE = 0.0005


class Mailbox:
    """Frames for the command that is going, from the control channel's thread to the one that
    waits for the command. What is there when it begins is for it, too."""

    def __init__(self):
        self._arrived = []
        self._lock = threading.Lock()
        self._bell = ()

    def arrives(self, kind, data):
        """One frame."""
        with self._lock:
            self._arrived.append((kind, data))
            try:
                if self._bell:
                    os.write(self._bell[1], b"x")
            except OSError:
                pass  # it rings already

    def fileno(self):
        """For the poll of a command: what can be read when something has come. Made once, where
        code that closes descriptors does not find it."""
        from cellblock_worker.streams import keep_high

        with self._lock:
            if not self._bell:
                ends = os.pipe()
                self._bell = tuple(keep_high(fd) for fd in ends)
                for fd in ends:
                    os.close(fd)
                for fd in self._bell:
                    os.set_blocking(fd, False)
            return self._bell[0]

    def at_hand(self):
        """What has come."""
        with self._lock:
            found, self._arrived = self._arrived, []
        return found

    def arriving(self):
        """The same when the bell has rung."""
        try:
            os.read(self._bell[0], 65536)
        except OSError:
            pass
        return self.at_hand()


class Kept:
    """The newest messages of a run, numbered from 1: what is published between the end of a
    connection and the moment in which the server notices goes nowhere, and is asked for."""

    def __init__(self):
        self.last = self._size = 0
        self._messages = collections.deque()

    def forget(self):
        """Another run begins."""
        self.last = self._size = 0
        self._messages.clear()

    def add(self, kind, content, size):
        """The next message, which gets its number; the oldest go when it is too much."""
        self.last += 1
        content["cellblock"] = self.last
        self._messages.append((kind, content, size + KEPT_EACH))
        self._size += size + KEPT_EACH
        while self._size > KEPT:
            self._size -= self._messages.popleft()[2]

    def since(self, number):
        """Messages from this one on, or from the oldest that is there; as many as one answer
        takes."""
        first = self.last - len(self._messages) + 1
        found, size = [], 0
        for kind, content, weight in list(self._messages)[max(number - first, 0) :]:
            if found and size + weight > ASKED:
                break
            found.append([kind, content])
            size += weight
        return found


class Pump:
    """Two pipes, and a thread that reads them.

    `send(name, text)` is called in the order of arrival of each stream. settle() returns when all
    that was written before has been sent, so that text and figures keep their order.
    """

    def __init__(self, send):
        self.send = send
        self.sent = [0, 0]
        self.pieces = 0
        self._lock = threading.Lock()
        self._readers = []
        self._decoders = []
        self._pid = os.getpid()

    def start(self):
        """The pipes become fds 1 and 2."""
        for fd in (1, 2):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            try:
                fcntl(writer, F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:
                pass
            os.dup2(writer, fd)
            os.close(writer)
            self._readers.append(reader)
            self._decoders.append(codecs.getincrementaldecoder("utf-8")("replace"))
        threading.Thread(target=self._work, name="cellblock-output", daemon=True).start()

    def _work(self):
        poll = select.poll()
        for reader in self._readers:
            poll.register(reader, select.POLLIN)
        while True:
            try:
                ready = poll.poll()
                with self._lock:
                    for number, reader in enumerate(self._readers):
                        if any(fd == reader for fd, _event in ready):
                            self._take(number)
                if any(event & (select.POLLERR | select.POLLNVAL) for _fd, event in ready):
                    return
                time.sleep(PAUSE)
            except Exception:
                return

    def _take(self, number, last=False):
        """Sends one piece of a stream; True when there was one."""
        try:
            data = os.read(self._readers[number], PIECE)
        except OSError:
            data = b""
        text = self._decoders[number].decode(data, last)
        if text:
            self.pieces += 1
            self.sent[number] += len(text) if text.isascii() else len(text.encode())
            self.send(NAMES[number], text)
        return bool(data)

    def settle(self, last=False):
        """Sends all that has been written; with `last` half a character too. True if there was."""
        found = False
        if os.getpid() != self._pid:
            return found
        with self._lock:
            for number in range(len(self._readers)):
                for _ in range(64):
                    if not self._take(number):
                        break
                    found = True
                if last:
                    self._take(number, True)
        return found


def find_senders():
    """The files that tell the state of each of ZeroMQ's sending threads; none where nobody can."""
    found = []
    for folder in glob.glob("/proc/self/task/*"):
        try:
            with open(f"{folder}/comm", encoding="utf-8") as file:
                if file.read().startswith(SENDERS):
                    found.append(f"{folder}/stat")
        except OSError:
            continue  # it has ended meanwhile
    return found


def wait_for_senders(senders):
    """Returns when they sleep: what they were given before is with the system then, and outlives
    this process. On a busy machine they may have to wait for their turn."""
    deadline = time.monotonic() + SENDERS_LIMIT
    while not all(map(_sleeps, senders)) and time.monotonic() < deadline:
        time.sleep(SENDERS_PAUSE)


def _sleeps(path):
    """Does this thread wait for something to do?"""
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"S"
    except OSError:
        return True  # it is gone
