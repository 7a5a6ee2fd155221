"""The far end of a byte stream: a small parent that keeps the stream, and workers that run code.

It relays frames (frame.h) between the server and the worker, makes frames of what the worker
prints, takes shares in, holds the worker to its limits, says how it ended, and cleans up after
itself when the stream closes. Where it was told to outlive the stream it goes on then, and a
relay (relay.py) may bring it another one (door.py), up to a time. Its own frames are those of
frame_supervisor.h. One thread, one poll; it never runs code of the user's and never waits for
anybody but in that poll.
"""

import _signal as signal
import errno
import os
import select
import sys
import time

from cellblock_worker import cgroups, changes, family, folders, frames, session
from cellblock_worker.errands import PENDING_CAP, Errands
from cellblock_worker.keeping import Keeper
from cellblock_worker.offspring import PIPE_SIZE, Setup, Worker, add_usual_paths
from cellblock_worker.streams import keep_high
from cellblock_worker.wires import Enough, Over, Queue, object_of, read_some, split_frames

SETUP, START, INTERRUPT, KILL, PUT, PIECE, PUT_END, FILE, ATTACH, OUTPUT = range(0x20, 0x2A)
HELLO, STARTED, BEGUN, EXIT = range(0x30, 0x34)
STDOUT = 0x11  # and the next one is STDERR
FROM_WORKER = frozenset(
    (
        frames.GREETING,
        frames.DISPLAY,
        frames.CLEAR,
        frames.NOTE,
        frames.DELAYED,
        frames.BEGIN,
        frames.DONE,
    )
)
VERSION = 1
HEADER = frames.HEADER
OUT_HIGH = 1024 * 1024  # bytes waiting for the server, past which nothing more is read for it
SMALL = 4096  # bytes that may wait a moment for what follows them
MOMENT = 0.01  # seconds
START_MOMENT = 0.5  # of a worker that starts, when nobody can do anything yet with what there is
WATCH_BUSY = 0.05  # seconds
WATCH_IDLE = 1.0
WALK_BUDGET = 0.002  # of adding up files at a time
FILES_SHIFT = 13  # one file for each 8 KiB of the disk limit
CLOSED_GRACE = 0.1  # a worker that ends closes its streams a moment before
END_GRACE = 3.0  # for takers, when all is over
SYNC = b'"sync": true}'  # the end of a frame that waits for an ACK (display.py puts it there)
ACK = HEADER.pack(0, frames.ACK)
RESEED = HEADER.pack(0, frames.RESEED)


class Supervisor(Errands):
    """See above."""

    def __init__(self, stream_in, stream_out, wakeup):
        super().__init__()
        self._stream = stream_in
        self._wakeup = wakeup
        self._input = bytearray()
        self._out = Queue(stream_out)
        self._poll = select.poll()
        self._interest = {}
        self._lock = -1
        self._prepared = False
        self._worker = None
        self._to_worker = None
        self._from_worker = bytearray()
        self._busy = False
        self._plan = None  # for the output of the run that comes next
        self._keeper = None  # of the run that is going
        self._begun = 0  # by the clock of files: when the run that is going came
        self._starting = False  # the worker has not greeted yet
        self._delayed = False  # the worker gets ready: a run that comes now has to wait
        self._closed_at = None  # when the worker's end of the frames was seen to be closed
        self._oom = cgroups.OutOfMemory()
        self._next_watch = None
        self._walk = self._count = None
        self._door = None  # it outlives the stream: who comes back comes in there
        self._attic = None  # nobody is there: what is printed
        self._found = False  # the worker is to be told to who has come back
        self._greeting = None  # the worker's
        self._grace_at = None  # a run that nobody waits for any more has to have ended
        self._left = b""  # what had been printed when it came back
        self._how = {}  # the last worker ended while nobody was there
        self._handlers = {
            SETUP: self._take_setup,
            ATTACH: self._take_attach,
            START: self._take_start,
            INTERRUPT: self._take_interrupt,
            KILL: self._take_kill,
            PUT: self._take_put,
            PIECE: self._take_piece,
            PUT_END: self._take_put_end,
            FILE: self._take_file,
            OUTPUT: self._take_output,
            frames.RUN: self._take_run,
            frames.ACK: self._take_ack,
            frames.STDIN: self._take_for_worker,
            frames.SIGNAL: self._take_for_worker,
        }

    # ---- the loop ----

    def run(self):
        """Serves the stream until it ends; leaves nothing behind."""
        try:
            while True:
                try:
                    self._turn()
                except (Over, BrokenPipeError, ConnectionResetError) as error:
                    if self._door is None or isinstance(error, Enough):
                        break
                    self._be_left()
        finally:
            self._clean_up()

    def _turn(self):
        self._register()
        for fd, events in self._poll.poll(self._patience()):
            self._look_at(fd, events)
        self._watch()
        if self._attic is not None:
            self._wait_for_somebody()
        if self._keeper is not None and self._out.size < OUT_HIGH:
            self._keeper.show(self._out)
        if self._out.size and not self._may_wait():
            self._flush_at = None
            self._out.write()

    def _may_wait(self):
        """Do the few bytes that are due wait for more of the run, or the start, that is going?

        A stream may be carried by programs that leave Nagle's algorithm on (RFC 896; srun does):
        the second of two small writes then waits for the acknowledgement of the first, 40 ms.
        """
        if not (self._busy or self._starting) or self._out.size >= SMALL:
            return False
        now = time.monotonic()
        if self._flush_at is None:
            self._flush_at = now + (MOMENT if self._busy else START_MOMENT)
        return now < self._flush_at

    def _wanted(self):
        """(descriptor, events) of all that is waited for now."""
        yield self._wakeup, select.POLLIN
        room = self._out.size < OUT_HIGH
        yield self._stream, select.POLLIN
        if self._attic is not None:
            yield self._door.fd(), select.POLLIN
        if self._out.size and self._flush_at is None:
            yield self._out.fd, select.POLLOUT
        worker = self._worker
        if worker is not None:
            for number, fd in enumerate((worker.out, worker.err)):
                if room or (self._keeper is not None and self._keeper.holds(number)):
                    yield fd, select.POLLIN
            events = select.POLLIN if room else 0
            yield worker.frames, events | (select.POLLOUT if self._to_worker.size else 0)
        for number, taker in self._takers.items():
            feed = self._feeds[number]
            events = select.POLLIN if room else 0
            yield taker.fd, events | (select.POLLOUT if feed.size else 0)

    def _register(self):
        """Brings the poll object up to date."""
        before = self._interest
        now = {}
        for fd, events in self._wanted():
            if fd >= 0 and events:
                now[fd] = now.get(fd, 0) | events
        if now == before:
            return
        for fd in before:
            if fd not in now:
                try:
                    self._poll.unregister(fd)
                except KeyError:
                    continue
        for fd, events in now.items():
            if before.get(fd) != events:
                self._poll.register(fd, events)
        self._interest = now

    def _forget(self, fd):
        """Before a descriptor is closed: its number may be another's soon."""
        if self._interest.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _patience(self):
        """How long to wait, in milliseconds; None for ever."""
        times = [] if self._flush_at is None else [self._flush_at]
        if self._worker is not None:
            if self._next_watch is not None:
                times.append(self._next_watch)
            if self._closed_at is not None:
                times.append(self._closed_at + CLOSED_GRACE)
            if self._keeper is not None and self._out.size < OUT_HIGH:
                due = self._keeper.next_time()
                if due is not None:
                    times.append(due)
        if self._attic is not None:
            times.append(self._door.next_time())
            if self._grace_at is not None:
                times.append(self._grace_at)
        if not times:
            return None
        return max(0, int((min(times) - time.monotonic()) * 1000) + 1)

    def _look_at(self, fd, events):
        """Something can be done with a descriptor."""
        worker = self._worker
        if fd == self._stream:
            self._read_stream()
        elif fd == self._out.fd:
            if events & select.POLLERR:  # nobody reads any more
                raise Over("closed")
            self._out.write()
        elif fd == self._wakeup:
            self._take_signals()
        elif self._attic is not None and fd == self._door.fd():
            self._door.look()
        elif worker is not None and fd == worker.frames:
            if events & select.POLLOUT:
                self._feed_worker()
            if events & ~select.POLLOUT:
                self._read_frames()
        elif worker is not None and fd in (worker.out, worker.err):
            self._read_output(fd)
        else:
            self._look_at_takers(fd, events)

    # ---- from the server ----

    def _read_stream(self):
        data = read_some(self._stream)
        if data is None:
            return
        if not data:
            raise Over("end of stream")
        self._input += data
        for kind, frame in split_frames(self._input):
            handler = self._handlers.get(kind)
            if handler is None or (self._setup is None) != (kind in (SETUP, ATTACH)):
                raise Over("a frame of type %d" % kind)
            handler(frame)

    def _take_setup(self, frame):
        request = object_of(frame)
        setup = Setup(request)
        if setup.workspace is None:
            setup.folder, self._lock = folders.make()
        else:
            os.makedirs(setup.workspace, exist_ok=True)
        if request.get("keep"):
            from cellblock_worker.door import Door

            self._door = Door(request["keep"])
        self._setup = setup
        self._greet()
        if setup.warm or not request.get("start"):
            self._out.write()  # now: what follows takes a while
        self._prepare()
        if request.get("start"):
            self._take_start(frame)

    def _greet(self, **more):
        hello = {"cellblock": VERSION, **session.interpreter(), "folder": self._setup.folder,
                 "pid": os.getpid(), "output": True}
        self._send(HELLO, {**hello, **more})

    def _take_attach(self, frame):
        """It is not a supervisor that is wanted here, but a way to one."""
        from cellblock_worker import relay

        relay.carry(self._stream, self._out.fd, object_of(frame))
        raise Enough("carried")

    def _prepare(self):
        """Imports what workers need, once for all of them."""
        if self._prepared:
            return
        add_usual_paths()
        try:
            session.prepare(warm=self._setup.warm, late=not self._setup.warm)
        except Exception as error:  # an IPython that is broken must not be the end
            sys.stderr.write("IPython cannot be used: %r\n" % (error,))
            session.prepare(plain=True, warm=False)
        self._prepared = True

    def _take_start(self, _frame):
        if self._found and self._worker is not None:
            self._show_worker()
            return
        if self._worker is not None:
            raise Over("a start while a worker is there")
        self._greeting = None
        self._oom.begin()
        try:
            self._worker = Worker(self._setup)
        except OSError as error:
            self._send(EXIT, {"how": "failed", "text": "making its process: %s" % error.strerror})
            return
        self._to_worker = Queue(self._worker.frames)
        del self._from_worker[:]
        self._busy = False
        self._starting = True
        self._delayed = False
        self._closed_at = None
        setup = self._setup
        if setup.memory or setup.disk or setup.processes:
            self._next_watch = time.monotonic() + WATCH_IDLE
        self._send(STARTED, {"pid": self._worker.pid})

    def _take_run(self, frame):
        """What was printed before it is not the run's: it goes first, and BEGUN says so."""
        if self._worker is None:
            self._plan = None
            return
        self._drain_output()
        self._out.add(HEADER.pack(0, BEGUN))
        if self._delayed:
            self._out.add(HEADER.pack(0, frames.DELAYED))
        if not self._busy:
            self._busy = True
            self._begun = changes.now()
            if self._next_watch is not None:
                self._next_watch = time.monotonic() + WATCH_BUSY
        if self._plan is not None:
            self._finish_output()
            self._keeper, self._plan = Keeper(self._plan, self._setup.root()), None
        self._to_worker.add(frame)
        self._feed_worker()

    def _take_output(self, frame):
        """How the output of the run that comes next is to be kept."""
        self._plan = object_of(frame)

    def _take_for_worker(self, frame):
        """It is the worker's to know which run it is about."""
        if self._worker is not None:
            self._to_worker.add(frame)
            self._feed_worker()

    def _take_ack(self, _frame):
        """We have answered that ourselves."""

    def _take_interrupt(self, frame):
        """Ctrl-C for the worker's group, or the signal that is named for the worker itself."""
        if self._worker is not None:
            try:
                if len(frame) > HEADER.size:
                    os.kill(self._worker.pid, frame[HEADER.size])
                else:
                    os.killpg(self._worker.pid, signal.SIGINT)
            except OSError:
                pass

    def _take_kill(self, _frame):
        self._end_worker({"how": "signal", "signal": int(signal.SIGKILL)})

    # ---- while nobody is there ----

    def _be_left(self):
        """The stream is over and we go on. Who has gone gets no answer: a run is interrupted."""
        from cellblock_worker.door import RUN_GRACE, Attic

        for fd in {self._stream, self._out.fd}:
            if fd >= 0:
                self._forget(fd)
                os.close(fd)
        self._stream = -1
        del self._input[:]
        if self._attic is None:
            self._out = self._attic = Attic()
        self._found = False
        self._flush_at = self._grace_at = self._plan = None
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        for taker in list(self._takers.values()):
            self._close_taker(taker)
            taker.stop()
        if self._busy:
            self._grace_at = time.monotonic() + RUN_GRACE
            self._take_interrupt(b"")

    def _wait_for_somebody(self):
        """Who has come is let in when nothing is left of who was there before."""
        self._flush_at = None
        now = time.monotonic()
        if now >= self._door.until:
            raise Enough("it has lived as long as it may")
        self._door.watch()
        if not self._busy:
            self._grace_at = None
        elif self._grace_at is not None and now >= self._grace_at:
            self._end_worker({"how": "stubborn"})
        if self._door.knocks() and not self._busy and not self._takers:
            self._let_in()

    def _let_in(self):
        from cellblock_worker.door import words_of_end

        self._stream, to_server = self._door.let_in()
        left, self._attic = self._attic, None
        self._out = Queue(to_server)
        self._found = self._worker is not None
        if self._found:
            if self._door.restored:
                self._to_worker.add(RESEED)
                self._feed_worker()
            self._greet(worker=True)
            self._left = left.take()
        else:
            self._greet(worker=False, end=words_of_end(self._how))

    def _show_worker(self):
        """The worker that is there, as one that has just been started; and what it has printed."""
        self._found = False
        self._send(STARTED, {"pid": self._worker.pid})
        if self._greeting is not None:
            self._out.add(self._greeting, self._left)
        self._left = b""

    # ---- the worker ----

    def _feed_worker(self):
        if self._to_worker.size > PENDING_CAP:
            raise Over("more requests than a worker may have waiting")
        try:
            self._to_worker.write()
        except OSError:
            self._to_worker = Queue(self._worker.frames)  # it has gone, as will be told

    def _read_frames(self):
        data = read_some(self._worker.frames)
        if data is None:
            return
        if not data:
            self._forget(self._worker.frames)
            os.close(self._worker.frames)
            self._worker.frames = -1
            self._closed_at = time.monotonic()
            return
        self._from_worker += data
        try:
            found = split_frames(self._from_worker)
        except Over:
            self._end_worker({"how": "protocol"})
            return
        if found:
            self._drain_output()  # text that was printed before comes before
            self._relay(found)

    def _relay(self, found):
        """Frames of the worker, to the server; those that ask for it are acknowledged."""
        for kind, frame in found:
            if kind not in FROM_WORKER:
                self._end_worker({"how": "protocol"})
                return
            self._starting = False
            if kind == frames.GREETING:
                self._greeting = frame
            if kind in (frames.DELAYED, frames.BEGIN):
                self._delayed = kind == frames.DELAYED
                if not self._busy:
                    continue  # no run waits
            self._pass_on(kind, frame)
            if kind == frames.DONE:
                self._busy = False
            elif kind in (frames.DISPLAY, frames.CLEAR) and frame.endswith(SYNC):
                self._to_worker.add(ACK)
                self._feed_worker()

    def _pass_on(self, kind, frame):
        """One frame of the worker: what is held of the output comes before it where it counts."""
        if kind == frames.DONE:
            self._finish_output()
        elif kind == frames.CLEAR and self._keeper is not None:
            self._keeper.start_again(self._out)
        self._out.add(frame)

    def _finish_output(self):
        """The run is over: all that is still to be told of its output."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.finish(self._out)

    def _read_output(self, fd):
        """What one pipe holds, as a frame; at its end it is closed."""
        data = read_some(fd, PIPE_SIZE)
        worker = self._worker
        if data:
            number = 0 if fd == worker.out else 1
            if self._keeper is not None:
                self._keeper.take(number, data, self._out)
            else:
                self._out.add(HEADER.pack(len(data), STDOUT + number), data)
        elif data is not None:
            self._forget(fd)
            os.close(fd)
            if fd == worker.out:
                worker.out = -1
            else:
                worker.err = -1
        return bool(data)

    def _drain_output(self):
        for fd in (self._worker.out, self._worker.err):
            if fd >= 0:
                self._read_output(fd)

    def _take_signals(self):
        numbers = read_some(self._wakeup) or b""
        if any(number != signal.SIGCHLD for number in numbers):
            raise Enough("asked to end")
        self._reap()

    def _reap(self):
        """Takes in who has ended; whether anybody but takers is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                break
            if self._worker is not None and pid == self._worker.pid:
                self._worker.pid = 0
                self._end_worker(self._how_it_ended(status), usage)
            for taker in list(self._takers.values()):
                if taker.pid == pid:
                    taker.pid = 0
                    self._end_taker(taker, status)
        return bool(family.members(self._taker_pids()))

    def _how_it_ended(self, status):
        """The fields of an EXIT that a wait status means."""
        if not os.WIFSIGNALED(status):
            return {"how": "code", "code": os.WEXITSTATUS(status)}
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and self._oom.struck():
            return {"how": "memory", "limit": self._oom.limit()}
        return {"how": "signal", "signal": number}

    def _end_worker(self, how, usage=None):
        """Ends the worker if it lives, and all that it left; says how it was."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._starting = False
        self._next_watch = self._walk = None
        usage = self._end_offspring(worker, usage)
        self._last_words(worker, how)
        if usage is not None:
            how["cpu_ms"] = int((usage.ru_utime + usage.ru_stime) * 1000)
            how["peak_rss_kib"] = usage.ru_maxrss
        if how["how"] == "memory":
            peak = how.get("peak_rss_kib", 0) * 1024
            how["limit"] = how.get("limit") or peak
            how.setdefault("used", how["limit"])
        self._how = how
        changed = self._changed()
        self._busy = False
        self._send(EXIT, how if changed is None else {**how, "changed": changed})
        for fd in (worker.frames, worker.out, worker.err):
            self._forget(fd)
        worker.close()

    def _changed(self):
        """What the run has left behind that the worker was ended in: it can tell no more."""
        if not self._busy or self._attic is not None:
            return None
        return changes.newer(self._setup.home(), self._begun)

    def _end_offspring(self, worker, usage):
        """Kills until only takers are left; the worker's resource usage if it was not known."""
        known = [usage]

        def reap():
            while True:
                try:
                    pid, status, used = os.wait4(-1, os.WNOHANG)
                except ChildProcessError:
                    return False
                if pid == 0:
                    return bool(family.members(self._taker_pids())) or worker.pid > 0
                if pid == worker.pid:
                    worker.pid = 0
                    known[0] = used
                for taker in list(self._takers.values()):
                    if taker.pid == pid:
                        taker.pid = 0
                        self._end_taker(taker, status)

        family.kill_all(self._taker_pids(), group=worker.pid)
        family.end_all(reap, self._taker_pids())
        return known[0]

    def _last_words(self, worker, how):
        """What its streams still hold, before its end is told."""
        self._worker = worker
        try:
            for _ in range(256):
                if worker.frames < 0:
                    break
                data = read_some(worker.frames)
                if not data:
                    break
                self._from_worker += data
            try:
                found = split_frames(self._from_worker)
            except Over:
                found = []
            self._drain_output()
            for kind, frame in found:
                if kind in FROM_WORKER:
                    self._pass_on(kind, frame)
            for _ in range(4):
                self._drain_output()
            self._finish_output()
            self._plan = None
        finally:
            self._worker = None

    # ---- limits ----

    def _watch(self):
        """Looks at the limits when it is time."""
        if self._worker is None:
            return
        now = time.monotonic()
        if self._closed_at is not None and now >= self._closed_at + CLOSED_GRACE:
            self._end_worker({"how": "protocol"})
            return
        if self._next_watch is None or now < self._next_watch:
            return
        over = self._past_memory() or self._past_disk()
        if over and over["how"] == "disk" and self._keeper is not None and self._keeper.give_back():
            over = None  # a run is not ended for what is kept of its output: it is added up again
        if over:
            self._end_worker(over)
            return
        wait = WATCH_BUSY if self._busy else WATCH_IDLE
        if self._walk is not None:
            wait = WALK_BUDGET * 4
        self._next_watch = time.monotonic() + wait

    def _past_memory(self):
        """The fields of an EXIT when there is too much memory or too many processes."""
        setup = self._setup
        if not (setup.memory or setup.processes):
            return None
        if self._oom.struck_within(setup.memory):
            return {"how": "memory", "limit": self._oom.limit()}
        pids = family.members(self._taker_pids())
        if setup.processes and len(pids) > setup.processes:
            return {"how": "processes", "used": len(pids), "limit": setup.processes}
        if setup.memory:
            used = family.memory_of(pids, setup.memory)
            if used > setup.memory:
                return {"how": "memory", "used": used, "limit": setup.memory}
        return None

    def _past_disk(self):
        """Likewise for files, which are added up a little at a time."""
        limit = self._setup.disk
        if not limit:
            return None
        if self._walk is None:
            self._count = folders.Count()
            self._walk = folders.walk(self._setup.watched(), self._count, WALK_BUDGET)
        for _ in self._walk:
            return None  # not done
        self._walk = None
        files = (limit >> FILES_SHIFT) + 4096
        if self._count.bytes > limit:
            return {"how": "disk", "used": self._count.bytes, "limit": limit}
        if self._count.files > files:
            return {"how": "files", "used": self._count.files, "limit": files}
        return None

    # ---- the end ----

    def _clean_up(self):
        """Nothing of ours is left: no process, no folder."""
        for taker in list(self._takers.values()):
            self._close_taker(taker)
            taker.stop()
        self._worker = None
        limit = time.monotonic() + END_GRACE
        family.end_all(self._reap, self._taker_pids())
        while self._takers and time.monotonic() < limit:
            self._reap()
            time.sleep(0.005)
        family.end_all(self._reap)
        if self._door is not None:
            self._door.close()
        if self._setup is not None and self._setup.folder:
            folders.remove(self._setup.folder)


def _take_stream():
    """Moves the stream to descriptors of our own that no child ever gets, so that fds 0 and 1 are
    free, and opens the pipe that signals come by."""
    kept = []
    for fd in (0, 1):
        high = keep_high(fd)
        if high < 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.set_blocking(high, False)
        kept.append(high)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return kept


def _open_signals():
    """A pipe on which the numbers of signals come."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return read


def main():
    """The life of the far side."""
    stream_in, stream_out = _take_stream()
    family.set_dumpable(False)
    family.adopt_orphans()
    wakeup = _open_signals()
    try:
        Supervisor(stream_in, stream_out, wakeup).run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(0)
