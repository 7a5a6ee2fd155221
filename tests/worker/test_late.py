"""IPython that comes when it is needed: nothing that code can see tells when that was."""

import sys
import time

import pytest
from conftest import INTERPRETERS, SYSTEM
from driver import SOURCE, Worker
from far import KILL, Far

sys.path.insert(0, SOURCE)
from cellblock_worker import late  # noqa: E402  (needs no IPython)

pytestmark = pytest.mark.skipif("system-late" not in INTERPRETERS, reason="no IPython here")
LOADED = "import sys; 'IPython' in sys.modules"


def imported(worker):
    """Whether the worker has IPython in memory, seen from outside."""
    with open(f"/proc/{worker.process.pid}/maps", encoding="ascii") as maps:
        return "_asyncio" in maps.read()


@pytest.fixture
def make(tmp_path):
    """make(*args): a worker of the system's interpreter; closed at the end."""
    made = []

    def one(*args):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Worker(SYSTEM, folder, args))
        return made[-1]

    yield one
    for worker in made:
        worker.close()


SESSIONS = [
    ["print(1)", "1 + 1", "_ + 1, Out, In", "dir()", "%who", "__name__"],
    ["'text'", "2.5", "True", "[_, __, ___]", "_1, _2, _3", "_i, _ii, In[-1]"],
    ["x = 3\nx", "x += 1", "import sys; sorted(set(vars(sys)) & {'ps1', 'ps2', 'ps3'})", "x"],
    ["import math, json\nprint(json.dumps([math.pi]))", "math.floor(2.5)", "%who_ls"],
    ["class A:\n    def __init__(self, n): self.n = n\n    def __repr__(self): return 'A!'\n"
     "a = A(2)\nprint(a, a.n)", "a", "[a, a]", "Out"],
    ["prnt(1)", "1/0", "def f(): return Inn\nf()", "f()"],
    ["try:\n    exi\nexcept NameError as e:\n    print(e)", "1"],
    ["{3: 1, 1: 2}", "{'b', 'a'}", "list(range(1000))", "_oh.keys()"],
    ["ls_of = 1", "ls", "who", "time = 3; print(time)", "time"],
    ["!echo hello", "%%bash\necho there", "x = !echo one\nx"],
    ["print?", "?len", "%lsmagic;"],
    ["get_ipython().__class__.__name__", "display(1)",
     "from IPython.display import HTML\nHTML('a')"],
    ["raise SystemExit(3)", "exit(4)", "quit", "1"],
    ["1;", "2\n3;", "Out"],
    ["import warnings\nwarnings.filters[:3]", "warnings.warn('x')"],
    ["x = 1\nx is 1", "assert (1, 'a')", "'\\d'"],
    ["def f(n):\n    return 1 + f(n + 1)\ntry:\n    f(0)\n"
     "except RecursionError as e:\n    print(e)",
     "depth = 0\ndef g():\n    global depth\n    depth += 1\n    g()\ntry:\n    g()\n"
     "except RecursionError:\n    pass\nprint(depth)", "1"],
    ["import random\nrandom.seed(7)\nprint(random.random())", "%pwd;", "random.random()"],
    ["await_ = 1", "import asyncio\nawait asyncio.sleep(0)", "await_"],
    ["import sys\nsys.path[0], len(sys.path)", "sys.path[-1] in sys.path"],
    ["x = (", "if 1:\nprint()", "x ="],
    ["print('{0.__class__}'.format(1))", "''.__class__", "().__class__.__mro__"],
    ["from __future__ import annotations\nx: int = 2",
     "def f(a: nowhere): pass\nf.__annotations__"],
]


def told(result, folder):
    """What a client sees of a run, without what differs between any two workers."""
    done = {key: result.done[key] for key in ("status", "exit_code", "error", "execution_count")}
    return [repr(one).replace(folder, "FOLDER") for one in (result.order(), result.notes, done)]


@pytest.mark.parametrize("codes", SESSIONS, ids=[codes[0][:20] for codes in SESSIONS])
def test_nobody_can_tell(make, codes):
    here, there = make("--late"), make("--cold")
    for code in codes:
        assert told(here.run(code), here.cwd) == told(there.run(code), there.cwd), code


@pytest.mark.parametrize("codes", SESSIONS[:5], ids=[codes[0][:20] for codes in SESSIONS[:5]])
def test_nobody_can_tell_when_it_came_by_itself(make, codes):
    here, there = make("--late"), make("--cold")
    for code in codes[:2]:
        assert told(here.run(code), here.cwd) == told(there.run(code), there.cwd), code
    limit = time.monotonic() + 20
    while not imported(here) and time.monotonic() < limit:
        time.sleep(0.05)
    for code in codes[2:]:
        assert told(here.run(code), here.cwd) == told(there.run(code), there.cwd), code


def test_out_keeps_as_many_as_ever(make):
    here = make("--late")
    for number in range(1100):
        here.run(str(number))
    assert here.run("len(Out), min(Out), len(In), _, _1099").text == "(900, 201, 1102, 1099, 1098)"


def test_simple_runs_go_without_it(make):
    worker = make("--late")
    for code in ("print(1)", "1 + 1", "x = [n * n for n in range(9)]\nprint(sum(x))", "1 / 0",
                 "import math\nprint(math.pi)", "for n in range(3):\n    print(n)"):
        worker.run(code)
        assert not imported(worker), code


def test_it_comes_when_nothing_is_to_be_done(make):
    worker = make("--late")
    worker.run("x = 1")
    assert not imported(worker)
    limit = time.monotonic() + 20
    while not imported(worker):
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert worker.run(LOADED).text == "True"


def test_files_of_the_session_are_not_taken_for_its_modules():
    far = Far(SYSTEM)
    try:
        far.start()
        for name in ("traitlets", "decorator", "random", "token", "mine"):
            with open(f"{far.folder}/workspace/{name}.py", "w", encoding="ascii") as file:
                file.write("print('mine')\n")
        assert far.run("import random\nprint(random.__file__)")["status"] == "ok"
        assert far.text().startswith("/usr/lib")
        far.run("import mine\nget_ipython() is not None")
        assert far.text() == "mine\n"
        assert "True" in str(far.events)
    finally:
        far.close()


def test_one_that_is_broken_is_told_of(tmp_path):
    broken = tmp_path / "lib" / "IPython"
    (broken / "core").mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ValueError('a broken one')\n")
    (broken / "core" / "release.py").write_text("version = '99'\n")
    far = Far(SYSTEM, env={"PYTHONPATH": str(tmp_path / "lib")})
    try:
        far.start()
        assert far.run("x = 2\nprint(1)")["status"] == "ok"
        assert far.run("display(x)")["status"] == "ok"
        assert far.run("print(x)")["status"] == "ok"
        assert "a broken one" in next(data["text"] for name, data in far.events if name == "note")
    finally:
        far.close()


def test_a_worker_of_a_pool_has_it_before_it_is_used():
    far = Far(SYSTEM, {"warm": True})
    try:
        far.start()
        far.run(LOADED)
        assert [data for name, data in far.events if name == "display"]
        far.run("import sys, os\nprint(os.getppid())")
        with open(f"/proc/{far.text().strip()}/maps", encoding="ascii") as maps:
            assert "_asyncio" in maps.read()
    finally:
        far.close()


def test_the_time_that_it_takes_is_not_the_runs(make):
    worker = make("--late")
    assert [kind for kind, _ in worker.run("print(1)").events] == ["stdout"]
    result = worker.run("print(2)\nimport signal")
    # Text comes by another way than frames.
    assert [kind for kind, _ in result.events if kind != "stdout"] == ["delayed", "begin"]
    assert result.out == "2\n"
    assert [kind for kind, _ in worker.run("[1]").events] == ["display"]


def test_a_run_that_comes_meanwhile_has_to_wait():
    far = Far(SYSTEM)
    seen = set()
    try:
        for _ in range(10):
            far.start()
            far.run("x = 1")
            time.sleep(late.IDLE + 0.1)  # it is most likely in the middle of it
            assert far.run("x = x + 1")["status"] == "ok"
            seen.add(" ".join(name for name, _ in far.events if name not in ("done", "display")))
            far.send(KILL)
            far.wait("exit")
            if "begun delayed begin" in seen:
                break
        assert "begun delayed begin" in seen and seen <= {"begun", "begun delayed begin"}
    finally:
        far.close()


def test_names_that_lead_elsewhere_are_known():
    """Whatever a module that is let through has of modules, its name is refused, or its own."""
    for name in late._MODULES:
        __import__(name)
        module = sys.modules[name]
        for attribute, value in vars(module).items():
            if isinstance(value, type(sys)) and value.__name__ not in late._MODULES:
                fine = late._is_fine_name(attribute)
                assert not fine or value.__name__ in FURTHER, f"{name}.{attribute}"


FURTHER = {"posixpath", "genericpath", "collections.abc", "abc", "stat", "enum", "copyreg",
           "functools", "json.decoder", "json.encoder", "json.scanner", "numbers", "_json"}


@pytest.mark.parametrize("code", [
    "sys", "get_ipython()", "print(__builtins__)", "f.__globals__", "open('x')", "globals()",
    "from os import _exit", "from os import *", "import numpy", "import sys as s", "_", "In",
    "x.f_globals", "match x:\n    case object(f_globals=g): pass", "'{0.__class__}'", "exit",
    "async def f(): pass", "await x", "eval('1')", "getattr(x, 'y')", "type('A', (), {})\n_1",
])
def test_code_that_reaches_further_is_seen(code):
    shell = late.LateShell(None, "1")
    shell.start()
    tree = shell.compiler.parse(code, "<run 1>")
    assert not shell._is_simple(tree, shell.compiler.plan(tree, "<run 1>", code), code)
