"""Attacks on the server through the files of a session: what it reads, writes, lists, copies and
removes there while the code has its hands on them."""

import contextlib
import os
import tempfile

import pytest
from attack import IS_ROOT, MARKER, fill, server

SECRET = "the secret of the host"
ROUNDS, ROUNDS_MAX = 40, 600


@contextlib.contextmanager
def roots_groups():
    """As root logs in: with root's group as a supplementary one, which a container often lacks."""
    before = os.getgroups()
    if IS_ROOT:
        os.setgroups([0])
    yield
    if IS_ROOT:
        os.setgroups(before)


@pytest.fixture(scope="module")
def filed():
    """Gives the server of a variant that has the tools for files; all are closed at the end."""
    with contextlib.ExitStack() as stack:
        made = {}

        def get(variant):
            if variant not in made:
                with roots_groups():
                    made[variant] = stack.enter_context(server(variant, "--toolsets", "files"))
            return made[variant]

        yield get


@pytest.fixture
def files(filed, variant):
    """A cell of the test's own; `ask` calls a tool on its files."""
    one = filed(variant).cell()
    one.open()
    one.ask = lambda name, **arguments: one.client.tool(name, {**arguments,
                                                               "session": one.session})
    yield one
    one.reset()


@pytest.fixture
def outside():
    """A folder of the host that is nobody's share: anybody may read and write in it."""
    with tempfile.TemporaryDirectory(prefix="cellblock-outside-") as folder:
        os.chmod(folder, 0o777)
        with open(folder + "/data", "w", encoding="ascii") as file:
            file.write(SECRET)
        os.chmod(folder + "/data", 0o666)
        yield folder
        assert os.listdir(folder) == ["data"], "something of the host was made or removed"
        with open(folder + "/data", encoding="ascii") as file:
            assert file.read() == SECRET, "a file of the host was changed"


def inside(cell):
    """Where the code is; without a root of its own that is a folder of the host."""
    return cell.run("import os; print(os.getcwd())").text("stdout").strip()


SWAP = '''
import itertools, threading
libc, pauses = ctypes.CDLL(None), itertools.cycle((0, 0, 0, 0.0005, 0.003))
def swap():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        libc.syscall(316, -100, b"way", -100, b"other", 2)  # renameat2, RENAME_EXCHANGE
        time.sleep(next(pauses))
threading.Thread(target=swap, daemon=True).start()
'''


@pytest.mark.only("forked", "landlock")
@pytest.mark.parametrize("relative", [False, True])
def test_folders_that_the_code_swaps(files, outside, relative):
    """A folder turns into a link that leads out, and back, while the server works in it."""
    here = inside(files)
    target = os.path.relpath(outside, here) if relative else outside
    with open(os.path.normpath(os.path.join(here, target, "data")), encoding="ascii") as file:
        assert file.read() == SECRET  # the control: there the link leads, for who follows it
    files.run(fill('os.mkdir("way"); open("way/data", "w").write("mine")\n'
                   'os.symlink(@target@, "other")' + SWAP, {"target": target}))
    done = refused = number = 0
    while number < ROUNDS or (number < ROUNDS_MAX and not (done and refused)):
        number += 1
        results = [files.ask("read_file", path="way/data"),
                   files.ask("write_file", path=f"way/new{number}", content="planted"),
                   files.ask("write_file", path="way/data", content="mine"),
                   files.ask("list_files", path="way"),
                   files.ask("make_directory", path=f"way/folder{number}/in"),
                   files.ask("copy_file", source="way", dest=f"copy{number}"),
                   files.ask("move_file", source="way/data", dest="way/moved"),
                   files.ask("move_file", source="way/moved", dest="way/data"),
                   files.ask("remove_file", path=f"way/new{number}"),
                   files.ask("remove_file", path=f"way/folder{number}", recursive=True),
                   files.ask("read_file", path=f"copy{number}/data"),
                   files.ask("remove_file", path=f"copy{number}", recursive=True)]
        assert SECRET not in str([result.raw for result in results])
        refused += sum(result.is_error for result in results)
        done += sum(not result.is_error for result in results)
    assert done and refused, f"vacuous: {done} were done, {refused} were refused"
    files.answers()


@pytest.mark.only("forked", "solo", "landlock")
def test_links_that_lead_out(files, outside):
    """By absolute and relative links, by `..`, through folders; read, written, listed, removed."""
    here = inside(files)
    up = os.path.relpath(outside, here)
    files.run(fill('os.symlink(@outside@, "a"); os.symlink(@up@, "b"); os.symlink("/", "c")\n'
                   'os.symlink("../../../../../..", "d")', {"outside": outside, "up": up}))
    ways = ["a", "b", "c" + outside, "d" + outside, up, outside, "/workspace/../../.." + outside]
    for way in ways:
        for name, arguments in (
                ("read_file", {"path": way + "/data"}),
                ("list_files", {"path": way}), ("stat_file", {"path": way + "/data"}),
                ("copy_file", {"source": way + "/data", "dest": "stolen"}),
                ("move_file", {"source": way + "/data", "dest": "stolen"}),
                ("remove_file", {"path": way + "/data"})):
            result = files.ask(name, **arguments)
            assert result.is_error, (name, way, result)
            assert SECRET not in str(result.raw)
    for way in ways:  # missing folders are made, in the sandbox's own /tmp
        files.ask("write_file", path=way + "/data", content="planted")


@pytest.mark.only("forked", "landlock")
def test_what_is_no_file_does_not_hold_the_server(files):
    """A FIFO that nobody writes to, a socket; and a file that turns into a FIFO and back."""
    files.run('import os\nos.mkfifo("fifo"); os.mkfifo("other"); open("way", "w").write("x")')
    files.run('import socket\nsocket.socket(socket.AF_UNIX).bind("socket")')
    socket = "socket" if files.variant == "forked" else "fifo"  # landlock lets none be made
    assert "other" in files.ask("stat_file", path=socket).text()
    for path in ("fifo", socket):
        for name, arguments in (("read_file", {"path": path}),
                                ("write_file", {"path": path, "content": "x"}),
                                ("write_file", {"path": path, "content": "x", "append": True}),
                                ("copy_file", {"source": path, "dest": "copy"})):
            assert files.ask(name, **arguments).is_error, (name, path)
    control = files.run("open('fifo').read()", timeout_seconds=0.5)
    assert control.cause == "timeout", "vacuous: the FIFO does not hold who opens it"
    files.run(fill(SWAP, {}))
    read = refused = number = 0
    while number < ROUNDS or (number < ROUNDS_MAX and not (read and refused)):
        number += 1
        result = files.ask("read_file", path="way")
        assert result.is_error or set(result.text()) == {"x"}, result
        read, refused = read + (not result.is_error), refused + result.is_error
        files.ask("write_file", path="way", content="x", append=True)
    assert read and refused, f"vacuous: {read} were read, {refused} were refused"
    files.answers()


@pytest.mark.only("forked", "solo")
def test_what_the_kernel_shows_of_the_server(files):
    """In /proc each reader finds itself: the server must not be made to look there."""
    pid = files.client.pid
    with open(f"/proc/{pid}/environ", "rb") as file:  # the control
        assert MARKER.encode() in file.read()
    files.run('import os\nfor name in ("self", "thread-self", "1"):\n'
              '    os.symlink(f"/proc/{name}", f"link-{name}")\n'
              'os.symlink("/proc/self/root", "root")')
    for path in ("/proc/self/environ", "/proc/thread-self/environ", f"/proc/{pid}/environ",
                 "/proc/1/environ", "link-self/environ", "link-thread-self/environ",
                 "/proc/self/root/etc/passwd", "root/etc/passwd", "/proc/self/fd/0",
                 "/proc/self/cwd", "/proc/net/tcp", "/proc/self/mountinfo"):
        for name in ("read_file", "list_files", "stat_file"):
            result = files.ask(name, path=path)
            assert result.is_error, (name, path, result)
            assert MARKER not in str(result.raw)
        assert files.ask("copy_file", source=path, dest="stolen").is_error


@pytest.mark.only("forked", "denied")
def test_mounts(files, outside):
    """A read-only one is only read; and what lies in a writable one leads nowhere else."""
    shares = files.server.shares
    read_only, writable = shares / "ro", shares / "rw"
    for folder in (read_only, writable):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        (folder / "data").write_text("public")
        (folder / "data").chmod(0o666)
    (shares / "beside").write_text(SECRET)
    files.reset()
    files.session = None
    assert not files.share(read_only, "/data/ro", "mount").is_error
    assert not files.share(writable, "/data/rw", "mount", read_only=False).is_error
    assert files.ask("read_file", path="/data/ro/data").text() == "public"
    for name, arguments in (("write_file", {"path": "/data/ro/data", "content": "x"}),
                            ("write_file", {"path": "/data/ro/new", "content": "x"}),
                            ("make_directory", {"path": "/data/ro/folder"}),
                            ("remove_file", {"path": "/data/ro/data"}),
                            ("remove_file", {"path": "/data/ro", "recursive": True}),
                            ("remove_file", {"path": "/data/rw", "recursive": True}),
                            ("remove_file", {"path": "/data", "recursive": True}),
                            ("move_file", {"source": "/data/ro/data", "dest": "/tmp/moved"}),
                            ("copy_file", {"source": "/data/rw/data", "dest": "/data/ro/copy"})):
        result = files.ask(name, **arguments)
        assert result.is_error, (name, arguments, result)
    assert [path.name for path in read_only.iterdir()] == ["data"]
    assert (read_only / "data").read_text() == (writable / "data").read_text() == "public"
    files.run(fill('os.symlink(@outside@, "/data/rw/lure"); os.symlink("..", "/data/rw/up")',
                   {"outside": outside}))
    for path in ("/data/rw/lure/data", "/data/rw/up/beside", "/data/rw/../beside"):
        assert files.ask("read_file", path=path).is_error
    assert not files.ask("write_file", path="/data/rw/data", content="written").is_error
    assert (writable / "data").read_text() == "written"


@pytest.mark.only("forked")
def test_rights_are_those_of_the_sandbox(files):
    """Where the server is root its hands in the sandbox are not. An ordinary user's sandboxes are
    of the same user, and may no more than that user."""
    folder = files.server.shares / "closed"
    folder.mkdir(exist_ok=True)
    (folder / "data").write_text(SECRET)
    (folder / "data").chmod(0o660 if IS_ROOT else 0)  # root's groups are not the sandbox's either
    folder.chmod(0o755 if IS_ROOT else 0o555)
    files.reset()
    files.session = None
    assert not files.share(folder, "/data/closed", "mount", read_only=False).is_error
    assert not files.ask("stat_file", path="/data/closed/data").is_error
    for name, arguments in (("read_file", {"path": "/data/closed/data"}),
                            ("write_file", {"path": "/data/closed/data", "content": "x"}),
                            ("write_file", {"path": "/data/closed/new", "content": "x"}),
                            ("remove_file", {"path": "/data/closed/data"}),
                            ("copy_file", {"source": "/data/closed/data", "dest": "stolen"})):
        result = files.ask(name, **arguments)
        assert result.is_error and SECRET not in str(result.raw), (name, result)
    folder.chmod(0o755)
    (folder / "data").chmod(0o660)
    assert (folder / "data").read_text() == SECRET
