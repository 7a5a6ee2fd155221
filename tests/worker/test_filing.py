"""Operations on files at the far side, on each interpreter: what filing.py does, and refuses."""

import os
import socket
import stat
import time

import pytest
from conftest import INTERPRETERS
from far import FILE, KILL, PIECE, Far, Gone

ODD = [b"new\nline", b"tab\there", b"back\\slash", b"\xff\xfe not UTF-8", b"\xe4\xb8\xad", b"-rf",
       b" ", b"a" * 255]


# Root without its power over permissions, so that these can be tested by whoever runs the tests.
BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.getuid() == 0 else ()


@pytest.fixture(params=sorted({python for python, _args in INTERPRETERS.values()}), scope="module")
def shared(request):
    """A far side for a whole module: requests leave nothing behind in it."""
    one = Far(request.param, command=BOUND)
    yield one
    one.close()
    assert not os.path.exists(one.folder)


@pytest.fixture
def far(shared):
    """The far side, with an empty working directory."""
    shared.home = os.fsencode(shared.folder) + b"/workspace"
    yield shared
    assert left_overs(shared.home) == []
    os.rename(shared.home, shared.home + b"-%d" % time.monotonic_ns())
    os.mkdir(shared.home)


def left_overs(folder):
    """Names of what a request has not finished."""
    return [name for _, folders, files in os.walk(folder) for name in folders + files
            if name.startswith(b".cellblock")]


def make(far, files):
    """Makes {path: bytes, None for a folder, ("link", target)} in the working directory."""
    for name, content in files.items():
        path = os.path.join(far.home, name.encode() if isinstance(name, str) else name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if content is None:
            os.makedirs(path, exist_ok=True)
        elif isinstance(content, tuple):
            os.symlink(content[1], path)
        else:
            with open(path, "wb") as file:
                file.write(content)


def read(far, name):
    """The bytes of a file there."""
    with open(os.path.join(far.home, name), "rb") as file:
        return file.read()


class TestStat:
    def test_what_is_told(self, far):
        make(far, {"f": b"12345", "d/x": b"", "l": ("link", "nowhere")})
        os.chmod(far.home + b"/f", 0o640)
        os.utime(far.home + b"/f", ns=(1, 1_600_000_000_123_456_789))
        entry = far.file("stat", "f").entry
        assert (entry.kind, entry.size, entry.mode) == ("file", 5, 0o640)
        assert entry.mtime_ns == 1_600_000_000_123_456_789 and entry.name == b""
        folder, link = far.file("stat", "d").entry, far.file("stat", "l").entry
        assert (folder.kind, folder.size) == ("directory", 0)
        assert (link.kind, link.size, link.target) == ("symlink", 7, b"nowhere")

    def test_times_before_1970(self, far):
        make(far, {"old": b""})
        os.utime(far.home + b"/old", ns=(0, -5_000_000_000))
        assert far.file("stat", "old").entry.mtime_ns == -5_000_000_000

    def test_others(self, far):
        os.mkfifo(far.home + b"/fifo")
        with socket.socket(socket.AF_UNIX) as one:
            os.chdir(far.home)
            one.bind("socket")
            os.chdir("/")
        kinds = {far.file("stat", name).entry.kind for name in ("fifo", "socket", "/dev/null")}
        assert kinds == {"other"}

    def test_missing(self, far):
        assert far.file("stat", "none").kind == "missing"
        make(far, {"f": b"", "loop": ("link", "loop")})
        assert far.file("stat", "f/below").kind == "invalid"
        assert far.file("stat", "loop/below").kind == "invalid"
        assert far.file("stat", b"x" * 256).kind == "invalid"

    @pytest.mark.parametrize("path", [b"", b"a\0b", b"x/" * 2048])
    def test_no_path(self, far, path):
        assert far.file("stat", path).kind == "invalid"


class TestPaths:
    def test_where_they_lead(self, far):
        """/workspace and /tmp are in the private folder, which has its own name as well."""
        make(far, {"f": b"mine"})
        for path in ("f", "./f", "/workspace/f", "//workspace/f", "/tmp/../workspace/f",
                     far.folder + "/workspace/f"):
            assert far.file("read", path, length=9).content == b"mine", path
        assert far.file("stat", "/workspace").entry.kind == "directory"
        far.file("write", "/tmp/there", content=b"1")
        assert os.listdir(far.folder + "/tmp") == ["there"]
        assert far.file("remove", "/tmp/there").kind is None

    def test_the_rest_of_the_machine(self, far):
        assert far.file("read", "/etc/passwd", length=1 << 20).content.startswith(b"root:")
        assert far.file("list", "/", limit=5).names

    def test_a_folder_of_its_own(self, tmp_path):
        home = tmp_path / "work"
        one = Far("/usr/bin/python3", {"workspace": str(home)})
        try:
            one.file("write", "f", content=b"1")
            assert (home / "f").read_bytes() == b"1"
            assert one.file("read", str(home / "f"), length=5).content == b"1"
            assert one.file("remove", ".", recursive=True).kind == "invalid"
            assert one.file("remove", str(home), recursive=True).kind == "invalid"
        finally:
            one.close()

    def test_the_working_directory_is_gone(self, far):
        os.rename(far.home, far.home + b"-gone")
        answer = far.file("stat", "f")
        os.rename(far.home + b"-gone", far.home)
        assert answer.kind == "missing" and "working directory" in answer.text


class TestRead:
    def test_parts(self, far):
        data = bytes(range(256)) * 2000
        make(far, {"f": data})
        for offset, length in ((0, 10), (5, 100), (0, 1 << 62), (len(data) - 3, 10),
                               (len(data), 10), (1 << 40, 1), ((1 << 63) - 1, 1 << 30), (7, 0)):
            answer = far.file("read", "f", offset=offset, length=length)
            assert answer.content == data[offset:offset + length], (offset, length, answer.text)
            assert answer.entry.size == len(data)

    def test_the_most_of_it(self, far):
        make(far, {"f": b"x" * (9 << 20)})
        assert len(far.file("read", "f", length=1 << 40).content) == 8 << 20

    def test_links_are_followed(self, far):
        make(far, {"d/f": b"1", "l": ("link", "d/f"), "m": ("link", "l"), "n": ("link", "d"),
                   "dangling": ("link", "nowhere"), "loop": ("link", "loop")})
        for name in ("l", "m", "n/f"):
            answer = far.file("read", name, length=5)
            assert answer.content == b"1" and answer.entry.kind == "file"
        assert far.file("read", "dangling", length=5).kind == "missing"
        assert far.file("read", "loop", length=5).kind == "invalid"

    def test_only_files(self, far):
        os.mkfifo(far.home + b"/fifo")
        make(far, {"d": None, "l": ("link", "fifo")})
        for name in ("fifo", "l", "d", "/dev/zero", "/dev/tty"):
            started = time.monotonic()
            answer = far.file("read", name, length=5)
            assert answer.kind == "invalid" and answer.text, name
            assert time.monotonic() - started < 10

    def test_a_file_without_a_size(self, far):
        """One of the kernel's says that it has none; and what it has is read."""
        answer = far.file("read", "/proc/version", length=1000)
        assert answer.entry.size == 0 and b"Linux" in answer.content

    def test_may_not(self, far):
        make(far, {"f": b"1"})
        os.chmod(far.home + b"/f", 0)
        assert far.file("read", "f", length=1).kind == "refused"

    def test_one_that_grows(self, far):
        """It ends where it was asked to, however fast it grows."""
        far.start()
        far.begin("import time\nend = time.monotonic() + 30\nwith open('grows', 'wb') as f:\n"
                  "    while time.monotonic() < end:\n"
                  "        f.write(b'x' * 65536) if f.tell() < 64 << 20 else f.seek(0)\n")
        while far.file("stat", "grows").kind:
            time.sleep(0.01)
        for _ in range(3):
            assert len(far.file("read", "grows", length=1 << 20).content) <= 1 << 20
        far.send(KILL)
        far.wait("exit")


class TestList:
    def test_sorted_and_whole(self, far):
        names = sorted(ODD + [b"B", b"a", b"a.txt", b"a-b", b"\xc3\xa9"])
        make(far, {name: b"12" for name in names})
        answer = far.file("list", ".", limit=100)
        assert answer.names == names and not answer.more
        assert {(e.kind, e.size) for e in answer.entries} == {("file", 2)}

    def test_below(self, far):
        make(far, {"a/x": b"1", "a/y/z": b"", "a.txt": b"", "b": ("link", "a"), "c": None})
        names = [b"a", b"a.txt", b"a/x", b"a/y", b"a/y/z", b"b", b"c"]
        assert names == sorted(names)
        assert far.file("list", "/workspace", limit=100, recursive=True).names == names
        assert far.file("list", "b", limit=100).names == [b"x", b"y"]
        assert far.file("list", "a/", limit=100, recursive=True).names == [b"x", b"y", b"y/z"]

    def test_the_first_of_them(self, far):
        """A limit leaves the first, in order; `more` is true only when something was left out."""
        make(far, {f"{n:03}/f": b"" for n in range(100)})
        everything = far.file("list", ".", limit=20000, recursive=True)
        assert len(everything.names) == 200 and not everything.more
        for limit in (1, 2, 3, 199):
            answer = far.file("list", ".", limit=limit, recursive=True)
            assert answer.names == everything.names[:limit] and answer.more
        assert not far.file("list", ".", limit=200, recursive=True).more

    def test_past_the_most(self, far):
        folder = far.home + b"/many"
        os.mkdir(folder)
        for n in range(20_003):
            os.symlink(b"t", folder + b"/%06d" % n)
        answer = far.file("list", "many", limit=1 << 30)
        assert len(answer.names) == 20_000 and answer.more
        assert answer.names == sorted(answer.names) and answer.names[0] == b"000000"

    def test_too_many_bytes_of_names(self, far):
        folder = far.home + b"/long"
        os.mkdir(folder)
        for n in range(1200):
            os.symlink(b"t" * 4000, folder + b"/%05d" % n)
        answer = far.file("list", "long", limit=20_000)
        assert answer.more and 1000 < len(answer.names) <= (4 << 20) // 4005

    def test_too_deep(self, far):
        os.makedirs(far.home + b"/d" * 70)
        answer = far.file("list", ".", limit=1000, recursive=True)
        assert answer.more and 60 < len(answer.names) < 70

    def test_no_folders(self, far):
        make(far, {"f": b"", "loop": ("link", "loop")})
        assert far.file("list", "f", limit=9).kind == "invalid"
        assert far.file("list", "none", limit=9).kind == "missing"
        assert far.file("list", "loop", limit=9).kind == "invalid"
        make(far, {"empty": None})
        assert far.file("list", "empty", limit=9).names == []

    def test_what_may_not_be_looked_into(self, far):
        make(far, {"shut/f": b"", "open": b""})
        os.chmod(far.home + b"/shut", 0)
        assert far.file("list", ".", limit=9, recursive=True).names == [b"open", b"shut"]
        assert far.file("list", "shut", limit=9).kind == "refused"
        os.chmod(far.home + b"/shut", 0o700)


class TestWrite:
    def test_a_new_one(self, far):
        for name in ODD:
            assert far.file("write", b"sub/deep/" + name, content=b"1").entry.size == 1
            assert read(far, b"sub/deep/" + name) == b"1"
        assert stat.S_IMODE(os.stat(far.home + b"/sub/deep").st_mode) == 0o755

    def test_modes(self, far):
        assert far.file("write", "f", content=b"1").entry.mode == 0o644
        assert far.file("write", "f", content=b"2", mode=0o600).entry.mode == 0o600
        assert far.file("write", "f", content=b"3").entry.mode == 0o600
        assert far.file("write", "g", content=b"", mode=0o777).entry.mode == 0o777
        assert far.file("write", "g", content=b"", append=True, mode=0o640).entry.mode == 0o640

    def test_the_largest(self, far):
        data = os.urandom(1 << 20) * 8
        assert far.file("write", "f", content=data).entry.size == 8 << 20
        assert read(far, b"f") == data

    def test_appending(self, far):
        for part in (b"one ", b"", b"two"):
            assert far.file("write", "log", content=part, append=True).kind is None
        assert read(far, b"log") == b"one two"
        make(far, {"l": ("link", "log")})
        assert far.file("write", "l", content=b"!", append=True).entry.kind == "file"
        assert read(far, b"log") == b"one two!"

    def test_whoever_has_it_open_keeps_the_old_one(self, far):
        make(far, {"f": b"old"})
        with open(far.home + b"/f", "rb") as file:
            far.file("write", "f", content=b"new")
            assert file.read() == b"old"
        assert read(far, b"f") == b"new"

    def test_where_a_link_leads(self, far):
        make(far, {"d/f": b"1", "l": ("link", "d/f"), "m": ("link", "l"),
                   "dangling": ("link", "d/new"), "loop": ("link", "loop")})
        for name, there in (("m", b"d/f"), ("dangling", b"d/new")):
            assert far.file("write", name, content=b"2").kind is None
            assert read(far, there) == b"2" and os.path.islink(far.home + b"/" + name.encode())
        assert far.file("write", "loop", content=b"2").kind == "invalid"

    def test_only_files(self, far):
        os.mkfifo(far.home + b"/fifo")
        make(far, {"d/x": b"", "l": ("link", "fifo"), "f": b"1"})
        for append in (False, True):
            for name in ("fifo", "l", "d", "/dev/null", "f/below", ".", "..", "new/"):
                answer = far.file("write", name, content=b"2", append=append)
                assert answer.kind == "invalid" and answer.text, (name, append)
        assert os.path.isdir(far.home + b"/d") and read(far, b"f") == b"1"
        assert stat.S_ISFIFO(os.stat(far.home + b"/fifo").st_mode)

    def test_too_long_a_name(self, far):
        assert far.file("write", "x" * 256, content=b"1").kind == "invalid"

    def test_may_not(self, far):
        make(far, {"f": b"1", "d": None})
        os.chmod(far.home + b"/f", 0o444)
        os.chmod(far.home + b"/d", 0o500)
        assert far.file("write", "f", content=b"2").kind == "refused"
        assert far.file("write", "d/f", content=b"2").kind == "refused"
        os.chmod(far.home + b"/d", 0o700)

    def test_no_room(self):
        """Past the size that a file may have: it is the old one."""
        one = Far("/usr/bin/python3", {"disk": 1 << 20, "rlimits": True})
        one.home = os.fsencode(one.folder) + b"/workspace"
        try:
            one.file("write", "f", content=b"old")
            for append in (False, True):
                answer = one.file("write", "f", content=b"x" * (2 << 20), append=append)
                assert answer.kind == "space" and read(one, b"f") == b"old"
            assert os.listdir(one.home) == [b"f"]
        finally:
            one.close()

    def test_content_that_nobody_takes(self, far):
        """What has been answered takes nothing more, and says no more."""
        far.ask("write", b"a\0b", 401, content=b"x" * 3_000_000)
        assert far.answer(401)[1]["error"]["kind"] == "invalid"
        far.events.clear()
        assert far.file("stat", ".").kind is None
        assert [name for name, _ in far.events if name == "taken"] == []

    def test_content_that_stops(self, tmp_path):
        """The stream ends in the middle: nothing was made."""
        one = Far("/usr/bin/python3", {"workspace": str(tmp_path / "work")})
        one.send(FILE, {"id": 1, "op": "write", "path": "sub/f", "size": 1000})
        one.send(PIECE, b"\1\0\0\0" + b"x" * 500)
        one.wait("taken")
        one.close()
        assert os.listdir(tmp_path / "work") == []


class TestFolders:
    def test_made(self, far):
        assert far.file("mkdir", "a/b/c").entry.kind == "directory"
        assert far.file("mkdir", "a/b/c", mode=0o700).entry.mode == 0o755  # it was there
        assert far.file("mkdir", "a/private/", mode=0o700).entry.mode == 0o700
        make(far, {"l": ("link", "a"), "f": b"", "dangling": ("link", "nowhere")})
        assert far.file("mkdir", "l").kind is None
        for name in ("f", "f/x", "dangling"):
            assert far.file("mkdir", name).kind == "invalid", name

    def test_removed(self, far):
        make(far, {"f": b"", "empty": None, "full/sub/x": b"", "l": ("link", "full")})
        assert far.file("remove", "full").kind == "invalid"
        for name in ("f", "empty", "l"):
            assert far.file("remove", name).kind is None
        assert os.listdir(far.home) == [b"full"] and os.listdir(far.home + b"/full")
        assert far.file("remove", "full/", recursive=True).kind is None
        assert far.file("remove", "full", recursive=True).kind == "missing"
        assert os.listdir(far.home) == []

    def test_removing_follows_no_link(self, far):
        make(far, {"kept/x": b"", "d/l": ("link", "../kept"), "d/" + "e/" * 3 + "f": b""})
        os.mkfifo(far.home + b"/d/fifo")
        assert far.file("remove", "d", recursive=True).kind is None
        assert os.listdir(far.home) == [b"kept"] and os.listdir(far.home + b"/kept") == [b"x"]

    @pytest.mark.parametrize("path", ["/", ".", "/workspace", "/workspace/", "/tmp", "..", "x/.."])
    def test_the_sandbox_itself_stays(self, far, path):
        make(far, {"f": b"", "x": None})
        assert far.file("remove", path, recursive=True).kind == "invalid"
        assert far.file("move", path, dest="/tmp/elsewhere").kind == "invalid"
        assert sorted(os.listdir(far.home)) == [b"f", b"x"]

    def test_too_deep_to_remove(self, far):
        """It is found out before anything is removed."""
        os.makedirs(far.home + b"/d" * 70)
        make(far, {"d/first": b""})
        answer = far.file("remove", "d", recursive=True)
        assert answer.kind == "limit" and sorted(os.listdir(far.home + b"/d")) == [b"d", b"first"]


class TestCopies:
    TREE = {"t/f": b"1", "t/sub/g": b"22", "t/l": ("link", "f"), "t/dangling": ("link", "no"),
            "t/empty": None, "t/\udcff": b""}

    def tree(self, far, top="t"):
        """Names and contents below a folder."""
        found = {}
        base = far.home + b"/" + top.encode()
        for folder, folders, files in os.walk(base):
            for name in folders + files:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, base)] = (
                    os.readlink(path) if os.path.islink(path)
                    else None if os.path.isdir(path) else open(path, "rb").read())
        return found

    def plant(self, far):
        make(far, {os.fsencode(name): content for name, content in self.TREE.items()})

    def test_a_file(self, far):
        make(far, {"f": b"12"})
        os.chmod(far.home + b"/f", 0o751)
        os.utime(far.home + b"/f", ns=(1, 1_500_000_000_000_000_001))
        entry = far.file("copy", "f", dest="g").entry
        assert (entry.mode, entry.mtime_ns) == (0o751, 1_500_000_000_000_000_001)
        assert read(far, b"g") == read(far, b"f") == b"12"

    def test_a_tree(self, far):
        self.plant(far)
        os.chmod(far.home + b"/t/sub", 0o711)
        os.utime(far.home + b"/t/sub", ns=(5, 5))
        assert far.file("copy", "t", dest="u").kind == "invalid"
        assert far.file("copy", "t", dest="u", recursive=True).entry.kind == "directory"
        assert self.tree(far, "u") == self.tree(far)
        found = os.stat(far.home + b"/u/sub")
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o711, 5)

    def test_links_are_copied_as_links(self, far):
        make(far, {"l": ("link", "nowhere"), "d": None, "m": ("link", "d")})
        for name in ("l", "m"):
            assert far.file("copy", name, dest=name + "2").entry.kind == "symlink"
        assert os.readlink(far.home + b"/m2") == b"d"

    def test_no_dest(self, far):
        make(far, {"f": b"1", "d/x": b"", "g": b"2", "l": ("link", "d")})
        for op in ("copy", "move"):
            more = {"recursive": True} if op == "copy" else {}
            for path, dest, kind in (("f", "g", "invalid"), ("f", "f", "invalid"),
                                     ("f", "no/f", "missing"), ("f", "g/f", "invalid"),
                                     ("f", "l", "invalid"), ("f", "new/", "invalid"),
                                     ("d", "d/y", "invalid"), ("d", "d/../d/z", "invalid"),
                                     ("d", "l/y", "invalid")):
                answer = far.file(op, path, dest=dest, **more)
                assert answer.kind == kind and answer.at_dest, (op, path, dest, answer.text)
            assert far.file(op, "none", dest="x").kind == "missing"
        assert self.tree(far, ".") == {b"f": b"1", b"d": None, b"d/x": b"", b"g": b"2", b"l": b"d"}

    @pytest.mark.parametrize("op", ["copy", "move"])
    def test_what_is_there_is_replaced(self, far, op):
        self.plant(far)
        make(far, {"old": b"", "full/x": b"", "empty": None, "f": b"1", "l": ("link", "t")})
        whole = self.tree(far)
        more = {"replace": True, "recursive": True}
        assert far.file(op, "f", dest="l", **more).entry.kind == "file"
        assert self.tree(far) == whole  # a link there is not followed
        source = "t"
        for dest in ("old", "full", "empty"):
            assert far.file(op, source, dest=dest, **more).kind is None
            assert self.tree(far, dest) == whole
            source = dest
        assert far.file(op, "l", dest="empty", **more).entry.kind == "file"
        assert os.path.exists(far.home + b"/l") == (op == "copy")

    def test_moving(self, far):
        self.plant(far)
        whole = self.tree(far)
        inode = os.stat(far.home + b"/t").st_ino
        assert far.file("move", "t/", dest="u/").entry.kind == "directory"
        assert os.stat(far.home + b"/u").st_ino == inode and self.tree(far, "u") == whole
        assert not os.path.exists(far.home + b"/t")
        make(far, {"d": None})
        assert far.file("move", "u/dangling", dest="d/it").entry.target == b"no"

    @pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs two file systems")
    def test_moving_between_file_systems(self, far):
        self.plant(far)
        whole = self.tree(far)
        there = "/dev/shm/cellblock-filing-%d" % os.getpid()
        if os.stat("/dev/shm").st_dev == os.stat(far.home).st_dev:
            pytest.skip("there is one file system")
        try:
            assert far.file("move", "t", dest=there).kind is None
            assert not os.path.exists(far.home + b"/t")
            assert far.file("move", there, dest="t").kind is None
        finally:
            far.file("remove", there, recursive=True)
        assert self.tree(far) == whole

    def test_what_is_no_file(self, far):
        os.mkdir(far.home + b"/d")
        os.mkfifo(far.home + b"/d/fifo")
        make(far, {"d/f": b""})
        assert far.file("copy", "d/fifo", dest="x").kind == "invalid"
        answer = far.file("copy", "d", dest="x", recursive=True)
        assert answer.kind == "invalid" and "fifo" in answer.text
        assert os.listdir(far.home) == [b"d"]
        assert far.file("move", "d/fifo", dest="moved").entry.kind == "other"

    def test_too_deep(self, far):
        os.makedirs(far.home + b"/d" * 70)
        assert far.file("copy", "d", dest="x", recursive=True).kind == "limit"
        assert os.listdir(far.home) == [b"d"]


class TestBeside:
    def test_a_run_that_does_not_end(self, far):
        far.start()
        far.begin("while True: pass")
        assert far.file("write", "f", content=b"x" * 3_000_000).kind is None
        assert len(far.file("read", "f", length=1 << 30).content) == 3_000_000
        far.send(KILL)
        far.wait("exit")
        assert far.file("stat", "f").entry.size == 3_000_000

    def test_many_at_once(self, far):
        make(far, {"f": b"x" * 300_000})
        for number in range(101, 131):
            far.ask("read", "f", number=number, length=1 << 20)
        parts, ended = {}, set()
        while len(ended) < 30:
            name, data = far.next()
            if name == "file_bytes":
                parts[data[:4]] = parts.get(data[:4], 0) + len(data) - 4
            elif name == "file_done":
                assert data["error"] is None
                ended.add(data["id"])
        assert set(parts.values()) == {300_000 + 23} and len(parts) == 30

    def test_a_reader_that_is_slow(self, far):
        """What nobody takes is not kept without end."""
        make(far, {"f": b"x" * (8 << 20)})
        for number in range(201, 217):
            far.ask("read", "f", number=number, length=8 << 20)
        time.sleep(1)
        with open(f"/proc/{far.process.pid}/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 250 << 20
        for _ in range(16):
            far.wait("file_done", 60)

    def test_requests_that_make_no_sense(self, far):
        make(far, {"f": b""})
        for number, fields in enumerate((
                {"op": "explode", "path": "f"}, {"op": "stat"}, {"op": "stat", "path": 7},
                {"op": "stat", "path": "\u4e2d"}, {"op": "copy", "path": "f"},
                {"op": "read", "path": "f", "length": "all"}, {}), 301):
            far.send(FILE, {"id": number, **fields})
            assert far.answer(number)[1]["error"]["kind"] in ("internal", "invalid"), fields

    def test_a_number_that_is_taken(self):
        one = Far("/usr/bin/python3")
        one.send(FILE, {"id": 5, "op": "write", "path": "f", "size": 5})
        one.send(FILE, {"id": 5, "op": "stat", "path": "."})
        with pytest.raises(Gone):
            one.answer(5)
        one.close()

    def test_the_end_in_the_middle_of_a_copy(self, tmp_path):
        """Who copies is told to stop, and undoes what it has done."""
        home = tmp_path / "work"
        (home / "many").mkdir(parents=True)
        for number in range(2000):
            (home / "many" / str(number)).write_bytes(bytes(20_000))
        one = Far("/usr/bin/python3", {"workspace": str(home)})
        one.ask("copy", "many", 1, dest="other", recursive=True)
        end = time.monotonic() + 10
        while len(os.listdir(home)) < 2 and time.monotonic() < end:
            pass
        one.close()
        assert set(os.listdir(home)) <= {"many", "other"}
