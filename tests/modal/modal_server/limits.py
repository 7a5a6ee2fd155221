"""A sandbox's memory: a cgroup (v1 or v2) where one can be made, an rlimit where none can."""

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Limit:
    """None, or an address space for each process."""

    watched = False  # does the kernel kill for it?

    def __init__(self, address_space=0):
        self.address_space = address_space

    def join(self):
        """Called in the first process before it is anything else."""

    def kills(self):
        """How many processes the kernel has killed for it."""
        return 0

    def remove(self):
        """When nothing is in it any more."""


class Group(Limit):
    """A cgroup; `files` are where its limit, its members and its kills are."""

    watched = True

    def __init__(self, folder, size, files):
        super().__init__()
        limit, self._members, self._events = files
        self._folder = folder
        folder.mkdir()
        try:
            (folder / limit).write_text(str(size), encoding="ascii")
        except OSError:
            folder.rmdir()
            raise

    def join(self):
        """Called in the first process before it is anything else."""
        with open(self._folder / self._members, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def kills(self):
        """How many processes the kernel has killed for it."""
        with contextlib.suppress(OSError):
            for line in (self._folder / self._events).read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def remove(self):
        """When nothing is in it any more; the kernel may need a moment to know."""
        for _ in range(100):
            try:
                self._folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)


V1 = ("memory.limit_in_bytes", "cgroup.procs", "memory.oom_control")
V2 = ("memory.max", "cgroup.procs", "memory.events")


def make(name, size):
    """The limit of a sandbox of this name to `size` bytes; 0 is none."""
    if not size:
        return Limit()
    for parent, files in ((ROOT / "memory", V1), (ROOT, V2)):
        with contextlib.suppress(OSError):
            return Group(parent / f"modal-test-{name}", size, files)
    return Limit(address_space=size)
