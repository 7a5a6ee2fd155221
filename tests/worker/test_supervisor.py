"""The supervisor alone, on each interpreter: what it relays, how workers end, what is left."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from conftest import INTERPRETERS
from far import (
    INTERRUPT,
    KILL,
    LAUNCH,
    PIECE,
    PUT,
    PUT_END,
    SETUP,
    SOURCE,
    Far,
    Gone,
    archive_of,
    package_files,
)

NOBODY = [b"\xff\xff\xff\xff\x20", b"\x00\x00\x00\x00\x99", b"\x02\x00\x00\x00\x20[]",
          b"\x01\x00\x00\x00\x20{", b"\x00\x00\x00\x00\x21"]


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, limit=10):
    """Waits for it."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(params=sorted({python for python, _args in INTERPRETERS.values()}))
def far(request):
    """A far side of its own, with a worker."""
    one = Far(request.param)
    one.start()
    yield one
    one.close()
    assert not os.path.exists(one.folder)


@pytest.fixture
def one(tmp_path):
    """one(setup, …) makes a far side of the system's interpreter."""
    made = []

    def make(setup=None, **options):
        options.setdefault("env", {"TMPDIR": str(tmp_path)})
        made.append(Far("/usr/bin/python3", setup, **options))
        return made[-1]

    yield make
    for far in made:
        far.close()
    assert [name for name in os.listdir(tmp_path) if name.startswith("cellblock-far-")] == []


class TestRuns:
    def test_text_and_figures_are_in_order(self, far):
        far.run("print('a'); display('1'); print('b'); display('2'); print('c', end='')")
        order = [data if name == "stdout" else data["data"]["text/plain"]
                 for name, data in far.events if name in ("stdout", "display")]
        assert order == [b"a\n", "'1'", b"b\n", "'2'", b"c"]

    def test_the_working_folder_is_home(self, far):
        far.run("import os, tempfile\nprint(os.getcwd(), os.environ['HOME'], "
                "tempfile.gettempdir(), os.listdir(tempfile.gettempdir()))")
        home = far.folder + "/workspace"
        assert far.text() == f"{home} {home} {far.folder}/tmp []\n"

    def test_children_write_too(self, far):
        far.run("import subprocess, sys\nprint('one')\nsubprocess.run(['echo', 'two'])\n"
                "subprocess.run('echo three >&2', shell=True)")
        assert far.text() == "one\ntwo\n" and far.text("stderr") == "three\n"

    def test_output_between_runs_flows(self, far):
        far.run("import threading\nt = threading.Timer(0.1, lambda: print('late'))\nt.start()")
        assert far.wait("stdout") == b"late\n"

    def test_output_before_a_run_is_before_its_beginning(self, far):
        far.run("import threading\nt = threading.Timer(0.1, lambda: print('late'))\nt.start()")
        time.sleep(0.4)
        far.run("t.join(); print('mine')")
        names = [name for name, _ in far.events]
        assert names.index("stdout") < names.index("begun") < names.index("done")
        assert far.text() == "late\nmine\n"

    def test_hundred_megabytes_to_a_slow_reader(self, far):
        far.begin("import sys\nfor n in range(1000): sys.stdout.write('x' * 100000)")
        time.sleep(1)
        with open(f"/proc/{far.process.pid}/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 200 << 20
        far.wait("done", 60)
        assert len(far.text()) == 100_000_000

    def test_a_large_display(self, far):
        far.run("class Big:\n    def _repr_html_(self): return 'x' * 1500000\nBig()")
        (data,) = [data for name, data in far.events if name == "display"]
        assert len(data["data"]["text/html"]) == 1_500_000

    def test_code_cannot_reach_the_stream(self, far):
        far.run("import os\ntargets = [os.readlink('/proc/self/fd/' + n) for n in "
                "os.listdir('/proc/self/fd') if os.path.islink('/proc/self/fd/' + n)]\n"
                "print(len([t for t in targets if t.startswith('pipe:')]))")
        # stdout, stderr, and the copies that the worker keeps of them
        assert int(far.text()) <= 4

    def test_the_supervisor_cannot_be_looked_into(self, far):
        """Root may look into everything; its processes have another wall, the container's."""
        far.run("import os\nos.listdir('/proc/%d/fd' % os.getppid())")
        error = far.events[-1][1]["error"]
        assert (error["etype"] if error else None) == (
            None if os.getuid() == 0 else "PermissionError")


class TestEnds:
    @pytest.mark.parametrize("code, how, number", [
        ("os._exit(3)", "code", 3),
        ("os._exit(0)", "code", 0),
        ("os.kill(os.getpid(), 11)", "signal", 11),
        ("os.kill(os.getpid(), 9)", "signal", 9),
        ("os.abort()", "signal", 6),
    ])
    def test_how(self, far, code, how, number):
        far.begin(f"import os; print('last'); import sys; sys.stdout.flush(); {code}")
        ended = far.wait("exit")
        assert ended["how"] == how and ended[how] == number
        assert ended["peak_rss_kib"] > 0 and ended["cpu_ms"] >= 0
        assert far.text() == "last\n"
        far.start()
        assert far.run("'again'")["status"] == "ok"

    def test_what_a_run_had_made(self, far):
        """It is told with the end of a worker that had a run, by the clock of the files."""
        assert "changed" not in far.run("import pathlib, time; time.sleep(0.05)")
        made = far.run("pathlib.Path('before').write_text('x'); time.sleep(0.05)")["changed"]
        assert [file[0] for file in made["files"]] == ["before"]
        far.begin("import os; pathlib.Path('new').write_bytes(b'GIF89a'); "
                  "os.utime('new', (1, 1)); pathlib.Path('.hidden').touch(); os._exit(1)")
        changed = far.wait("exit")["changed"]
        assert changed == {"files": [["new", 6, 10**9, True]], "more": 0}
        far.start()
        far.run("import time; time.sleep(0.05)")
        far.begin("import os; os._exit(1)")
        assert "changed" not in far.wait("exit")
        far.start()
        far.run("import pathlib, time; pathlib.Path('new').write_text('done')")
        far.send(KILL)
        assert "changed" not in far.wait("exit")
        far.start()
        far.begin("import pathlib, time; pathlib.Path('late').touch()\n"
                  "print('made', flush=True); time.sleep(60)")
        while "made" not in far.text():
            far.next()
        far.send(KILL)
        assert "late" in [file[0] for file in far.wait("exit")["changed"]["files"]]

    def test_all_that_it_left_is_ended(self, far):
        far.run("""
import os, subprocess, sys
def deep(n):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if n: deep(n - 1)
            print(os.getpid(), flush=True)
            import time; time.sleep(100)
        os._exit(0)
deep(3)
import time; time.sleep(0.5)""")
        pids = [int(word) for word in far.text().split()]
        assert len(pids) == 4 and all(map(alive, pids))
        far.begin("os._exit(1)")
        far.wait("exit")
        assert not any(map(alive, pids))

    def test_interrupt(self, far):
        far.begin("kept = 1\nimport time\ntime.sleep(60)")
        time.sleep(0.3)
        far.send(INTERRUPT)
        assert far.wait("done")["status"] == "interrupted"
        assert far.run("kept")["status"] == "ok"

    def test_a_signal(self, far):
        """To the worker alone; one that it does not handle ends it."""
        far.begin("import signal, subprocess, time\n"
                  "signal.signal(signal.SIGUSR1, lambda *_: print('caught', flush=True))\n"
                  "child = subprocess.Popen(['sleep', '60'])\n"
                  "print('ready', flush=True)\n"
                  "while True: time.sleep(0.01)")
        while "ready" not in far.text():
            far.next()
        far.send(INTERRUPT, b"\x0a")
        while "caught" not in far.text():
            far.next()
        far.send(INTERRUPT, b"\x0f")
        assert far.wait("exit")["signal"] == 15

    def test_kill(self, far):
        far.begin("import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                  "time.sleep(60)")
        time.sleep(0.2)
        far.send(KILL)
        assert far.wait("exit")["signal"] == signal.SIGKILL
        far.send(KILL)  # nobody is there
        far.start()
        assert far.run("1")["status"] == "ok"

    def test_a_worker_that_closes_its_stream(self, far):
        far.begin("import os, time\nos.closerange(3, 3000)\ntime.sleep(60)")
        assert far.wait("exit")["how"] == "protocol"

    def test_a_worker_that_breaks_the_protocol(self, far):
        far.begin("""
import os, stat, time
for fd in range(3, 3000):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'\\0\\0\\0\\0\\x30')
    except OSError: pass
time.sleep(60)""")
        assert far.wait("exit")["how"] == "protocol"
        far.start()
        assert far.run("1")["status"] == "ok"


class TestLimits:
    def test_memory_of_all_together(self, one):
        far = one({"memory": 300 << 20})
        far.start()
        far.begin("import os, time\nfor n in range(4):\n    if os.fork() == 0:\n"
                  "        x = bytearray(b'x') * (100 << 20)\n        time.sleep(60)\n"
                  "time.sleep(60)")
        ended = far.wait("exit")
        assert ended["how"] == "memory" and ended["limit"] == 300 << 20
        assert ended["used"] > ended["limit"]

    def test_memory_of_one(self, one):
        far = one({"memory": 300 << 20, "rlimits": True})
        far.start()
        done = far.run("x = bytearray(400 << 20)")
        assert done["error"]["etype"] == "MemoryError"

    def test_what_fits(self, one):
        far = one({"memory": 300 << 20, "disk": 32 << 20, "processes": 64, "rlimits": True})
        far.start()
        assert far.run("import time\nx = bytearray(b'x') * (50 << 20)\n"
                       "with open('f', 'wb') as f: f.write(bytes(16 << 20))\n"
                       "time.sleep(0.3)")["status"] == "ok"

    def test_disk(self, one):
        far = one({"disk": 16 << 20})
        far.start()
        far.begin("import time\nfor n in range(5):\n"
                  "    with open(f'f{n}', 'wb') as f: f.write(bytes(5 << 20))\ntime.sleep(60)")
        ended = far.wait("exit")
        assert ended["how"] == "disk" and ended["limit"] == 16 << 20

    def test_too_many_files(self, one):
        far = one({"disk": 1 << 20})
        far.start()
        far.begin("import time\nfor n in range(6000): open(f'{n}', 'w').close()\ntime.sleep(60)")
        assert far.wait("exit")["how"] in ("files", "disk")

    def test_processes(self, one):
        far = one({"processes": 20})
        far.start()
        far.begin("import os, time\nfor n in range(40):\n"
                  "    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)")
        ended = far.wait("exit")
        assert ended["how"] == "processes" and ended["limit"] == 20


class TestShares:
    TREE = {"": None, "sub": None, "sub/f": b"hello", "zero": b"", "link": ("link", "sub/f"),
            "large": b"0123456789" * 100_000}

    def test_a_folder(self, far):
        assert far.put("/workspace/in/tree", archive_of(self.TREE)) is None
        far.run("import os\nos.chdir('in/tree')\nprint(sorted(os.listdir('.')), "
                "open('link').read(), os.path.getsize('large'), os.path.getmtime('sub/f'), "
                "oct(os.stat('sub/f').st_mode))")
        assert far.text() == ("['large', 'link', 'sub', 'zero'] hello 1000000 1600000000.0 "
                              "0o100640\n")

    def test_while_a_run_goes_on(self, far):
        far.begin("import os, time\nwhile not os.path.exists('flag'): time.sleep(0.01)\n"
                  "print(open('flag').read())")
        assert far.put("/workspace/flag", archive_of({"": b"go"})) is None
        if "done" not in [name for name, _ in far.events]:
            far.wait("done")
        assert far.text() == "go\n"

    def test_a_dest_that_is_taken(self, far):
        assert far.put("/workspace/f", archive_of({"": b"1"})) is None
        for archive in (archive_of({"": b"2"}), archive_of({"": None, "x": b"2"})):
            assert far.put("/workspace/f", archive)["kind"] == "exists"
        far.run("import os\nprint(open('f').read(), os.listdir('.'))")
        assert far.text() == "1 ['.local', 'f']\n" or "'f'" in far.text()

    def test_links_in_the_way(self, far, tmp_path):
        far.run(f"import os\nos.symlink({str(tmp_path)!r}, 'sly')")
        assert far.put("/workspace/sly/f", archive_of({"": b"1"}))["kind"] == "invalid"
        far.run(f"os.symlink({str(tmp_path / 'x')!r}, 'dangling')")
        assert far.put("/workspace/dangling", archive_of({"": b"1"}))["kind"] == "exists"
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("names", [["share/../../../tmp/evil"], ["share", "share/../x"],
                                       ["share//x"], ["share/x"]])
    def test_bad_archives(self, far, names):
        files = {}
        for name in names:
            files[name] = b"evil"
        archive = archive_of({name[len("share/"):] if name.startswith("share/") else "": data
                              for name, data in files.items()})
        assert far.put("/workspace/bad", archive)["kind"] == "invalid"
        assert not os.path.lexists(far.folder + "/workspace/bad")

    def test_garbage_for_an_archive(self, far):
        assert far.put("/workspace/bad", b"garbage" * 1000)["kind"] == "invalid"
        assert far.put("/workspace/bad", b"")["kind"] == "invalid"
        assert os.listdir(far.folder + "/workspace") in ([], [".local"])

    def test_past_the_limit(self, far):
        archive = archive_of({"": None, "a": b"x" * 70_000, "b": b"x" * 70_000})
        assert far.put("/workspace/much", archive, limit=100_000)["kind"] == "space"
        assert far.put("/workspace/much", archive, number=2, limit=200_000) is None

    def test_given_up(self, far):
        far.put("/workspace/half", archive_of(self.TREE), whole=False)
        until(lambda: os.listdir(far.folder + "/workspace") in ([], [".local"]))

    def test_it_outlives_the_worker(self, far):
        archive = archive_of(self.TREE)
        far.send(PUT, {"id": 7, "dest": "/workspace/tree"})
        far.send(PIECE, b"\7\0\0\0" + archive[:100_000])
        far.begin("import os; os._exit(1)")
        far.wait("exit")
        far.send(PIECE, b"\7\0\0\0" + archive[100_000:])
        far.send(PUT_END, {"id": 7, "whole": True})
        assert far.wait("put_done") == {"id": 7, "error": None}
        taken = [data["bytes"] for name, data in far.events if name == "taken"]
        assert taken == sorted(taken) and taken[-1] <= len(archive)


class TestStream:
    @pytest.mark.parametrize("phase", range(4))
    def test_closed_in_every_phase(self, one, phase, tmp_path):
        far = one(False if phase == 0 else None)
        pids = []
        if phase >= 2:
            pids.append(far.start())
        if phase >= 3:
            far.begin("import os, time\nfor n in range(3): os.fork()\n"
                      "os.getsid(0) == os.getpid() or os.setsid()\n"
                      "print(os.getpid(), flush=True)\ntime.sleep(60)")
            while len(far.text().split()) < 8:
                far.next()
            pids += map(int, far.text().split())
        far.process.stdin.close()
        assert far.process.wait(10) == 0
        assert not any(map(alive, pids))
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_ended_by_a_signal(self, one, number, tmp_path):
        far = one()
        pid = far.start()
        far.process.send_signal(number)
        far.process.wait(10)
        assert not alive(pid) and os.listdir(tmp_path) == []

    def test_killed(self, one, tmp_path):
        far = one()
        pid = far.start()
        far.process.kill()
        until(lambda: not alive(pid))
        assert os.listdir(tmp_path) != []
        one()  # the next one sweeps what the first could not
        until(lambda: len(os.listdir(tmp_path)) == 1)

    def test_a_folder_that_is_hard_to_remove(self, one, tmp_path):
        far = one()
        far.start()
        assert far.run("""
import os
os.makedirs('a/b/c'); open('a/b/c/f', 'w').close()
os.chmod('a/b/c', 0); os.chmod('a/b', 0); os.chmod('a', 0)
os.symlink('/etc', 'etc'); os.mkfifo('fifo')
for n in range(1500):
    os.mkdir('d'); os.chdir('d')""")["status"] == "ok"

    @pytest.mark.parametrize("garbage", NOBODY)
    def test_garbage(self, one, garbage):
        far = one(False)
        far.process.stdin.write(garbage)
        with pytest.raises(Gone):
            far.next()

    @pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x00\x99", b"\xff\xff\xff\xff\x01",
                                         b"\x00\x00\x00\x00\x21"])
    def test_garbage_later(self, one, garbage):
        far = one()
        pid = far.start()
        far.process.stdin.write(garbage)
        with pytest.raises(Gone):
            far.next()
        assert not alive(pid)

    def test_a_socket_as_the_stream(self, tmp_path):
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-I", "-u", "-c", LAUNCH.format(source=SOURCE, before="")],
            stdin=theirs, stdout=theirs, env={"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]})
        theirs.close()
        ours.sendall(b"\x02\x00\x00\x00" + bytes([SETUP]) + b"{}")
        assert b'"cellblock"' in ours.recv(4096)
        ours.close()
        assert process.wait(10) == 0 and os.listdir(tmp_path) == []


def test_the_loader_needs_no_file():
    code = ("import sys\nfiles = eval(sys.stdin.read())\n"
            "exec(compile(files['cellblock_worker/loader.py'], 'x', 'exec'), "
            "{'__name__': 'x', 'f': 0, 'sys': sys, 'wanted': files})\n")
    # `files` not being among its globals, it only defines; then the finder is used by hand.
    code += ("scope = {}\nexec(files['cellblock_worker/loader.py'], scope)\n"
             "sys.meta_path.insert(0, scope['Finder'](files))\n"
             "import cellblock_worker.supervisor as s, inspect\n"
             "print(s.__file__, 'class Supervisor' in inspect.getsource(s))\n")
    text = subprocess.run([sys.executable, "-I", "-c", code], input=repr(package_files()),
                          capture_output=True, text=True, check=True).stdout
    assert text == "<cellblock>/cellblock_worker/supervisor.py True\n"


def test_the_loader_reads_bytecode():
    """As it comes to a Python that is like the one that built us."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
    import compile_worker

    paths = [f"{SOURCE}/{name}" for name in package_files()]
    data = zlib.decompress(compile_worker.archive_of("cellblock_worker", paths))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(files) == sorted(name + ("" if name.endswith("/loader.py") else "c")
                                   for name in package_files())
    code = ("import sys\nfiles = eval(sys.stdin.read())\nscope = {}\n"
            "exec(files['cellblock_worker/loader.py'], scope)\n"
            "finder = scope['Finder'](files)\nsys.meta_path.insert(0, finder)\n"
            "import cellblock_worker.supervisor as s\n"
            "print(s.__file__, s.Supervisor.run.__code__.co_filename, finder.get_source('x'))\n")
    text = subprocess.run([sys.executable, "-I", "-c", code], input=repr(files),
                          capture_output=True, text=True, check=True).stdout
    name = "<cellblock>/cellblock_worker/supervisor.py"
    assert text == f"{name} {name} None\n"


def test_a_start_that_comes_with_the_setup(one):
    far = one({"start": True})
    assert far.wait("started")["pid"]
    far.wait("greeting")
    assert far.run("print(1)")["status"] == "ok" and far.text() == "1\n"
    far.send(KILL)
    far.wait("exit")
    far.start()
    far.run("print(2)")
    assert far.text() == "2\n"


def test_the_words_of_a_start_come_in_one_piece(one):
    """A stream that waits for an answer to the first of two small pieces loses 40 ms by it."""
    far = one(False)
    far.send(SETUP, {"workspace": None, "env": {}, "start": True})
    pieces = []
    while b'"ipython"' not in b"".join(pieces):
        pieces.append(os.read(far.process.stdout.fileno(), 1 << 20))
    assert len(pieces) == 1


def test_a_workspace_that_is_given(tmp_path, one):
    place = tmp_path / "given"
    far = one({"workspace": str(place), "env": {"MINE": "1", "TZ": "Asia/Tokyo"}})
    assert far.folder is None
    far.start()
    far.run("import os, time\nprint(os.getcwd(), os.environ['MINE'], time.tzname[0])")
    assert far.text() == f"{place} 1 JST\n"
    assert far.put(f"{place}/x", archive_of({"": b"x"})) is None
    assert (place / "x").read_text() == "x"
    assert stat.S_IMODE((place / "x").stat().st_mode) == 0o640


def test_the_users_own_packages(tmp_path, one):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("value = 42")
    far = one(env={"PYTHONPATH": str(tmp_path / "lib"), "TMPDIR": str(tmp_path)})
    far.start()
    far.run("import mine; print(mine.value)")
    assert far.text() == "42\n"
