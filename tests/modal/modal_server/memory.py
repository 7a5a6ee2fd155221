"""Memory snapshots as far as they can be played: the processes themselves are kept.

What a snapshot holds are the processes of the sandbox's entrypoint, stopped where they were, with
their files. The first restore lets the same processes go on in another sandbox; for a second one
there are none left, which is answered with UNIMPLEMENTED. All that execs have left behind dies.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path


def descendants(pid):
    """This machine's pids of all below a process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] not in b"ZX":
                    parents[int(name)] = int(fields[1])
    found = [pid] if pid in parents else []
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _inside(pid):
    """What a process is called in its own namespace, and its parent's number out here."""
    words = dict(line.split(":", 1) for line in
                 Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    return int(words["NSpid"].split()[-1]), int(words["PPid"])


def _kept(pid, entry):
    """The processes of a cell that a snapshot keeps: the entrypoint's, and what they live in."""
    everyone = descendants(pid)
    for one in everyone:
        with contextlib.suppress(OSError):
            inner, agent = _inside(one)
            if inner == entry:
                above = everyone[:everyone.index(agent) + 1]
                return {*(pid for pid in above if agent in descendants(pid)), *descendants(one)}
    return set(everyone[:3])  # bwrap, its first process, the agent


def _signal(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def freeze(cell, entry):
    """Stops all that is kept and ends the rest; `entry` is the entrypoint's pid in the sandbox."""
    kept = _kept(cell.process.pid, entry)
    _signal(set(descendants(cell.process.pid)) - kept, signal.SIGKILL)
    while True:
        _signal(kept, signal.SIGSTOP)
        await asyncio.sleep(0.01)
        new = _kept(cell.process.pid, entry) - kept
        if not new:
            return
        kept |= new


def thaw(cell):
    """Lets them go on."""
    _signal(reversed(descendants(cell.process.pid)), signal.SIGCONT)
