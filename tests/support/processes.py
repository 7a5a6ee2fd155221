"""Which processes exist, whose they are, and what is left of them.

The test process makes itself a subreaper, so what a dying server leaves behind becomes its child
and is found, however it was started and whatever environment it has.
"""

import contextlib
import ctypes
import os
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of our descendants become our children, instead of init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def stat(pid):
    """(state, parent's pid, start time) of a process, or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def command(pid):
    """The command line of a process, for messages."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def descendants(root):
    """All living processes below `root`, as a set of (pid, start time); zombies do not count."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(name)):
            table[int(name)] = found
    children = {}
    for pid, (_, parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    result, todo = set(), list(children.get(root, ()))
    while todo:
        pid = todo.pop()
        todo += children.get(pid, ())
        if table[pid][0] not in "ZX":
            result.add((pid, table[pid][2]))
    return result


def alive(processes):
    """Those of (pid, start time) that still run."""
    left = set()
    for pid, started in processes:
        found = stat(pid)
        if found and found[2] == started and found[0] not in "ZX":
            left.add((pid, started))
    return left


def reap(exclude=()):
    """Buries adopted zombies; `exclude` are the children that somebody waits for."""
    for pid, (state, parent, _) in list(_own_children()):
        if parent == os.getpid() and state == "Z" and pid not in exclude:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _own_children():
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(name)) and found[1] == os.getpid():
            yield int(name), found


def wait_gone(processes, seconds=3.0):
    """Waits until none of these runs any more; returns descriptions of those that do."""
    deadline = time.monotonic() + seconds
    while (left := alive(processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [f"{pid}: {command(pid)}" for pid, _ in left]


def pss_kib(pid):
    """Proportional memory of one process in KiB; 0 when it may not be read or is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def tree_pss_kib(root):
    """Proportional memory of a process and all below it, in KiB."""
    return pss_kib(root) + sum(pss_kib(pid) for pid, _ in descendants(root))


def open_fds(pid):
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
