"""Attacks on the machine's resources: memory, disk, processor. The limits are small (attack.py)."""

import os
import time
from pathlib import Path

import pytest
from attack import DISK_MIB, NAMESPACED, fill

MIB = 1 << 20


def test_memory_of_one_process(fresh):
    """A MemoryError that the code can catch."""
    result = fresh.run("x = bytearray(1 << 30)")
    assert result.cause == "error" and result.outcome["error"]["etype"] == "MemoryError", result
    fresh.answers()


MEMORY = {
    "many children": '''
for i in range(10):
    if os.fork() == 0:
        keep = bytearray(60 << 20); keep[::4096] = b"x" * len(keep[::4096]); time.sleep(60)
time.sleep(60)''',
    "shared pages": '''
import mmap
keep = mmap.mmap(-1, 600 << 20)
for at in range(0, len(keep), 4096): keep[at] = 1
time.sleep(60)''',
    "children that cannot be looked into": '''
for i in range(10):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        keep = bytearray(60 << 20); keep[::4096] = b"x" * len(keep[::4096]); time.sleep(60)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
time.sleep(60)''',
    "children in sessions of their own": '''
for i in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        keep = bytearray(60 << 20); keep[::4096] = b"x" * len(keep[::4096]); time.sleep(60)
time.sleep(60)''',
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_of_the_whole_cell(fresh, name):
    """No process is large; together they are: the watcher ends the cell and says why."""
    result = fresh.run(fill(MEMORY[name], {}), timeout_seconds=20)
    assert result.cause == "out_of_memory", result
    assert result.outcome["duration_ms"] < 10000
    fresh.answers()


def folders_of(target):
    """The folders in /tmp that belong to the sandboxes' user of this server."""
    found = []
    for path in Path("/tmp").glob("cellblock-??????"):
        try:
            if path.stat().st_uid == target.uid:
                found.append(path)
        except OSError:
            pass
    return found


def size_of(folders):
    """What the files in these folders take, in MiB; only where they can be walked."""
    return sum(int(os.popen(f"du -sm {path} 2>/dev/null").read().split()[0] or 0)
               for path in folders)


DISK = {
    "one file": "file = open('big', 'wb')\nwhile True: file.write(bytes(1 << 20))",
    "one file at once": f'''
big = open("big", "wb")
os.posix_fallocate(big.fileno(), 0, {DISK_MIB << 20})
big.seek(0, 2); big.write(b"more"); big.flush()''',
    "many files": "for i in range(10000): open('f%d' % i, 'wb').write(bytes(1 << 18))",
    "the folder for temporary files":
        "for i in range(10000): open(os.environ['TMPDIR'] + '/f%d' % i, 'wb')"
        ".write(bytes(1 << 18))",
    "in depth": '''
for i in range(400):
    os.mkdir("d"); os.chdir("d")
for i in range(10000): open("f%d" % i, "wb").write(bytes(1 << 18))''',
    "in folders without rights": '''
for i in range(10000):
    os.mkdir("d%d" % i); open("d%d/f" % i, "wb").write(bytes(1 << 20)); os.chmod("d%d" % i, 0)''',
}


@pytest.mark.parametrize("name", DISK)
def test_disk(fresh, variant, name):
    """Wherever it is written, the disk limit holds. Without a file system of its own the cell is
    ended for it; with one, the code gets ENOSPC."""
    result = fresh.run(fill(DISK[name], {}), timeout_seconds=30)
    assert result.cause not in ("ok", "timeout"), result
    if variant != "landlock":
        assert "No space left" in result.text("error"), result
        assert fresh.run("import os\ns = os.statvfs('/workspace')\n"
                         "print(s.f_blocks * s.f_frsize >> 20)").text("stdout") == f"{DISK_MIB}\n"
        fresh.run("import os; os.chdir('/workspace')")
    elif result.cause == "error":  # a file's own limit was quicker: the cell is ended in a moment
        after = fresh.run("while os.path.exists('big'): time.sleep(0.05)")
        assert "of disk and was ended" in after.text("note"), after
    fresh.answers()


@pytest.mark.only(*NAMESPACED)
def test_shared_memory_folder(fresh):
    """/dev/shm has a limit of its own, of 64 MiB."""
    result = fresh.run("open('/dev/shm/big', 'wb').write(bytes(100 << 20))")
    assert result.cause == "error" and "No space left" in result.text("error"), result
    fresh.answers()


def test_empty_files_without_end(fresh):
    """Each costs memory of the kernel: their number is held too."""
    result = fresh.run('''
import os
os.mkdir("many")
for i in range(300000):
    os.close(os.open("many/%d" % i, os.O_CREAT | os.O_WRONLY))
print("ESCAPED")
''', timeout_seconds=30)
    assert "ESCAPED" not in result.text("stdout") and result.cause != "timeout", result
    fresh.answers()


def test_deep_folders(fresh, target, variant):
    """Folders below folders: the end of the session still removes all."""
    result = fresh.run('''
import os
for i in range(1000):
    os.mkdir("deep"); os.chdir("deep")
open("file", "w").write("x"); os.chmod(".", 0); print("dug")
''', timeout_seconds=10)
    assert result.cause in ("ok", "killed", "out_of_memory", "error"), result
    fresh.reset()
    if variant == "landlock":
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            deep = [f for f in folders_of(target)
                    if (f / "workspace/deep").is_dir()] if os.geteuid() == 0 else []
            if not deep:
                break
            time.sleep(0.1)
        assert not deep


def test_a_sparse_file(fresh):
    """Its size is a number; reading it does not fill anything."""
    result = fresh.run("import os\nf = open('sparse', 'wb')\n"
                       "try:\n    f.truncate(1 << 50)\nexcept OSError: pass\nprint('made')")
    assert result.cause == "ok" and result.text("stdout") == "made\n", result
    fresh.answers()


PROCESSOR = {
    "ignores SIGINT": "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    "catches everything": "while True:\n    try:\n        while True: pass\n"
                          "    except BaseException: pass",
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
                          "while True: pass",
    "in C": "sum(iter(int, 1))",
    "a child for each processor": "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                                  "for i in range(8):\n    if os.fork() == 0:\n"
                                  "        os.setsid()\n        while True: pass\n"
                                  "while True: pass",
    "sleeps": "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(100)",
    "holds the interpreter": "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
}


@pytest.mark.only("forked", "landlock")
@pytest.mark.parametrize("name", PROCESSOR)
def test_running_for_ever(fresh, name):
    """A run past its limit ends, whatever it does about signals."""
    result = fresh.run(fill(PROCESSOR[name], {}), timeout_seconds=0.5)
    assert result.cause == "timeout", result
    assert result.outcome["duration_ms"] < 5000
    fresh.answers()
