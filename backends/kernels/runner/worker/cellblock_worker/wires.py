"""Byte streams that do not block: what waits to be written, what can be read, whole frames."""

import os
from _collections import deque

from cellblock_worker import frames

HEADER = frames.HEADER
READ_SIZE = 256 * 1024
WRITE_PARTS = 64


class Over(Exception):
    """The stream has ended, or what came on it is no protocol of ours."""


class Enough(Over):
    """All is to end, whoever may come back."""


class Queue:
    """Bytes on their way to a descriptor that does not block."""

    def __init__(self, fd):
        self.fd = fd
        self.size = 0
        self._parts = deque()

    def add(self, *parts):
        """Appends; nothing is written yet."""
        for part in parts:
            if part:
                self._parts.append(part)
                self.size += len(part)

    def write(self):
        """Writes what can be written. Raises OSError when nobody reads any more."""
        parts = self._parts
        while parts:
            some = [parts[n] for n in range(min(len(parts), WRITE_PARTS))]
            try:
                done = write_some(self.fd, some)
            except BlockingIOError:
                return
            self.size -= done
            while done > 0 and done >= len(parts[0]):
                done -= len(parts.popleft())
            if done > 0:
                parts[0] = memoryview(parts[0])[done:]


def write_some(fd, parts):
    """One write of all parts: how many bytes were taken. PyPy 3.9 has no writev."""
    if hasattr(os, "writev"):
        return os.writev(fd, parts)
    return os.write(fd, b"".join(parts))


def read_some(fd, size=READ_SIZE):
    """What can be read at once: bytes, b"" at the end, None when there is nothing now."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def split_frames(buffer):
    """The whole frames at the front of `buffer`, taken off it, as (type, header and payload)."""
    start = 0
    found = []
    while len(buffer) - start >= HEADER.size:
        size, kind = HEADER.unpack_from(buffer, start)
        if size > frames.PAYLOAD_CAP:
            raise Over("a frame of %d bytes" % size)
        end = start + HEADER.size + size
        if len(buffer) < end:
            break
        found.append((kind, bytes(memoryview(buffer)[start:end])))
        start = end
    if start:
        del buffer[:start]
    return found


def object_of(frame):
    """The JSON object of a frame."""
    try:
        value = frames.decode(str(memoryview(frame)[HEADER.size :], "utf-8") or "{}")
    except ValueError:
        raise Over("a frame that is not JSON") from None
    if not isinstance(value, dict):
        raise Over("a frame that is no object")
    return value
