"""Shares that are taken in and requests about files: a process for each, fed and listened to."""

import select

from cellblock_worker import frames
from cellblock_worker.offspring import FILE_DONE, NUMBER, PUT_DONE, Filer, Taker
from cellblock_worker.wires import HEADER, Over, Queue, object_of, read_some

TAKEN = 0x34
PENDING_CAP = 2 * frames.PAYLOAD_CAP


class Errands:
    """What the supervisor has them done by: the processes and what waits for each of them."""

    def __init__(self):
        self._setup = None
        self._out = None  # to the server
        self._flush_at = None  # when what waits goes, at the latest
        self._takers = {}
        self._feeds = {}

    def _send(self, kind, payload):
        """A frame of ours to the server."""
        self._out.add(frames.frame(kind, payload))

    def _forget(self, fd):
        """Before a descriptor is closed: its number may be another's soon."""
        raise NotImplementedError

    def _taker_pids(self):
        return [taker.pid for taker in self._takers.values() if taker.pid]

    def _take_put(self, frame):
        request = object_of(frame)
        number = int(request.get("id") or 0)
        if number in self._takers:
            raise Over("a put of a number that is taken")
        try:
            taker = Taker(
                number, self._setup.root(), str(request["dest"]), int(request.get("limit") or 0)
            )
        except OSError as error:
            problem = {"kind": "internal", "text": "making a process for it: %s" % error.strerror}
            self._send(PUT_DONE, {"id": number, "error": problem})
            return
        self._takers[number] = taker
        self._feeds[number] = Queue(taker.fd)

    def _take_file(self, frame):
        """One operation on files: its process is fed and watched as one that takes a share in."""
        request = object_of(frame)
        number = int(request.get("id") or 0)
        if number in self._takers:
            raise Over("a request of a number that is taken")
        try:
            filer = Filer(number, self._setup, request)
        except OSError as error:
            problem = {"kind": "internal", "text": "making a process for it: %s" % error.strerror}
            self._send(FILE_DONE, {"id": number, "more": False, "error": problem})
            return
        self._takers[number] = filer
        self._feeds[number] = Queue(filer.fd)

    def _take_piece(self, frame):
        (number,) = NUMBER.unpack_from(frame, HEADER.size)
        taker = self._takers.get(number)
        if taker is None or taker.fd < 0 or taker.over:
            return  # it has failed already
        data = memoryview(frame)[HEADER.size + NUMBER.size :]
        if not data:
            return
        feed = self._feeds[number]
        if feed.size > PENDING_CAP:
            raise Over("more of a share than was asked for")
        feed.add(*taker.feed(data))
        self._feed_taker(taker)

    def _take_put_end(self, frame):
        request = object_of(frame)
        taker = self._takers.get(request.get("id"))
        if taker is None or taker.fd < 0:
            return
        if request.get("whole"):
            self._feeds[taker.number].add(NUMBER.pack(0))
            self._feed_taker(taker)
        else:
            self._close_taker(taker)

    def _feed_taker(self, taker):
        if taker.over:
            self._feeds[taker.number] = Queue(taker.fd)
            return
        feed = self._feeds[taker.number]
        before = feed.size
        try:
            feed.write()
        except OSError:
            self._feeds[taker.number] = Queue(taker.fd)  # it has ended, as will be told
            return
        if feed.size < before:
            self._send(TAKEN, {"id": taker.number, "bytes": max(0, taker.fed - feed.size)})

    def _close_taker(self, taker):
        if taker.fd >= 0:
            self._forget(taker.fd)
        taker.close()
        self._feeds[taker.number] = Queue(-1)

    def _look_at_takers(self, fd, events):
        for taker in list(self._takers.values()):
            if taker.fd != fd:
                continue
            if events & select.POLLOUT:
                self._feed_taker(taker)
            if events & ~select.POLLOUT:
                data = read_some(fd)
                if data:
                    self._listen_to(taker, data)
                elif data is not None:
                    self._close_taker(taker)

    def _listen_to(self, taker, data):
        """What a child says goes to the server at once, where it is for that."""
        found = taker.take(data)
        if found:
            self._out.add(*found)
            self._flush_at = 0.0

    def _end_taker(self, taker, status):
        """Its process has ended."""
        while taker.fd >= 0:
            data = read_some(taker.fd)
            if not data:
                break
            self._listen_to(taker, data)
        self._close_taker(taker)
        del self._takers[taker.number], self._feeds[taker.number]
        self._out.add(taker.last(status))
