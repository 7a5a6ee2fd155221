"""How a session that outlives its stream is found again: a socket that a relay comes in by.

The socket is in a folder of its own that only this user may enter, which the code is as well: who
connects has to be of this user (SO_PEERCRED) and to know the secret, of which we have the proof
only, so that no code that was forked from us can read it. One that has neither is let go of.
"""

import os
import socket
import struct
import time

from cellblock_worker import frames
from cellblock_worker.streams import keep_high
from cellblock_worker.wires import HEADER, Over, object_of, read_some, split_frames

ATTACH = 0x28
STDOUT, STDERR = 0x11, 0x12
NAME = "relay"
WORD_CAP = 4096  # bytes of what a relay says of itself
WORD_LIMIT = 5.0  # seconds that it has for that
LEFT_CAP = 64 * 1024  # bytes of output that are kept while nobody is there
RUN_GRACE = 10.0  # seconds that a run has when it was interrupted since nobody is there any more
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def peer_of(connection):
    """(pid, uid) of who is at the other end of a Unix socket."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return CREDENTIALS.unpack(data)[:2]


def proof_of(secret):
    """What shows that a secret is the right one."""
    import hmac

    return hmac.new(bytes.fromhex(secret), b"proof", "sha256").hexdigest()


class Attic:
    """In place of the queue to the server while there is none: the end of what is printed."""

    fd = -1
    size = 0

    def __init__(self):
        self._left = bytearray()  # frames
        self._dropped = 0

    def add(self, *parts):
        """Keeps output, as far as there is room for it; all else was for who has gone."""
        data = b"".join(parts)
        if not data or data[4] not in (STDOUT, STDERR):
            return
        if len(data) > LEFT_CAP:
            self._dropped += len(data) - LEFT_CAP
            data = HEADER.pack(LEFT_CAP - HEADER.size, data[4]) + data[HEADER.size - LEFT_CAP :]
        self._left += data
        while len(self._left) > LEFT_CAP:
            size = HEADER.unpack_from(self._left)[0]
            self._dropped += size
            del self._left[: HEADER.size + size]

    def write(self):
        """There is nobody to write to."""

    def take(self):
        """What was kept, as frames."""
        left, self._left = bytes(self._left), bytearray()
        if self._dropped:
            text = b"[%d bytes that were printed before this are left out]\n" % self._dropped
            left = HEADER.pack(len(text), STDERR) + text + left
        self._dropped = 0
        return left


class Door:
    """The socket, and who is in front of it; `wanted` is {"folder", "proof", "seconds"}."""

    def __init__(self, wanted):
        self.until = time.monotonic() + float(wanted["seconds"])
        self._proof = str(wanted["proof"])
        self._caller = None
        self._limit = None  # of the caller's word
        self._heard = bytearray()
        self._known = False
        self.restored = False  # who waits has found us in a copy of our memory
        self._folder = str(wanted["folder"])
        os.mkdir(self._folder, 0o700)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(os.path.join(self._folder, NAME))
        self._listener.listen(4)

    def fd(self):
        """What is to be read while nobody is there; -1: somebody waits to be let in."""
        if self._known:
            return -1
        return (self._caller or self._listener).fileno()

    def next_time(self):
        """When something has to be done at the latest."""
        return self.until if self._limit is None else min(self.until, self._limit)

    def look(self):
        """Something can be read."""
        if self._caller is None:
            self._accept()
        else:
            self._hear()

    def watch(self):
        """Lets go of who says nothing."""
        if self._limit is not None and time.monotonic() >= self._limit:
            self._refuse()

    def _accept(self):
        try:
            caller = self._listener.accept()[0]
        except OSError:
            return
        if peer_of(caller)[1] != os.getuid():
            caller.close()
            return
        caller.setblocking(False)
        self._caller = caller
        self._limit = time.monotonic() + WORD_LIMIT
        del self._heard[:]

    def _hear(self):
        data = read_some(self._caller.fileno(), WORD_CAP)
        if data is None:
            return
        self._heard += data
        try:
            found = split_frames(self._heard)
            if found:
                self._known = self._is_good(found)
            if not data or (found and not self._known) or len(self._heard) > WORD_CAP:
                raise Over("no relay of ours")
        except (Over, ValueError):
            self._refuse()
            return
        if self._known:
            self._limit = None

    def _is_good(self, found):
        """Is it the one frame that it has to be, with the secret?"""
        import hmac

        if len(found) > 1 or found[0][0] != ATTACH:
            return False
        said = object_of(found[0][1])
        self.restored = bool(said.get("restored"))
        return hmac.compare_digest(proof_of(str(said.get("secret"))), self._proof)

    def _refuse(self):
        self._known = False
        self._limit = None
        self._caller.close()
        self._caller = None

    def knocks(self):
        """Is one of ours waiting?"""
        return self._known

    def let_in(self):
        """The two descriptors of who waits: to read from, to write to."""
        read = keep_high(self._caller.fileno())
        write = keep_high(self._caller.fileno())
        self._refuse()
        return read, write

    def close(self):
        """Nobody is found here any more."""
        self._listener.close()
        if self._caller is not None:
            self._refuse()
        for remove, path in ((os.unlink, os.path.join(self._folder, NAME)),
                             (os.rmdir, self._folder)):
            try:
                remove(path)
            except OSError:
                continue


def words_of_end(how):
    """How a worker ended while nobody was there, for people."""
    kind = how.get("how")
    if kind == "code":
        return "it ended with exit code %d" % how["code"]
    if kind == "signal":
        return "it was ended by signal %d" % how["signal"]
    if kind == "stubborn":
        return "the run that was going did not end when it was interrupted"
    if kind in ("memory", "disk", "files", "processes"):
        return "it was past its limit (%s)" % kind
    return "it broke off"


def word(secret, restored=False):
    """What a relay says."""
    return frames.frame(ATTACH, {"secret": secret, "restored": restored})
