"""The processes that come from this one: who they are, what they use, how all of them are ended."""

import _signal as signal
import os
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_OWN_CHILDREN = "/proc/self/task/%d/children" % os.getpid()
PIDS_CAP = 4096
END_LIMIT = 2.0  # seconds for all of them to be gone


def _prctl(option, value):
    """prctl(2); False where there is none."""
    try:
        import ctypes

        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError):
        return False


def adopt_orphans():
    """From now on whoever loses its parent below us becomes our child. False: not on this system,
    where only the worker's own process group can be ended."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(dumpable):
    """Whether others of this user may look into this process (its memory, its descriptors)."""
    return _prctl(_PR_SET_DUMPABLE, int(dumpable))


def die_with(parent):
    """In a child: ends when `parent` does."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _read(path):
    """The bytes of a small file of /proc; b"" when it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _children(pid):
    """The children that any thread of `pid` has made."""
    folder = "/proc/%d/task" % pid
    try:
        threads = os.listdir(folder)
    except OSError:
        return []
    found = []
    for thread in threads[:PIDS_CAP]:
        found.extend(map(int, _read("%s/%s/children" % (folder, thread)).split()))
    return found


def _parents():
    """pid → children, from every process there is: for kernels without the file of above."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read("/proc/%s/stat" % name).rpartition(b")")[2].split()
            if len(fields) > 1:
                table.setdefault(int(fields[1]), []).append(int(name))
    return table


def members(apart=()):
    """The pids of all that come from this process, but those `apart` and theirs."""
    if os.path.exists(_OWN_CHILDREN):
        children = _children
    else:
        try:
            table = _parents()
        except OSError:
            table = {}
        children = lambda pid: table.get(pid, [])  # noqa: E731
    found = []
    seen = set(apart)
    waiting = [os.getpid()]
    while waiting and len(found) < PIDS_CAP:
        for pid in children(waiting.pop()):
            if pid not in seen:
                seen.add(pid)
                found.append(pid)
                waiting.append(pid)
    return found


def kill_all(apart=(), group=0):
    """Sends SIGKILL to all of them; to the process group `group` too, of a child not yet reaped."""
    for pid in members(apart):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    if group:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass


def end_all(reap, apart=()):
    """Kills until nobody is left, or for END_LIMIT. `reap()` takes in those that ended and says
    whether children other than those `apart` are left."""
    limit = time.monotonic() + END_LIMIT
    pause = 0.0005
    while True:
        kill_all(apart)
        if not reap() or time.monotonic() > limit:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


def _resident(pid):
    """Bytes in memory, with what it shares: can only be too much."""
    fields = _read("/proc/%d/statm" % pid).split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _fair_share(pid):
    """Its part of anonymous and shared memory, without pages of files."""
    total = 0
    known = False
    for line in _read("/proc/%d/smaps_rollup" % pid).splitlines():
        if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
            total += int(line.split()[1]) * 1024
            known = True
    return total if known else _resident(pid)


def memory_of(pids, limit):
    """The memory of these processes in bytes, measured closely only when it may be past `limit`."""
    total = sum(map(_resident, pids))
    return total if total <= limit else sum(map(_fair_share, pids))
