"""The stdin of code that stays open: while the run goes on, a thread of ours reads the frames that
arrive and gives what is for the run to a pipe that fd 0 reads, for this process and its children.

Nobody else reads the frames meanwhile: who waits for an ACK is told by the channel. The thread
takes no signals, so that whatever blocks the code is interrupted and not this. All descriptors of
ours are high ones, and none is inherited; we also keep the pipe's other end, since a pipe that
nobody reads any more would end us.
"""

import _signal as signal
import os
import select
from _collections import deque
from _thread import allocate_lock, stack_size, start_new_thread

from cellblock_worker import frames, interrupts
from cellblock_worker.streams import keep_high

_STACK = 256 * 1024
_PIECE = 64 * 1024
_LOOK_MS = 1000  # and the thread sees that the code has closed its descriptors
_MASK = (interrupts.SIGINT,) + interrupts.PARKED


def _high_pipe():
    """Both ends of a pipe, where code that closes low descriptors does not find them."""
    low = os.pipe()
    high = tuple(keep_high(fd) for fd in low)
    for fd in low:
        os.close(fd)
    return high


class Inflow:
    """What is still to be written to the stdin of one run."""

    def __init__(self, channel, request):
        self._channel = channel
        self._run = str(request.get("run") or "").encode("ascii", "replace")
        self._parts = deque()
        self._whole = False  # nothing more will come
        self._add((request.get("stdin") or "").encode("utf-8", "surrogateescape"))
        self.reader, self._writer = _high_pipe()
        self._wakes, self._wake = _high_pipe()
        os.set_blocking(self._writer, False)
        self._ended = allocate_lock()
        self._ended.acquire()
        channel.lend()
        try:
            self._start()
        except BaseException:
            channel.take_back()
            self._close()
            raise

    def _start(self):
        """RuntimeError where no thread may be had."""
        before = stack_size(_STACK)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _MASK)
        try:
            start_new_thread(self._serve, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            stack_size(before)

    def stop(self):
        """The run is over: what has not been read is dropped."""
        try:
            os.write(self._wake, b"x")
        except OSError:
            pass  # closed by the code: the thread has seen that too
        self._ended.acquire()
        self._close()

    def _close(self):
        """Whoever still reads it sees its end."""
        self._end_it()
        for fd in (self.reader, self._wakes, self._wake):
            try:
                os.close(fd)
            except OSError:
                pass

    def close_in_child(self):
        """After a fork by the code: the thread is not there, and the pipe's end is not held up."""
        self._close()

    # ---- in the thread

    def _serve(self):
        try:
            self._take(self._channel.at_hand())
            while self._attend():
                pass
        except (frames.Closed, OSError, ValueError):
            pass  # the run's end sees it too
        finally:
            self._end_it()
            self._channel.take_back()
            self._ended.release()

    def _attend(self):
        """Waits for something to do and does it; False when it is over."""
        self._write()
        frames_fd = self._channel.fileno()
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        poll.register(frames_fd, select.POLLIN)
        if self._parts:
            poll.register(self._writer, select.POLLOUT)
        found = [fd for fd, _events in poll.poll(_LOOK_MS)]
        if self._wakes in found:
            return False
        if frames_fd in found:
            self._take(self._channel.arriving())
        return True

    def _take(self, arrived):
        """Frames that are no runs."""
        for kind, data in arrived:
            if kind == frames.ACK:
                self._channel.acknowledged()
            elif kind == frames.STDIN and len(data) > 1:
                end = 2 + data[1]
                if data[2:end] == self._run and not self._whole:
                    self._add(data[end:])
                    self._whole = bool(data[0])

    def _add(self, data):
        if data:
            self._parts.append(memoryview(data))

    def _write(self):
        """Writes what can be written, and closes it when that was all."""
        while self._parts and self._writer >= 0:
            try:
                done = os.write(self._writer, self._parts[0][:_PIECE])
            except BlockingIOError:
                return
            self._parts[0] = self._parts[0][done:]
            if not self._parts[0]:
                self._parts.popleft()
        if self._whole:
            self._end_it()

    def _end_it(self):
        """Its end, for whoever reads."""
        self._parts.clear()
        fd, self._writer = self._writer, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass
