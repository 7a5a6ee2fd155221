"""The frame protocol of frame.h: u32 length, u8 type, payload."""

import codecs
import math
import os
import select
import struct
from _collections import deque
from _thread import RLock, allocate_lock

from cellblock_worker import interrupts, jsons, seeds

RUN = 0x01
ACK = 0x02
STDIN = 0x03
SIGNAL = 0x04
RESEED = 0x05
GREETING = 0x10
DISPLAY = 0x13
CLEAR = 0x14
NOTE = 0x15
DELAYED = 0x16
BEGIN = 0x17
DONE = 0x1F

HEADER = struct.Struct("<IB")
PAYLOAD_CAP = 32 * 1024 * 1024
READ_SIZE = 256 * 1024

_encode, decode = jsons.encode, jsons.decode
_os_read = os.read
_os_write = os.write
_close = os.close
_MAX_INT = 2**63
_MAX_DEPTH = 64


def _escape_surrogates(error):
    """Codec error handler: a lone surrogate becomes its visible escape inside a JSON string."""
    bad = error.object[error.start : error.end]
    return "".join("\\\\u%04x" % ord(c) for c in bad), error.end


codecs.register_error("cellblock_json", _escape_surrogates)


class Closed(Exception):
    """The server's end of the socket is gone, or it does not speak the protocol."""


def safe_text(value):
    """`value` as a str that any JSON reader takes (NUL is what strict ones refuse)."""
    if type(value) is not str:
        value = str.__str__(value) if isinstance(value, str) else str(value)
    return value.replace("\0", "\\x00") if "\0" in value else value


def jsonable(value, depth=0):
    """A copy of `value` made of what strict JSON readers take; the rest becomes its repr."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, int):
        return int(value) if -_MAX_INT <= value < _MAX_INT else repr(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth < _MAX_DEPTH:
        if isinstance(value, dict):
            return {safe_text(k): jsonable(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [jsonable(item, depth + 1) for item in value]
    return safe_text(repr(value))


def encode(payload):
    """The JSON bytes of one frame's payload (an object of plain values)."""
    return _encode(payload).encode("utf-8", "cellblock_json")


def frame(kind, payload):
    """A whole frame: header and the payload as JSON."""
    data = encode(payload)
    return HEADER.pack(len(data), kind) + data


class Channel:
    """The worker's end of the socket. Whole frames only, from any thread."""

    def __init__(self, fd):
        self._fd = fd
        self._input = bytearray()
        self._requests = deque()
        self._lock = RLock()
        self._writing = False
        self._late = deque()
        self._acks = None  # a lock that another thread releases, which reads meanwhile

    def swap(self, fd):
        """Speaks on `fd` from now on; returns the descriptor of before."""
        fd, self._fd = self._fd, fd
        return fd

    def close_in_child(self):
        """After a fork made by the user's code: this process has no part in the protocol."""
        fd, self._fd = self._fd, -1
        self._lock = RLock()
        self._acks = None
        self._writing = False
        try:
            _close(fd)
        except OSError:
            pass

    def lend(self):
        """From here on another thread reads, by at_hand and arriving, until it has called
        take_back."""
        self._acks = allocate_lock()
        self._acks.acquire()

    def acknowledged(self):
        """It has read an ACK."""
        if self._acks.locked():
            self._acks.release()

    def take_back(self):
        """It reads no more; who waits for an ACK reads on."""
        acks, self._acks = self._acks, None
        if acks.locked():
            acks.release()

    def send(self, kind, payload, wait=False):
        """Sends one frame; with `wait` returns when the server has acknowledged it.

        A signal handler of the user that displays something while a frame is under way only
        queues its frame.
        """
        data = payload if type(payload) is bytes else encode(payload)
        if len(data) > PAYLOAD_CAP:
            raise ValueError("a frame of %d bytes is over the limit" % len(data))
        with interrupts.shielded(), self._lock:
            if self._writing:
                self._late.append((kind, data))
                return
            self._writing = True
            try:
                self._write(kind, data)
                if wait:
                    self._wait_ack()
                while self._late:
                    self._write(*self._late.popleft())
            finally:
                self._writing = False

    def _write(self, kind, data):
        """Writes header and payload, however many calls it takes."""
        rest = HEADER.pack(len(data), kind) + data
        try:
            done = _os_write(self._fd, rest)
            if done < len(rest):
                rest = memoryview(rest)
                while done < len(rest):
                    done += _os_write(self._fd, rest[done:])
        except OSError as error:
            raise Closed(str(error)) from None

    def _wait_ack(self):
        """Reads up to the next ACK; requests that arrive before it are kept for later."""
        acks = self._acks
        if acks is not None:
            acks.acquire()
            if self._acks is acks:
                return
        while True:
            kind, data = self._read()
            if kind == ACK:
                return
            self._keep(kind, data)

    def _keep(self, kind, data):
        """Puts a RUN frame into the queue; others mean nothing while no command is going."""
        if kind == RESEED:
            seeds.renew()
        if kind == RUN:
            request = decode(str(data, "utf-8"))
            if not isinstance(request, dict):
                raise Closed("a request that is no object")
            self._requests.append(request)

    def _whole(self):
        """The frame at the front of the input as (type, payload), None when it isn't all there."""
        buffer = self._input
        if len(buffer) < HEADER.size:
            return None
        size, kind = HEADER.unpack_from(buffer)
        if size > PAYLOAD_CAP:
            raise Closed("a frame of %d bytes is over the limit" % size)
        end = HEADER.size + size
        if len(buffer) < end:
            return None
        data = bytes(memoryview(buffer)[HEADER.size : end])
        del buffer[:end]
        return kind, data

    def _read(self):
        """The next whole frame as (type, payload)."""
        found = self._whole()
        while found is None:
            self._fill()
            found = self._whole()
        return found

    def fileno(self):
        """For a poll: what `arriving` reads."""
        return self._fd

    def at_hand(self):
        """The frames that have been read and are no requests, which are kept."""
        found = []
        if self._input:
            with interrupts.shielded():  # half a frame taken would be the end of the stream
                whole = self._whole()
                while whole is not None:
                    self._keep(*whole)
                    if whole[0] != RUN:
                        found.append(whole)
                    whole = self._whole()
        return found

    def arriving(self):
        """The same after one read."""
        with interrupts.shielded():
            self._fill()
        return self.at_hand()

    def _fill(self):
        """Appends what one read gives to the input."""
        try:
            data = _os_read(self._fd, READ_SIZE)
        except OSError as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("end of stream")
        self._input += data

    def waits(self, seconds):
        """Whether something has come, or comes within that time."""
        if self._requests or self._input:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            return bool(poll.poll(seconds * 1000))
        except OSError:
            return True

    def next_request(self):
        """The next RUN as a dict; raises Closed when there are no more."""
        while not self._requests:
            try:
                self._keep(*self._read())
            except ValueError as error:
                raise Closed("a request that cannot be read: %s" % error) from None
        return self._requests.popleft()
