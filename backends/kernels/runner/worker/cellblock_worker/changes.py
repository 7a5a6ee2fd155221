"""Which files of the workspace a run has made or changed: a look before it and one after it.

The supervisor looks once, when a worker was ended that had a run: at what has changed since then.
"""

import os
import sys
import time

from cellblock_worker import commands, frames

ENTRIES = 10000  # that are looked at, folders included
CPU_SECONDS = 0.02  # one look may take so much of the processor
SECONDS = 0.25  # … and so long, on a slow file system
TOLD = 64  # files that are named; the rest is counted
IMAGE = 256 * 1024  # bytes of an image that may be shown with the result
LOOKED_INTO = 16  # files of which the first bytes are read
PAUSE = 16  # runs that are not looked at after one of which there was too much to see
WORDS = 48 * 1024  # bytes of the JSON that the supervisor says it in: a frame of its has to hold it
_STEP = 128  # entries between two looks at the clock
_COARSE = 5  # CLOCK_REALTIME_COARSE, from which file systems take their times
_TICK = 10_000_000  # nanoseconds; the longest
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")

# The code of a run may replace what the modules have.
_scandir, _stat, _open, _read, _close = os.scandir, os.stat, os.open, os.read, os.close
_cpu, _clock = time.thread_time, time.monotonic
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_pause = 0
_told = False  # that the workspace cannot be seen through, in this worker's life


class _TooMuch(Exception):
    """A cap was met."""


def _walk(begun=None):
    """path → (mtime_ns, size, inode) of every regular file, or of those that were changed from
    `begun` on; raises _TooMuch, OSError."""
    files, folders, left = {}, [""], ENTRIES
    device = _stat(commands.home).st_dev
    cpu_end = end = None
    while folders:
        folder = folders.pop()
        entries = _entries(folder)
        for entry in entries:
            left -= 1
            if not left % _STEP:  # not for a handful of files
                if end is None:
                    cpu_end, end = _cpu() + CPU_SECONDS, _clock() + SECONDS
                elif not left or _cpu() > cpu_end or _clock() > end:
                    entries.close()
                    raise _TooMuch
            name = entry.name
            if name[0] == "." or name == "__pycache__":
                continue  # what tools keep for themselves
            try:
                is_file = entry.is_file(follow_symlinks=False)
                if not is_file and not entry.is_dir(follow_symlinks=False):
                    continue
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if found.st_dev != device:
                continue  # mounted there
            if is_file:
                if begun is None or found.st_ctime_ns >= begun:
                    files[folder + name] = (found.st_mtime_ns, found.st_size, found.st_ino)
            else:
                folders.append(folder + name + "/")
    return files


def _entries(folder):
    """What is in a folder of the workspace; nothing when it cannot be read."""
    try:
        return _scandir(commands.home + "/" + folder)
    except OSError:
        if not folder:
            raise
        return ()


def look():
    """The files that there are; None when they are too many, or cannot be seen."""
    global _pause
    if _pause:
        _pause -= 1
        return None
    try:
        return _walk()
    except _TooMuch:
        _pause = PAUSE
    except OSError:
        pass  # something went away meanwhile, or is forbidden
    return None


def _looks_like_image(path):
    """By its first bytes; the server looks again."""
    try:
        fd = _open(commands.home + "/" + path, _FLAGS)
        try:
            return _read(fd, 12).startswith(_MAGIC)
        finally:
            _close(fd)
    except OSError:
        return False


def _is_text(path):
    """Whether the name can be told."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def since(before):
    """What DONE says of the changes since that look; None when there are none."""
    global _told
    after = look() if before is not None else None
    if after is None:
        first, _told = not _told, True
        return {"files": [], "partial": True} if first else None
    if after == before:
        return None
    get = before.get
    return _report([(facts, path) for path, facts in after.items() if get(path) != facts])


def _report(changed):
    """(facts, path) of what has changed, as it is told."""
    changed.sort(reverse=True)
    named = [item for item in changed if _is_text(item[1])][:TOLD]
    files, looked = [], 0
    for facts, path in named:
        image = looked < LOOKED_INTO and 0 < facts[1] <= IMAGE
        looked += image
        files.append([path, facts[1], facts[0], image and _looks_like_image(path)])
    return {"files": files, "more": len(changed) - len(named)} if changed else None


# ---- of the supervisor ----


def now():
    """The time that a file which is changed now gets at least, in nanoseconds."""
    if sys.platform == "linux":
        try:
            return time.clock_gettime_ns(_COARSE)
        except OSError:
            pass  # a system that only looks like it
    return time.time_ns() - _TICK


def newer(home, begun):
    """As since, of what was changed in that folder from `begun` (now) on.

    By the time of the inode, which no code can set back. So what was only given another mode has
    changed too, and what was written within the clock's last tick before; and where a file server
    has a clock of its own, that is believed.
    """
    commands.home = home
    try:
        found = _walk(begun)
    except (_TooMuch, OSError):
        return {"files": [], "partial": True}
    return _cut(_report([(facts, path) for path, facts in found.items()]))


def _cut(report):
    """What has no room in the frame is counted and not named."""
    room = WORDS
    for at, file in enumerate(report["files"] if report else ()):
        room -= len(frames.encode({"": file}))
        if room < 0:
            report["more"] += len(report["files"]) - at
            del report["files"][at:]
            break
    return report
