"""Output that stays where it was printed: the files, what is sent of it, and what is counted."""

import os
import re
import time

import pytest
from conftest import INTERPRETERS
from far import KILL, OUTPUT, Far

LINE = "line %07d\n"  # 13 bytes
PRINT = f"import sys\nfor n in range({{}}): sys.stdout.write({LINE!r} % n)"
PLAN = {"path": "/workspace/.cellblock/r-1", "after": 8192, "cap": 1 << 26,
        "head": 20_000, "tail": 20_000}


def lines(count):
    """What PRINT prints."""
    return "".join(LINE % n for n in range(count)).encode()


@pytest.fixture(params=sorted({python for python, _args in INTERPRETERS.values()}))
def far(request):
    """A far side of each interpreter, with a worker."""
    one = Far(request.param)
    one.start()
    yield one
    one.close()
    assert not os.path.exists(one.folder)


@pytest.fixture
def one():
    """one(setup, …) makes a far side of the system's interpreter, with a worker."""
    made = []

    def make(setup=None, **options):
        made.append(Far("/usr/bin/python3", setup, **options))
        made[-1].start()
        return made[-1]

    yield make
    for far in made:
        far.close()


def planned(far, code, end="done", timeout=60, **plan):
    """One run with such a plan for its output; the frame that ends it."""
    far.send(OUTPUT, {**PLAN, **plan})
    far.begin(code)
    return far.wait(end, timeout)


def path(far, stream="stdout"):
    """The file of a stream."""
    return f"{far.folder}/workspace/.cellblock/r-1.{stream}"


def read(far, stream="stdout"):
    """What it holds."""
    with open(path(far, stream), "rb") as file:
        return file.read()


def sent(far, stream="stdout"):
    """What came of a stream: [bytes | (bytes held, lines held)] in order, pieces joined."""
    found = []
    for name, data in far.events:
        if name == "held" and data["stream"] == stream:
            found.append((data["bytes"], data["lines"]))
        elif name == stream and found and isinstance(found[-1], bytes):
            found[-1] += data
        elif name == stream:
            found.append(data)
    return found


def kept(far):
    """The word on the files, which comes at most once a run, right before its end; or {}."""
    words = [data for name, data in far.events if name == "kept"]
    assert len(words) <= 1
    if words:
        assert far.events[-2][0] == "kept"
    return words[0] if words else {}


class TestWhatIsSent:
    def test_beginning_count_and_end(self, far):
        planned(far, PRINT.format(300_000))
        want = lines(300_000)
        gap = want[20_000:-20_000]
        assert sent(far) == [want[:20_000], (len(gap), gap.count(b"\n")), want[-20_000:]]
        assert read(far) == want and kept(far) == {"stdout": len(want)}
        assert os.stat(path(far)).st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("size", [0, 1, 8192, 8193, 20_000, 20_001, 39_999, 40_000, 40_001])
    def test_sizes_around_the_bounds(self, one, size):
        far = one()
        planned(far, f"import os\nos.write(1, b'x' * {size});")
        assert sum(len(p) if isinstance(p, bytes) else p[0] for p in sent(far)) == size
        assert [p for p in sent(far) if not isinstance(p, bytes)] == (
            [(1, 0)] if size == 40_001 else [])
        assert kept(far) == ({"stdout": size} if size > 8192 else {})
        assert os.path.exists(path(far)) == (size > 8192)

    def test_all_of_it(self, far):
        planned(far, PRINT.format(100_000), head=0, tail=0)
        assert sent(far) == [lines(100_000)] and read(far) == lines(100_000)

    def test_no_file(self, far):
        planned(far, PRINT.format(100_000), path=None)
        assert [type(p) for p in sent(far)] == [bytes, tuple, bytes]
        assert kept(far) == {} and not os.path.exists(path(far))

    def test_the_cap_of_a_file(self, far):
        planned(far, PRINT.format(100_000), cap=50_000)
        assert read(far) == lines(100_000)[:50_000] and kept(far) == {"stdout": 50_000}
        assert sum(len(p) if isinstance(p, bytes) else p[0] for p in sent(far)) == 1_300_000

    def test_streams_are_apart(self, far):
        planned(far, PRINT.format(50_000) + "\nsys.stderr.write('e' * 9000 + '\\n')")
        assert sent(far, "stderr") == [b"e" * 9000 + b"\n"] and len(sent(far)) == 3
        assert kept(far) == {"stdout": 650_000, "stderr": 9001}
        assert read(far, "stderr") == b"e" * 9000 + b"\n"

    def test_the_next_run_has_no_plan_of_its_own(self, far):
        planned(far, PRINT.format(50_000))
        far.run(PRINT.format(50_000))
        assert sent(far) == [lines(50_000)] and kept(far) == {}

    def test_what_is_cleared_makes_room_for_a_beginning(self, far):
        planned(far, f"{PRINT.format(50_000)}\ntry:\n    from IPython.display import clear_output\n"
                     "except ImportError: pass  # the plain shell has one\n"
                     "sys.stdout.flush()\nclear_output()\nprint('fresh')")
        names = [name for name, _ in far.events]
        at = names.index("clear")
        assert "held" in names[:at] and "held" not in names[at:]
        assert b"".join(data for name, data in far.events[at:] if name == "stdout") == b"fresh\n"
        assert names.count("kept") == 1

    def test_a_figure_is_between(self, far):
        planned(far, f"{PRINT.format(50_000)}\nsys.stdout.flush()\ndisplay('1')\nprint('after')")
        assert sent(far)[-1].endswith(b"after\n") and len(sent(far)) == 3

    def test_before_and_after_a_run_all_flows(self, far):
        far.run("import sys, threading, time\ngo = threading.Event()\n"
                "def late():\n    go.wait(); time.sleep(0.3); sys.stdout.write('l' * 100_000)\n"
                "t = threading.Thread(target=late)\nt.start()")
        planned(far, "go.set()")
        far.events.clear()
        while len(far.text()) < 100_000:
            far.next()
        assert {name for name, _ in far.events} == {"stdout"} and not os.path.exists(path(far))


class TestEnds:
    @pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "os._exit(3)"])
    def test_a_crash(self, far, how):
        planned(far, f"import os\n{PRINT.format(100_000)}\nsys.stdout.flush()\n{how}", "exit")
        assert sent(far)[-1] == lines(100_000)[-20_000:] and kept(far) == {"stdout": 1_300_000}
        assert read(far) == lines(100_000)
        far.start()
        far.run("print('next')")
        assert far.text() == "next\n"

    def test_a_kill_while_it_prints(self, far):
        far.send(OUTPUT, PLAN)
        far.begin("import sys\nwhile True: sys.stdout.write('x' * 9999 + '\\n')")
        far.wait("sample")
        far.send(KILL)
        far.wait("exit")
        total = sum(len(p) if isinstance(p, bytes) else p[0] for p in sent(far))
        assert len(sent(far)) == 3 and kept(far)["stdout"] == min(total, 1 << 26)
        assert os.path.getsize(path(far)) == kept(far)["stdout"]

    def test_a_plan_for_nobody(self, far):
        """A worker that ended before its run came: the next one has a plan of its own."""
        far.send(OUTPUT, PLAN)
        far.send(KILL)
        far.wait("exit")
        far.send(OUTPUT, PLAN)
        far.begin("1")
        far.start()
        far.run(PRINT.format(50_000))
        assert sent(far) == [lines(50_000)]


class TestMeanwhile:
    def test_a_server_that_does_not_read_holds_nothing_up(self, one):
        """Also when what waits for it is as much as may wait."""
        far = one()
        far.send(OUTPUT, PLAN)
        far.begin("import sys\nclass Big:\n    def _repr_html_(self): return 'x' * 1_500_000\n"
                  "for n in range(3000):\n    sys.stdout.write('x' * 99_999 + '\\n')\n"
                  "    if n == 10: display(Big())\n"
                  "sys.stdout.flush()\nopen('over', 'w').close()")
        end = time.monotonic() + 60
        while not os.path.exists(f"{far.folder}/workspace/over"):
            assert time.monotonic() < end, "the run waits for the server"
            time.sleep(0.01)
        with open(f"/proc/{far.process.pid}/statm", encoding="ascii") as file:
            assert int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 100 << 20
        far.wait("done", 60)
        assert kept(far) == {"stdout": 1 << 26}

    def test_samples_are_the_newest_lines(self, far):
        far.send(OUTPUT, PLAN)
        far.begin(f"{PRINT.format(10_000)}\nsys.stdout.flush()\nimport time\n"
                  "print('the last of it', flush=True)\n"
                  "while not __import__('os').path.exists('go'): time.sleep(0.01)")
        while True:
            sample = far.wait("sample")
            assert sample[0] == 0 and len(sample) <= 1025
            # What is held may begin within a line.
            assert re.fullmatch(rb"(.*\n)?(line \d{7}\n)*(the last of it\n)?", sample[1:]), sample
            if sample.endswith(b"the last of it\n"):
                break
        with open(f"{far.folder}/workspace/go", "w", encoding="ascii"):
            pass
        far.wait("done")

    def test_at_most_twenty_a_second(self, one):
        far = one()
        began = time.monotonic()
        planned(far, "import sys, time\nfor n in range(400):\n"
                     "    sys.stdout.write('x' * 999 + '\\n'); time.sleep(0.002)")
        took = time.monotonic() - began
        assert 1 <= len([1 for name, _ in far.events if name == "sample"]) <= took * 20 + 1


class TestInTheWay:
    def test_nothing_is_replaced(self, far):
        os.mkdir(f"{far.folder}/workspace/.cellblock")
        with open(path(far), "w", encoding="ascii") as file:
            file.write("mine")
        planned(far, PRINT.format(50_000))
        assert read(far) == b"mine" and kept(far) == {}
        assert len(sent(far)) == 3

    @pytest.mark.parametrize("plant", [
        "os.symlink({there!r}, '.cellblock')",
        "os.mkdir('.cellblock'); os.symlink({there!r} + '/f', '.cellblock/r-1.stdout')",
        "os.mkdir('.cellblock'); os.mkfifo('.cellblock/r-1.stdout')",
        "open('.cellblock', 'w').close()",
    ])
    def test_links_of_the_code_lead_nowhere(self, far, tmp_path, plant):
        far.run("import os\n" + plant.format(there=str(tmp_path)))
        planned(far, PRINT.format(50_000))
        assert os.listdir(tmp_path) == [] and kept(far) == {} and len(sent(far)) == 3

    def test_the_guard_is_what_holds(self, one, tmp_path):
        """The control: without O_NOFOLLOW the same link leads out."""
        far = one(before="from cellblock_worker import folders\n"
                         "import os\nfolders._OPEN &= ~os.O_NOFOLLOW")
        far.run(f"import os\nos.symlink({str(tmp_path)!r}, '.cellblock')")
        planned(far, PRINT.format(50_000))
        assert os.listdir(tmp_path) == ["r-1.stdout"]

    def test_a_disk_limit_is_not_met_by_what_is_kept(self, one):
        far = one({"disk": 8 << 20})
        planned(far, f"{PRINT.format(2_000_000)}\nsys.stdout.flush()\nimport time\n"
                     "time.sleep(0.5)\nprint('over')")
        assert sent(far)[-1].endswith(b"over\n")
        assert kept(far) == {} and not os.path.exists(path(far))

    def test_a_full_disk_ends_the_keeping(self, one):
        """As a limit of the system's on one file, which fails in the same way."""
        far = one(command=("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
        planned(far, PRINT.format(200_000))
        size = os.path.getsize(path(far))
        assert 500_000 < size < 1_100_000 and kept(far) == {"stdout": size}
        assert read(far) == lines(200_000)[:size] and len(sent(far)) == 3
