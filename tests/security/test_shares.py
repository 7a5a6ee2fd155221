"""Attacks through add_share: paths of the host, paths in the sandbox, mounts."""

import contextlib
import ctypes
import os
import random
import shutil
import socket
import tempfile
import threading
import time

import pytest
from attack import IS_ROOT, NAMESPACED, fill

SECRET = "the secret of the host"
PUBLIC = "public"


@pytest.fixture
def outside():
    """A folder of the host that is under no share root, with a secret that anybody may read."""
    with tempfile.TemporaryDirectory(prefix="cellblock-outside-") as folder:
        os.chmod(folder, 0o755)
        with open(folder + "/data", "w", encoding="ascii") as file:
            file.write(SECRET)
        yield folder


@pytest.fixture
def root(target):
    """An empty folder under the share root."""
    folder = tempfile.mkdtemp(dir=target.shares)
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put(folder, name="data", text=PUBLIC):
    """Makes a file; returns its path."""
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def nothing_of_the_secret(cell):
    """No file in the places of shares has the secret."""
    result = cell.run('''
import os
found = []
for top in ("/workspace", "/data", "/tmp", os.getcwd(), os.environ["TMPDIR"]):
    for folder, _, files in os.walk(top):
        for name in files:
            try:
                if "the secret" in open(os.path.join(folder, name), errors="replace").read():
                    found.append(os.path.join(folder, name))
            except OSError:
                pass
print(found)
''')
    assert result.text("stdout") == "[]\n", result


@pytest.mark.parametrize("kind", ["copy", "mount"])
@pytest.mark.only("forked", "landlock")
def test_sources_outside_of_the_roots(fresh, root, outside, kind):
    """By name, by `..`, by a link, by a link to a link, by a path through a link."""
    os.symlink(outside + "/data", root + "/link")
    os.symlink("link", root + "/link2")
    os.symlink(outside, root + "/folder")
    os.symlink("/", root + "/all")
    os.symlink("/proc/self/root", root + "/magic")
    sources = [outside, outside + "/data", root + "/../../.." + outside + "/data", root + "/link",
               root + "/link2", root + "/folder", root + "/folder/data", root + "/all",
               root + "/all" + outside + "/data", root + "/magic" + outside, "/etc/passwd", "/",
               "/proc/self/environ", "/proc/self/root" + outside, root + "/../..", "/dev/stdin"]
    for number, source in enumerate(sources):
        refused = fresh.share(source, f"/workspace/s{number}", kind)
        assert refused.is_error, (source, refused)
        assert SECRET not in str(refused.raw)
    if kind == "copy":  # the control
        assert not fresh.share(put(root), "/workspace/fine").is_error
    nothing_of_the_secret(fresh)


@pytest.mark.only("forked", "landlock")
def test_links_inside_of_a_copied_tree(fresh, root, outside):
    """They are copied as links, so they lead to what the sandbox has there: nothing."""
    os.mkdir(root + "/tree")
    os.symlink(outside + "/data", root + "/tree/file")
    os.symlink(outside, root + "/tree/folder")
    put(root + "/tree", "own")
    assert not fresh.share(root + "/tree", "/workspace/tree").is_error
    result = fresh.run('''
import os
for name in ("file", "folder/data", "own"):
    try:
        print(open("tree/" + name).read())
    except OSError as error:
        print(type(error).__name__)
''')
    assert SECRET not in result.text() and PUBLIC in result.text("stdout"), result


def swap(one, two, stop, pause):
    """Exchanges two names, over and over (renameat2, RENAME_EXCHANGE); up to so many seconds go by
    between two times."""
    libc = ctypes.CDLL(None, use_errno=True)
    while not stop.is_set():
        libc.renameat2(-100, one.encode(), -100, two.encode(), 2)
        if pause:
            time.sleep(random.random() * pause)


@contextlib.contextmanager
def swapping(one, two, pause=0):
    """While the test goes on."""
    stop = threading.Event()
    thread = threading.Thread(target=swap, args=(one, two, stop, pause))
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.only("forked")
def test_swapped_after_the_check(fresh, root, outside):
    """A folder that turns into a link to the outside and back, all the time."""
    os.mkdir(root + "/swap")
    put(root + "/swap")
    os.symlink(outside, root + "/other")
    done, refused = 0, 0
    fresh.open()
    with swapping(root + "/swap", root + "/other", pause=0.002):
        for number in range(150):
            source = root + "/swap" + ("/data" if number % 2 else "")
            result = fresh.share(source, f"/workspace/s{number}")
            done, refused = done + (not result.is_error), refused + result.is_error
    assert done and refused, f"vacuous: {done} went through, {refused} were refused"
    nothing_of_the_secret(fresh)


@pytest.mark.only("forked")
def test_swapped_while_it_is_copied(fresh, root, outside):
    """The same below the source: a folder in the tree."""
    os.makedirs(root + "/tree/folder")
    put(root + "/tree/folder")
    for number in range(50):
        put(root + "/tree", f"f{number}")
    os.symlink(outside, root + "/other")
    fresh.open()
    with swapping(root + "/tree/folder", root + "/other"):
        for number in range(60):
            fresh.share(root + "/tree", f"/workspace/s{number}")
    nothing_of_the_secret(fresh)


@pytest.mark.only("forked", "landlock")
def test_sources_that_are_no_files(fresh, root):
    """A FIFO, a socket, a device: refused at once, nothing waits for a writer."""
    os.mkfifo(root + "/fifo")
    os.mkdir(root + "/tree")
    os.mkfifo(root + "/tree/fifo")
    sources = [root + "/fifo", root + "/tree"]
    if IS_ROOT:
        os.mknod(root + "/device", 0o20666, os.makedev(1, 3))
        sources.append(root + "/device")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(root + "/socket")
        fresh.open()
        for number, source in enumerate([*sources, root + "/socket"]):
            result = fresh.share(source, f"/workspace/s{number}")
            assert result.is_error or fresh.run("1").is_error, (source, result)
    fresh.reset()
    fresh.answers()


@pytest.mark.only("forked", "landlock")
def test_sources_that_the_sandbox_may_not_read(fresh, root):
    """The rights of root are not lent out: the sandbox's user has to be able to read it."""
    path = put(root, "private", SECRET)
    os.chmod(path, 0 if not IS_ROOT else 0o600)
    os.mkdir(root + "/closed", 0o700)
    put(root + "/closed", "data", SECRET)
    if not IS_ROOT:
        os.chmod(root + "/closed", 0)
    fresh.open()
    for number, source in enumerate((path, root + "/closed")):
        result = fresh.share(source, f"/workspace/s{number}")
        assert result.is_error, result
    os.chmod(root + "/closed", 0o700)
    nothing_of_the_secret(fresh)


DESTS = ["/proc/1/root/x", "/proc/self/fd/1", "/sys/x", "/dev/shm/x", "/dev/null", "/usr/bin/x",
         "/bin/x", "/lib/x", "/lib64/x", "/sbin/x", "/etc/passwd", "/etc/x/y", "/", "relative",
         "../x", "", "/workspace/../etc/x", "/workspace/../../x/../usr/x", "//etc/x", "/./etc/x",
         "/etc", "/proc", "/workspace/.", "/workspace/..", "/x" * 3000, "/workspace/a\0b"]


@pytest.mark.only("forked", "landlock")
@pytest.mark.parametrize("kind", ["copy", "mount"])
def test_dests_that_are_not_allowed(fresh, root, kind):
    """Neither spelt out nor in disguise."""
    source = put(root)
    for dest in DESTS:
        try:
            result = fresh.share(source, dest, kind)
        except Exception as error:  # noqa: BLE001  a JSON-RPC error is a refusal as well
            assert "-326" in str(error) or "-327" in str(error), (dest, error)
            continue
        assert result.is_error, (dest, result)
    fresh.answers()


@pytest.mark.only(*NAMESPACED)
def test_dests_that_the_code_prepared(fresh, root, target):
    """Links in the way of a copy are not followed: not into the system, not into a mount."""
    shared = root + "/shared"
    os.mkdir(shared)
    os.chmod(shared, 0o777)
    assert not fresh.share(shared, "/data/rw", "mount", read_only=False).is_error
    fresh.run('''
import os
os.chdir("/workspace")
for name, to in (("etc", "/etc"), ("run", "/run"), ("rw", "/data/rw"), ("self", "/proc/self/root"),
                 ("loop", "loop"), ("usr", "/usr/local"), ("file", "/data/rw/planted")):
    os.symlink(to, "/workspace/" + name)
open("/workspace/taken", "w").write("mine")
os.mkfifo("/workspace/fifo")
''')
    source = put(root)
    for dest in ("etc/x", "run/x", "rw/x", "self/etc/x", "loop/x", "usr/x", "file", "taken",
                 "fifo", "fifo/x", "taken/x"):
        result = fresh.share(source, "/workspace/" + dest)
        assert result.is_error, (dest, result)
    assert not os.listdir(shared)
    assert fresh.run("print(open('/workspace/taken').read())").text("stdout") == "mine\n"
    assert not fresh.share(source, "/workspace/new/folder/x").is_error  # the control
    assert fresh.run("print(open('/workspace/new/folder/x').read())").text("stdout") == "public\n"


@pytest.mark.only("forked")
def test_dests_that_the_code_swaps(fresh, root):
    """A folder on the way turns into a link to a writable mount and back, while copies come."""
    shared = root + "/shared"
    os.mkdir(shared)
    os.chmod(shared, 0o777)
    assert not fresh.share(shared, "/data/rw", "mount", read_only=False).is_error
    fresh.run('''
import ctypes, itertools, os, threading, time
os.chdir("/workspace"); os.mkdir("way"); os.symlink("/data/rw", "other")
libc, pauses = ctypes.CDLL(None), itertools.cycle((0, 0, 0, 0.0005, 0.003))
def swap():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        libc.syscall(316, -100, b"/workspace/way", -100, b"/workspace/other", 2)
        time.sleep(next(pauses))
threading.Thread(target=swap, daemon=True).start()
''')
    source, done, refused = put(root), 0, 0
    while done + refused < 60 or (done + refused < 600 and not (done and refused)):
        result = fresh.share(source, f"/workspace/way/s{done + refused}")
        done, refused = done + (not result.is_error), refused + result.is_error
    assert not os.listdir(shared), "a copy went through the link"
    assert done and refused, f"vacuous: {done} went through, {refused} were refused"


@pytest.mark.only("forked", "denied")
def test_a_read_only_mount(fresh, root):
    """Not written, not renamed, not removed, no rights changed; not by another name of it."""
    shared = root + "/shared"
    os.mkdir(shared)
    os.chmod(shared, 0o777)
    os.chmod(put(shared), 0o666)
    assert not fresh.share(shared, "/data/ro", "mount").is_error
    attack = '''
at = @at@
for action in (lambda: open(at + "/data", "r+").write("x"), lambda: open(at + "/new", "w"),
               lambda: os.unlink(at + "/data"), lambda: os.rename(at + "/data", at + "/moved"),
               lambda: os.truncate(at + "/data", 0), lambda: os.mkdir(at + "/folder"),
               lambda: os.symlink("x", at + "/link"), lambda: os.chmod(at + "/data", 0o777),
               lambda: os.utime(at + "/data", (1, 1)), lambda: os.mkfifo(at + "/fifo"),
               lambda: os.link(at + "/data", "/workspace/hard"),
               lambda: os.setxattr(at + "/data", "user.x", b"x"),
               lambda: open("/proc/self/root" + at + "/data", "r+"),
               lambda: open("/proc/self/fd/%d" % os.open(at + "/data", os.O_RDONLY), "r+")):
    attempt(action)
'''
    result = fresh.run(fill(attack, {"at": "/data/ro"}))
    assert "ESCAPED" not in result.text("stdout") and result.text("stdout").count("HELD") == 14
    assert fresh.run("print(open('/data/ro/data').read())").text("stdout") == "public\n"
    with open(shared + "/data", encoding="ascii") as file:
        assert os.listdir(shared) == ["data"] and file.read() == PUBLIC
    copied = fresh.share(put(root), "/data/ro/planted")
    assert copied.is_error and os.listdir(shared) == ["data"], copied


@pytest.mark.only("forked", "denied")
def test_a_writable_mount_ends_at_its_edge(fresh, root, outside):
    """What is written arrives; what is beside it cannot be reached; and what the code leaves
    there is no way for the server to be led astray."""
    shared = root + "/shared"
    os.mkdir(shared)
    os.chmod(shared, 0o777)
    put(root, "beside", SECRET)
    assert not fresh.share(shared, "/data/rw", "mount", read_only=False).is_error
    result = fresh.run(fill('''
open("/data/rw/own", "w").write("mine")
os.symlink(@outside@, "/data/rw/lure"); os.symlink("..", "/data/rw/up")
os.mkdir("/data/rw/a"); fd = os.open("/data/rw/a", os.O_RDONLY)
for path in ("/data/rw/../beside", "/data/rw/up/beside", "/data/rw/lure/data", @root@ + "/beside"):
    attempt(lambda: open(path).read())
try:
    os.rename("/data/rw/a", "/workspace/a")
    attempt(lambda: open(os.open("../beside", os.O_RDONLY, dir_fd=fd)).read())
except OSError as error:
    print("HELD", error)
attempt(lambda: open(os.open("../../beside", os.O_RDONLY, dir_fd=fd)).read())
def device():
    os.mknod("/data/rw/device", 0o20666, os.makedev(1, 5))
attempt(device)
''', {"outside": outside, "root": root}))
    assert "ESCAPED" not in result.text("stdout"), result
    assert result.text("stdout").count("HELD") == 7, result
    with open(shared + "/own", encoding="ascii") as file:
        assert file.read() == "mine"
    for number, source in enumerate((shared + "/lure", shared + "/lure/data")):
        assert fresh.share(source, f"/workspace/lure{number}").is_error
    nothing_of_the_secret(fresh)


@pytest.mark.only("forked")
def test_rights_of_a_copy(fresh, root):
    """No set-id bit comes along."""
    path = put(root, "tool")
    os.chmod(path, 0o6755)
    assert not fresh.share(path, "/workspace/tool").is_error
    result = fresh.run("import os\nprint(oct(os.stat('/workspace/tool').st_mode & 0o7777))")
    assert result.text("stdout") == "0o755\n"
