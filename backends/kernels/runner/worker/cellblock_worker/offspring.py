"""The supervisor's children: the worker that runs the code, takers of shares, filers."""

import _signal as signal
import fcntl
import os
import resource
import sys
import time
from _socket import socketpair
from struct import Struct

from cellblock_worker import family, frames, session

PUT_DONE, FILE_BYTES, FILE_DONE = range(0x35, 0x38)
NUMBER = Struct("<I")
PIPE_SIZE = 256 * 1024
_F_SETPIPE_SZ = 1031
_OPEN_FILES = 16384  # engines give their containers a million, which is no limit
_PACKAGES = ".local/cellblock-packages"
_DEFAULTS = {
    "LANG": "C.UTF-8",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",
}


def _pipe():
    """A pipe with room for some output: its two ends, the first of which does not block."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        fcntl.fcntl(read, _F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # not this system, or not more for this user
    return read, write


def _forget_signals():
    """In a child: signals are as in any Python."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_all_but(kept):
    """In a child: closes what came from the supervisor, above all the stream."""
    try:
        open_ones = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        open_ones = list(range(1024))
    for fd in open_ones:
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue


def _limit(number, value):
    """Sets both limits, as far as the system's own allow."""
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(number, (value, value))
    except (ValueError, OSError):
        pass


def _threads_of_user():
    """How many threads this user has on the whole system: what RLIMIT_NPROC counts."""
    user = os.getuid()
    count = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat("/proc/" + name).st_uid == user:
                count += len(os.listdir("/proc/%s/task" % name))
        except OSError:
            continue
    return count


def _limit_file(disk):
    """One file stays a little below what all of them may take together, so that a program that
    fills the disk with one sees an error, and is not ended by who adds them up."""
    _limit(resource.RLIMIT_FSIZE, disk - disk // 64)


def set_limits(setup):
    """The limits of each process."""
    _limit(resource.RLIMIT_CORE, 0)
    if not setup.rlimits:
        return
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if setup.memory:
        _limit(resource.RLIMIT_DATA, setup.memory)
    if setup.disk:
        _limit_file(setup.disk)
    if setup.processes:
        try:
            _limit(resource.RLIMIT_NPROC, setup.processes + _threads_of_user())
        except OSError:
            pass  # no /proc: what there is cannot be counted


def _offer_to_the_killer():
    """Where memory runs out the kernel ends the worker, and not the supervisor that tells so."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")
    except OSError:
        pass  # no /proc, or it is higher already


def add_usual_paths():
    """What -I has left out of sys.path, which users of this machine expect: PYTHONPATH and the
    user's own packages. The supervisor itself had to start without."""
    import site

    known = set(sys.path)
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:0] = [entry for entry in entries if entry not in known]
    try:
        own = site.getusersitepackages()
    except (AttributeError, KeyError, OSError):
        return
    if own not in known and os.path.isdir(own):
        site.addsitedir(own)


class Setup:
    """What the server wants of its workers (the SETUP frame), and the folders that came of it."""

    def __init__(self, request):
        self.memory = int(request.get("memory") or 0)
        self.disk = int(request.get("disk") or 0)
        self.processes = int(request.get("processes") or 0)
        self.rlimits = bool(request.get("rlimits"))
        self.warm = bool(request.get("warm"))
        self.env = {str(name): str(value) for name, value in (request.get("env") or {}).items()}
        self.workspace = request.get("workspace")
        self.folder = None  # the private one

    def home(self):
        """The working directory."""
        return self.workspace or os.path.join(self.folder, "workspace")

    def root(self):
        """Below which the dests of shares are."""
        return self.folder or "/"

    def watched(self):
        """The folders whose files count."""
        if self.folder:
            return [self.folder]
        return [self.workspace]

    def environment(self):
        """The variables of the worker."""
        home = self.home()
        found = dict(os.environ)
        for name, value in _DEFAULTS.items():
            found.setdefault(name, value)
        found.update(HOME=home, TERM="dumb", PIP_TARGET=os.path.join(home, _PACKAGES))
        if self.folder:
            found["TMPDIR"] = os.path.join(self.folder, "tmp")
        temporary = found.get("TMPDIR", "/tmp")
        found.setdefault("MPLCONFIGDIR", os.path.join(temporary, "matplotlib"))
        mine = os.path.dirname(sys.executable or "")
        path = found.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
        if mine and mine not in path.split(os.pathsep):
            path = mine + os.pathsep + path
        found["PATH"] = path
        found.pop("OLDPWD", None)
        found["PWD"] = home
        found.update(self.env)
        return found


class Worker:
    """A worker process and our ends of its streams."""

    def __init__(self, setup):
        ours, theirs = socketpair()
        self.out, out_write = _pipe()
        self.err, err_write = _pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                _become_worker(setup, parent, theirs.detach(), out_write, err_write)
            finally:
                os._exit(70)
        theirs.close()
        os.close(out_write)
        os.close(err_write)
        ours.setblocking(False)
        self.frames = ours.detach()

    def close(self):
        """Closes what is still open."""
        for fd in (self.frames, self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self.frames = self.out = self.err = -1


def _become_worker(setup, parent, frames_fd, out, err):
    """In the child; does not return."""
    os.setsid()
    family.die_with(parent)
    family.set_dumpable(True)
    _forget_signals()
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((null, 0), (out, 1), (err, 2)):
        os.dup2(fd, number)
    _close_all_but((frames_fd,))
    variables = setup.environment()
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # it was looked up with the supervisor's variables
    os.chdir(setup.home())
    set_limits(setup)
    _offer_to_the_killer()
    session.serve(frames_fd)
    os._exit(0)


def ended(status):
    """How a process ended that has not said what it had to."""
    return "ended by signal %d" % (status & 127) if status & 127 else "ended without a word"


def _helper(work):
    """A process that does work(fd) and ends: its pid, and our end of its stream."""
    ours, theirs = socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _forget_signals()
            family.die_with(parent)
            fd = theirs.detach()
            _close_all_but((fd,))
            work(fd)
        finally:
            os._exit(70)
    theirs.close()
    ours.setblocking(False)
    return pid, ours.detach()


class Taker:
    """A process that takes a share in, and our end of its stream."""

    def __init__(self, number, root, dest, limit):
        from cellblock_worker import taking  # before the fork, once for all of them

        self.number = number
        self.over = False  # it takes no more pieces
        self.fed = 0  # bytes of pieces that it has been given
        self.answer = b""
        self.pid, self.fd = _helper(lambda fd: taking.receive(fd, root, dest, limit))

    def close(self):
        """Closes its stream: one that has not got all of it undoes what it has done."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def stop(self):
        """When all is over."""

    def feed(self, data):
        """The parts that a piece of the share becomes."""
        self.fed += len(data)
        return NUMBER.pack(len(data)), data

    def take(self, data):
        """Takes in what it says; the frames that are to go to the server now."""
        self.answer += data
        return ()

    def last(self, status):
        """The frame that says how it went, now that it has ended."""
        return frames.frame(PUT_DONE, {"id": self.number, "error": self.problem(status)})

    def problem(self, status):
        """What it said, or None when all went well."""
        try:
            said = frames.decode(self.answer.decode("ascii"))
        except ValueError:
            return {"kind": "internal", "text": "the process that took it in " + ended(status)}
        return said if isinstance(said, dict) else None


class Filer:
    """A process that does one operation on files; it is used as a Taker is. What it sends are
    frames for the server."""

    def __init__(self, number, setup, request):
        from cellblock_worker import filing  # before the fork, once for all of them

        self.number = number
        self.over = False
        self.fed = 0
        self._said = bytearray()

        def work(fd):
            if setup.rlimits and setup.disk:
                _limit_file(setup.disk)
            kinds = FILE_BYTES, FILE_DONE
            filing.answer(fd, number, kinds, setup.home(), setup.folder, request)

        self.pid, self.fd = _helper(work)

    close = Taker.close

    def stop(self):
        """Ends it: what it has half made it undoes."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)

    def feed(self, data):
        """The parts that a piece of a file's content becomes."""
        self.fed += len(data)
        return (data,)

    def take(self, data):
        """Takes in what it says; the frames that are whole."""
        said = self._said
        said += data
        found = []
        while len(said) >= frames.HEADER.size:
            size, kind = frames.HEADER.unpack_from(said)
            end = frames.HEADER.size + size
            if len(said) < end:
                break
            found.append(bytes(said[:end]))
            del said[:end]
            self.over = self.over or kind == FILE_DONE
        return found

    def last(self, status):
        """The frame that says that it ended too early, or nothing."""
        if self.over:
            return b""
        problem = {"kind": "internal", "text": "the process that did it " + ended(status)}
        return frames.frame(FILE_DONE, {"id": self.number, "more": False, "error": problem})
