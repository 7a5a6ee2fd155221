"""Whether the kernel's out-of-memory killer was at work in our control group, if we see one."""

import os

ROOT = "/sys/fs/cgroup"


def _text(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""


def _folders():
    """(version 2?, folder) of the control groups that could be ours, the nearest first."""
    for line in _text("/proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        path = parts[2].lstrip("/")
        if parts[0] == "0":
            yield True, os.path.join(ROOT, path)
            yield True, ROOT  # in a container that sees only its own
        elif "memory" in parts[1].split(","):
            yield False, os.path.join(ROOT, "memory", path)
            yield False, os.path.join(ROOT, "memory")


def _number(text, default=0):
    try:
        return int(text)
    except ValueError:
        return default


class OutOfMemory:
    """Counts its kills."""

    def __init__(self):
        self._file = self._limit = None
        for new, folder in _folders():
            file = os.path.join(folder, "memory.events" if new else "memory.oom_control")
            if "oom_kill " in _text(file):
                self._file = file
                limit = "memory.max" if new else "memory.limit_in_bytes"
                self._limit = os.path.join(folder, limit)
                break
        self.before = self.count()

    def count(self):
        """How many processes it has killed here so far."""
        for line in _text(self._file).splitlines() if self._file else ():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return _number(number)
        return 0

    def begin(self):
        """Counts from here."""
        self.before = self.count()

    def struck(self):
        """Whether it has killed since."""
        return self.count() > self.before

    def struck_within(self, memory):
        """Whether it has ended some process of a group that has no more than our `memory` in bytes.
        A larger group may be shared with strangers. It takes any process, and the code that goes
        on cannot know which was missing."""
        return self.struck() and 0 < self.limit() <= memory

    def limit(self):
        """The group's limit in bytes, 0 when it has none."""
        limit = _number(_text(self._limit).strip()) if self._limit else 0
        return limit if limit < 1 << 60 else 0
