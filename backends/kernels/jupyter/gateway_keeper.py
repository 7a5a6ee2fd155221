"""The first process of a container with the jupyter kernel: keeps the gateway, carries its bytes.

The Kernel Gateway listens on the loopback of the container's own network namespace, where nobody
outside can reach it. What connects to it from outside comes as frames on our stdin and goes back
on our stdout, any number of connections over the one stream:

    u32 length (little-endian, of the payload), u8 type, u32 connection, payload

    to us     CONFIG  JSON {"argv": [...], "env": {...}, "port": 8888, "data": bytes that a
                      process may have}: once, first. With "disk": bytes that all files of the
                      workspace may have, and "processes": how many there may be, where nobody
                      else holds them to that: past it we end everything, with a status of our
                      own and words. With "keep": seconds, the end of stdin is
                      not ours, and the gateway waits so long for another keeper; without "argv",
                      we are that one: the gateway listens already, and we only carry bytes.
                      "first": the first process is a keeper
              OPEN    a connection is made
              DATA    bytes for it
              END     no more bytes come for it
              CLOSE   it is to be closed; nothing more is sent about it
              WINDOW  u32: so many bytes more may be sent of it
              KILL    every process but the gateway and us is ended
    from us   READY   the gateway listens
              GONE    it does not, though it did when it was left
              DATA, END, CLOSE, WINDOW likewise

Of each connection at most WINDOW bytes are on their way in each direction, so a slow reader holds
up nobody but its own writer. When stdin ends, the server is gone: we end, and as the first process
of the container take everything in it along, unless we were told to keep it. When the gateway ends,
so do we: its last words are on our stderr, which it shares.

Python 3.8, standard library only. One thread.
"""

import ctypes
import errno
import json
import os
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time

CONFIG, OPEN, DATA, END, CLOSE, WINDOW_MORE, READY, KILL, GONE = range(1, 10)
HEAD = struct.Struct("<IBI")
WINDOW = 1 << 20
GRANT = 1 << 17  # bytes taken before it is told
PIECE = 1 << 16
QUEUE = 4 << 20  # of frames that wait for stdout: past it nothing is read from the gateway
READY_POLL = 0.02
KILL_ROUNDS = 50
WORKSPACE = "/workspace"
DISK_STATUS, PROCESSES_STATUS = 97, 98  # as in gateway.h
WATCH = 0.5  # seconds between two looks at the limits
WALK_BUDGET = 0.01  # seconds of adding files up, before others have their turn
QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Connection:
    """One connection to the gateway."""

    def __init__(self, keeper, number):
        self.keeper = keeper
        self.number = number
        self.out = bytearray()  # for the gateway
        self.ending = False  # when `out` is empty, our direction is shut
        self.shut = False
        self.far_ended = False  # the gateway sends no more
        self.window = WINDOW  # that we may send
        self.taken = 0  # bytes written to the gateway and not yet told
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connecting = True
        self.events = 0
        code = self.socket.connect_ex(("127.0.0.1", keeper.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def wanted(self):
        """What its socket is to be watched for."""
        events = 0
        if self.connecting or self.out:
            events |= selectors.EVENT_WRITE
        if not (self.connecting or self.far_ended) and self.window and not self.keeper.full():
            events |= selectors.EVENT_READ
        return events

    def on_event(self, mask):
        """Its socket is ready for something."""
        if mask & selectors.EVENT_WRITE:
            self.write()
        if mask & selectors.EVENT_READ and self.number in self.keeper.connections:
            self.read()

    def write(self):
        """Sends what waits for the gateway."""
        if self.connecting:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            self.connecting = False
        while self.out:
            try:
                done = self.socket.send(memoryview(self.out)[:PIECE])
            except BlockingIOError:
                break
            del self.out[:done]
            self.taken += done
        if self.taken >= GRANT or (self.taken and not self.out):
            self.keeper.send(WINDOW_MORE, self.number, struct.pack("<I", self.taken))
            self.taken = 0
        if self.ending and not self.out and not self.shut:
            self.shut = True
            self.socket.shutdown(socket.SHUT_WR)
            self.finish()

    def read(self):
        """Passes on what the gateway sent."""
        if QUICKACK is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        try:
            data = self.socket.recv(min(PIECE, self.window))
        except BlockingIOError:
            return
        if data:
            self.window -= len(data)
            self.keeper.send(DATA, self.number, data)
        else:
            self.far_ended = True
            self.keeper.send(END, self.number)
            self.finish()

    def finish(self):
        """Both directions have ended, and both sides know."""
        if self.shut and self.far_ended:
            self.keeper.drop(self, told=True)


class Keeper:
    """The loop."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.connections = {}
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.port = 0
        self.gateway = None
        self.first = False  # the first process is a keeper
        self.keep = 0  # seconds to go on without stdin
        self.until = None  # stdin has ended: then we end as well
        self.ready = False
        self.stdout_watched = False
        self.limits = None
        self.next_look = 0.0

    def full(self):
        """Does more wait for stdout than is good?"""
        return len(self.outbox) > QUEUE

    # ---- frames ----

    def send(self, kind, number=0, payload=b""):
        """Queues a frame; what the pipe takes goes at once."""
        if self.until is not None:
            return  # nobody reads it
        self.outbox += HEAD.pack(len(payload), kind, number)
        self.outbox += payload
        self.flush()

    def flush(self):
        """Writes what waits for stdout."""
        while self.outbox:
            try:
                done = os.write(1, memoryview(self.outbox)[:PIECE])
            except BlockingIOError:
                break
            except OSError:
                self.left()
                return
            del self.outbox[:done]
        self.watch_stdout(bool(self.outbox))

    def watch_stdout(self, wanted):
        """stdout is looked at only while something waits for it."""
        if wanted and not self.stdout_watched:
            self.selector.register(1, selectors.EVENT_WRITE)
        elif self.stdout_watched and not wanted:
            self.selector.unregister(1)
        self.stdout_watched = wanted

    def take_input(self):
        """Frames from the server; its end is ours."""
        try:
            data = os.read(0, PIECE)
        except BlockingIOError:
            return
        if not data:
            self.left()
            return
        self.inbox += data
        at = 0
        while len(self.inbox) - at >= HEAD.size:
            size, kind, number = HEAD.unpack_from(self.inbox, at)
            if len(self.inbox) - at - HEAD.size < size:
                break
            at += HEAD.size
            self.take(kind, number, bytes(memoryview(self.inbox)[at : at + size]))
            at += size
        del self.inbox[:at]

    def left(self):
        """The server is gone; it may come back, by another keeper."""
        if not self.keep:
            leave(0)
        if self.until is not None:
            return
        self.until = time.monotonic() + self.keep
        self.selector.unregister(0)
        self.inbox.clear()
        self.outbox.clear()
        self.watch_stdout(False)
        for connection in list(self.connections.values()):
            self.drop(connection, told=True)

    def patience(self):
        """How long to wait for something to happen; nothing is forever."""
        if not self.ready:
            rest = READY_POLL
        elif self.limits:
            rest = max(0, self.next_look - time.monotonic())
        else:
            rest = None
        if self.until is None:
            return rest
        left = self.until - time.monotonic()
        if left <= 0:
            leave(0)
        return left if rest is None else min(left, rest)

    def hold(self):
        """Looks at the limits when it is time."""
        if self.limits and time.monotonic() >= self.next_look:
            done = self.limits.look()
            self.next_look = time.monotonic() + (WATCH if done else WALK_BUDGET * 4)

    def take(self, kind, number, payload):
        """One frame."""
        if kind == CONFIG:
            self.start(json.loads(payload.decode()))
            return
        if kind == OPEN:
            self.open(number)
            return
        if kind == KILL:
            self.kill_others()
            return
        connection = self.connections.get(number)
        if connection is None:
            return
        try:
            if kind == CLOSE:
                self.drop(connection, told=True)
            elif kind == WINDOW_MORE:
                connection.window += struct.unpack("<I", payload)[0]
            else:
                connection.out += payload
                connection.ending |= kind == END
                if not connection.connecting:
                    connection.write()
        except OSError:
            self.drop(connection)

    # ---- connections ----

    def open(self, number):
        """A new connection to the gateway."""
        try:
            self.connections[number] = Connection(self, number)
        except OSError:
            self.send(CLOSE, number)

    def drop(self, connection, told=False):
        """It is over."""
        if self.connections.pop(connection.number, None) is None:
            return
        if connection.events:
            self.selector.unregister(connection.socket)
        connection.socket.close()
        if not told:
            self.send(CLOSE, connection.number)

    def watch_connections(self):
        """Each socket is watched for what can be done with it now."""
        for connection in list(self.connections.values()):
            wanted = connection.wanted()
            if wanted == connection.events:
                continue
            if not connection.events:
                self.selector.register(connection.socket, wanted, connection)
            elif wanted:
                self.selector.modify(connection.socket, wanted, connection)
            else:
                self.selector.unregister(connection.socket)
            connection.events = wanted

    # ---- the gateway ----

    def kill_others(self):
        """Every process but the gateway and us; only the first process may."""
        if self.gateway is None and self.first:
            os.kill(1, signal.SIGUSR1)
        elif self.gateway is not None:
            kill_all({os.getpid(), self.gateway.pid} | entered())

    def start(self, config):
        """Starts the gateway; a program that is not there is an end with a reason."""
        self.port = config["port"]
        self.keep = config.get("keep", 0)
        self.first = config.get("first", False)
        if "argv" not in config:
            self.probe()
            if not self.ready:
                self.send(GONE)
            return
        signal.signal(signal.SIGUSR1, lambda *_: self.kill_others())
        environment = {**os.environ, **config["env"]}
        try:
            self.gateway = subprocess.Popen(
                config["argv"], env=environment, stdin=subprocess.DEVNULL, stdout=2,
                start_new_session=True)
        except OSError as error:
            leave(1, "%s: %s" % (config["argv"][0], error.strerror))
        resource.prlimit(self.gateway.pid, resource.RLIMIT_DATA, (config["data"],) * 2)
        disk, processes = config.get("disk", 0), config.get("processes", 0)
        if disk:
            # One file stays a little below all of them: who writes it sees an error.
            resource.prlimit(self.gateway.pid, resource.RLIMIT_FSIZE, (disk - disk // 64,) * 2)
        if disk or processes:
            self.limits = Limits(disk, processes)

    def look(self):
        """Is the gateway there, does it listen? Children of nobody are taken in."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self.gateway and pid == self.gateway.pid:
                leave(1, "the Kernel Gateway ended with %s" % told(status))
        if self.port and not self.ready:
            self.probe()

    def probe(self):
        """Tells the server when the gateway listens."""
        with socket.socket() as sock:
            self.ready = sock.connect_ex(("127.0.0.1", self.port)) == 0
        if self.ready:
            self.send(READY)

    # ---- the loop ----

    def run(self):
        """Until one of the two ends."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for fd in (0, 1):
            os.set_blocking(fd, False)
        self.selector.register(0, selectors.EVENT_READ)
        self.selector.register(woken, selectors.EVENT_READ)
        while True:
            self.watch_connections()
            for key, mask in self.selector.select(self.patience()):
                if key.fd == 0:
                    self.take_input()
                elif key.fd == 1:
                    self.flush()
                elif key.data is None:
                    woken.recv(4096)
                    self.look()
                else:
                    self.on_connection(key.data, mask)
            if not self.ready:
                self.look()
            self.hold()

    def on_connection(self, connection, mask):
        """A socket is ready; a broken one is dropped."""
        if self.connections.get(connection.number) is not connection:
            return
        try:
            connection.on_event(mask)
        except OSError:
            self.drop(connection)


class Limits:
    """What all processes together may take, where nobody else looks."""

    def __init__(self, disk, processes):
        self.disk = disk
        self.processes = processes
        self.walk = None
        self.bytes = 0

    def look(self):
        """One look, or a part of one: is it done? Past a limit everything ends."""
        if self.processes:
            count = sum(name.isdigit() for name in os.listdir("/proc"))
            if count > self.processes:
                leave(PROCESSES_STATUS, "there were %d processes, and the limit is %d"
                      % (count, self.processes))
        if not self.disk:
            return True
        if self.walk is None:
            self.bytes, self.walk = 0, self.add_up([WORKSPACE])
        for _ in self.walk:
            return False
        self.walk = None
        if self.bytes > self.disk:
            leave(DISK_STATUS, "the files had %d MiB, and the limit is %d MiB"
                  % (self.bytes >> 20, self.disk >> 20))
        return True

    def add_up(self, folders):
        """The blocks of all files below, of this file system; pauses when its time is over."""
        end = time.monotonic() + WALK_BUDGET
        device = os.stat(folders[0]).st_dev if os.path.isdir(folders[0]) else None
        while folders:
            try:
                with os.scandir(folders.pop()) as found:
                    for entry in found:
                        told = entry.stat(follow_symlinks=False)
                        if told.st_dev == device:
                            self.bytes += told.st_blocks * 512 // max(1, told.st_nlink)
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(entry.path)
                        if time.monotonic() > end:
                            yield
                            end = time.monotonic() + WALK_BUDGET
            except OSError:
                pass  # it is gone


def kill_all(spared):
    """Ends all processes but these: again and again, while there are some that can still fork.
    Only where all there is to be seen is the container's own."""
    if os.getpid() != 1:
        return
    for _ in range(KILL_ROUNDS):
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - spared
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                spared.add(pid)
        if not any(alive(pid) for pid in pids - spared):
            return


def entered():
    """The processes that came in from outside, by exec: they have no parent here."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                if name.isdigit() and file.read().rpartition(b")")[2].split()[1] == b"0":
                    found.add(int(name))
        except OSError:
            pass
    return found


def alive(pid):
    """Is it there, and more than a zombie?"""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in b"ZX"
    except OSError:
        return False


def told(status):
    """How a process ended, for people."""
    if os.WIFSIGNALED(status):
        return "signal %d" % os.WTERMSIG(status)
    return "exit code %d" % os.WEXITSTATUS(status)


def leave(code, words=None):
    """Ends the container."""
    if words:
        os.write(2, (words + "\n").encode("utf-8", "replace"))
    os._exit(code)


def hide():
    """No process of the same user may look into this one: what it says is believed."""
    try:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    except (OSError, AttributeError):
        sys.stderr.write("no prctl here\n")


hide()
Keeper().run()
