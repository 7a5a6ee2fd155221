"""Children, forks and pools of the user's code."""

import pytest


def test_subprocess(py):
    code = ("import subprocess\nr = subprocess.run(['sh', '-c', 'echo out; echo err >&2; exit 3'],"
            " capture_output=True, text=True)\nr.stdout, r.stderr, r.returncode")
    assert py.value(code) == "('out\\n', 'err\\n', 3)"


def test_the_interpreter_itself(py):
    code = ("import subprocess, sys\nr = subprocess.run([sys.executable, '-c', 'import sys; "
            "print(sys.version, sys.prefix)'], capture_output=True, text=True)\n"
            "r.stdout == f'{sys.version} {sys.prefix}\\n', r.stderr")
    assert py.value(code) == "(True, '')"


@pytest.mark.needs("own_root")
def test_pool(py):
    code = """
        from multiprocessing import get_context
        def square(n): return n * n
        with get_context('fork').Pool(3) as pool:
            got = pool.map(square, range(10))
        got"""
    assert py.value(code) == str([n * n for n in range(10)])


@pytest.mark.needs("own_root")
def test_process_pool_executor(py):
    code = """
        import concurrent.futures as f, multiprocessing
        def cube(n): return n ** 3
        with f.ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool:
            got = list(pool.map(cube, range(5)))
        got"""
    assert py.value(code) == "[0, 1, 8, 27, 64]"


def test_process_prints_are_the_runs(py):
    code = """
        import multiprocessing
        def work(): print('from the child', flush=True)
        p = multiprocessing.get_context('fork').Process(target=work)
        p.start(); p.join()
        p.exitcode"""
    result = py.ok(code)
    assert (result.text("stdout"), result.text("result")) == ("from the child\n", "0")


@pytest.mark.needs("own_root")
def test_shared_memory_and_queues(py):
    code = """
        import multiprocessing
        c = multiprocessing.get_context('fork')
        q, v = c.Queue(), c.Value('i', 0)
        def work():
            v.value = 7; q.put('queued')
        p = c.Process(target=work)
        p.start(); got = q.get(timeout=10); p.join()
        got, v.value"""
    assert py.value(code) == "('queued', 7)"


@pytest.mark.needs("stateful")
def test_a_fork_that_returns_does_not_come_back(box):
    box.ok("n = 0")
    result = box.ok("import os, time\nn += 1\npid = os.fork()\n"
                    "if pid: os.waitpid(pid, 0)\nprint('parent' if pid else 'child', n)\n"
                    "'value' if pid else None")
    assert sorted(result.text("stdout").split("\n")) == ["", "child 1", "parent 1"]
    assert result.text("result") == "'value'"
    for n in range(2, 5):
        assert box.value("n += 1\nn") == str(n)


def test_a_child_that_raises_is_not_the_runs_error(box):
    result = box.run("import os\npid = os.fork()\nif pid == 0: raise ValueError('child')\n"
                     "os.waitpid(pid, 0)[1] != 0")
    assert (result.cause, result.text("result")) == ("ok", "True"), result
    assert box.value("1 + 1") == "2"


def test_a_child_that_exits(box):
    code = "import os, sys\npid = os.fork()\nif pid == 0: sys.exit(5)\nos.waitpid(pid, 0)[1] >> 8"
    assert box.value(code) == "5"
    assert box.value("1 + 1") == "2"


def test_a_child_that_goes_on_does_not_disturb(box):
    box.ok("import os, time\nif os.fork() == 0:\n    time.sleep(1)\n    print('LATE')")
    assert box.value("6 * 7") == "42"
    assert box.printed("import time; time.sleep(1.5); print('mine')").endswith("mine\n")


@pytest.mark.needs("stateful")
def test_a_daemon_dies_with_the_session(box):
    box.ok("import subprocess\np = subprocess.Popen(['sleep', '1000'], start_new_session=True)")
    assert box.value("p.poll() is None") == "True"
    box.reset()
    assert box.value("1 + 1") == "2"
    # that nothing is left on the host is checked when the server is closed


# With processes of its own: -1 are those in the sandbox.
@pytest.mark.needs("walls", "mount", "exit_status")
def test_killing_everything_ends_the_run_and_not_the_server(box):
    assert int(box.value("import os; os.getpid()")) < 50
    result = box.run("import os, subprocess\nsubprocess.Popen(['sleep', '50'])\nos.kill(-1, 9)\n"
                     "os.kill(os.getpid(), 9)")
    assert (result.cause, result.outcome["signal"]) == ("killed", "SIGKILL")
    assert box.value("1 + 1") == "2"


def test_closing_every_descriptor(box):
    result = box.run("import os; os.closerange(0, 65536); print('x')")
    assert result.cause in ("ok", "killed", "error", "exit"), result
    assert box.value("1 + 1") == "2"


@pytest.mark.needs("stateful")
def test_threads_live_on(box):
    box.ok("import threading, time\nn = 0\ndef count():\n    global n\n    for _ in range(20):\n"
           "        n += 1; time.sleep(0.05)\nt = threading.Thread(target=count); t.start()")
    assert box.value("t.join(); n") == "20"
