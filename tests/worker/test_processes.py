"""stdin, environment, damaged streams, forks, child processes, shell runs, threads, vandals."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from driver import SOURCE, Worker


def test_no_stdin(worker):
    result = worker.run("input('? ')")
    assert result.error["etype"] == "EOFError"
    assert "stdin" in result.error["evalue"] and "run_code" in result.error["evalue"]
    assert worker.run("import sys; sys.stdin.read()").text == "''"
    assert worker.sh("cat; echo end").out == "end\n"


def test_stdin(worker):
    code = "a = input()\nimport sys\nrest = sys.stdin.read()\n[a, rest]"
    assert worker.run(code, stdin="one\ntwo\nthrée").text == "['one', 'two\\nthrée']"
    assert worker.run("input()").error["etype"] == "EOFError"
    assert worker.run("input()", stdin="").error["evalue"] == "EOF when reading a line"
    assert worker.sh("tr a-z A-Z", stdin="abc").out == "ABC"
    child = "import subprocess, sys\nsubprocess.run(['cat']); None"
    assert worker.run(child, stdin="for a child").out == "for a child"
    big = "x" * 3_000_000
    assert worker.run("import sys; len(sys.stdin.read())", stdin=big).text == "3000000"


def test_environment_of_one_run(worker):
    worker.run("import os; os.environ['OLD'] = 'old'; os.environ.pop('NEW', None)")
    result = worker.run(
        "os.environ['OWN'] = 'kept'\n[os.environ['OLD'], os.environ['NEW']]",
        env={"OLD": "for this run", "NEW": "n"},
    )
    assert result.text == "['for this run', 'n']"
    assert worker.run("[os.environ['OLD'], os.environ.get('NEW'), os.environ['OWN']]").text == (
        "['old', None, 'kept']"
    )
    assert worker.sh("echo $NEW", env={"NEW": "in shell"}).out == "in shell\n"
    worker.run("os.environ['OLD'] = 'changed'", env={"OLD": "x"})
    assert worker.run("os.environ['OLD']").text == "'changed'"
    assert worker.run("1/0", env={"NEW": "n"}).status == "error"
    assert worker.run("'NEW' in os.environ").text == "False"


@pytest.mark.parametrize(
    "damage",
    [
        "import sys; sys.stdout = None",
        "import sys; sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "import os; os.close(1); os.close(2); os.close(0)",
        "import os; os.closerange(0, 256)",
        "import os; os.dup2(os.open('/dev/null', os.O_RDWR), 1)",
        "import io, sys; sys.stdout = io.StringIO(); sys.stderr = sys.stdout",
        "import sys\nclass Bad:\n    def write(self, t): 1/0\n    def flush(self): 1/0\n"
        "sys.stdout = sys.stderr = Bad()",
        "import sys; del sys.stdout, sys.stderr, sys.stdin",
        "import builtins; del builtins.print, builtins.len, builtins.isinstance",
        "import builtins; del builtins.display, builtins.open, builtins.__import__",
        "import json; json.dumps = json.loads = None; json.JSONEncoder = None",
        "import os, sys, time, traceback; os.write = os.read = time.process_time = None",
        "import sys; sys.modules['__main__'] = None; sys.displayhook = None",
        "import sys; sys.excepthook = None; sys.argv = None",
        "import linecache; linecache.cache = {}; linecache.clearcache()",
        "globals().clear()",
        "import threading; threading.Thread = threading.RLock = threading.current_thread = None",
        "import sys; sys.setrecursionlimit(90)",
        "import os; os.chdir('/')",
        "import resource; resource.getrusage = None",
        "import signal; signal.signal = None; signal.pthread_sigmask = None",
        "import gc; gc.disable()",
    ],
)
def test_damage_is_mended(fresh, damage):
    """After almost anything the next run prints, shows, fails and reads as usual."""
    fresh.run(damage)
    result = fresh.run("import sys\nprint('out'); print('err', file=sys.stderr)\n'value'")
    assert (result.out, result.err, result.text) == ("out\n", "err\n", "'value'")
    assert fresh.run("1/0").error["etype"] == "ZeroDivisionError"
    assert fresh.run("input()", stdin="line").text == "'line'"
    assert fresh.run("display(1)").displays[0]["data"]["text/plain"] == "1"


def test_print_before_children(worker):
    code = """
        import os, subprocess
        print('a', end=''); os.system('printf b')
        print('c', end=''); subprocess.run(['printf', 'd'])
        print('e', end='')
        pid = os.fork()
        if pid == 0:
            print('f', end=''); raise SystemExit
        os.waitpid(pid, 0)
        print('g', end='')
    """
    assert worker.run(textwrap.dedent(code)).out == "abcdefg"


def test_text_streams_while_the_code_runs(worker):
    worker.start("import time\nprint('early')\ntime.sleep(0.5)\nprint('late')")
    early = worker.finish(until=lambda result: result.out)
    assert (early.out, early.done) == ("early\n", None)
    assert worker.finish().out == "late\n"


def test_output_of_c_code(worker):
    code = "import ctypes; ctypes.CDLL(None).puts(b'from C'); None"
    if worker.run("import ctypes").status == "ok":
        assert worker.run(code).out == "from C\n"


@pytest.mark.parametrize(
    ("body", "status", "err"),
    [
        ("pass", 0, ""),
        ("1/0", 1, "ZeroDivisionError"),
        ("raise SystemExit(5)", 5, ""),
        ("import sys; sys.exit('word')", 1, "word"),
    ],
)
def test_forked_child_ends_with_the_code(worker, body, status, err):
    code = "import os\npid = os.fork()\nif pid == 0:\n    print('child')\n    %s\n" % body
    code += "else:\n    code = os.waitpid(pid, 0)[1] >> 8\n"
    result = worker.run(code)

    assert result.status == "ok"
    assert result.out == "child\n"
    assert err in result.err
    assert worker.run("code").text == str(status)


def test_forked_child_in_a_coroutine(worker):
    code = "import os, asyncio\nawait asyncio.sleep(0)\npid = os.fork()\nif pid:\n"
    code += "    print(os.waitpid(pid, 0)[1])\n"
    result = worker.run(code)
    assert (result.out, result.status) == ("0\n", "ok")


def test_forked_child_that_fails_in_a_thread(worker):
    code = """
        import os, threading
        def split():
            global pid
            pid = os.fork()
        t = threading.Thread(target=split); t.start(); t.join()
        if pid:
            print(os.waitpid(pid, 0)[1])
    """
    assert worker.run(textwrap.dedent(code)).out == "0\n"


def test_multiprocessing(worker):
    worker.run("def square(x): return x * x")
    code = "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p:\n"
    code += "    r = p.map(square, range(5))\nr"
    result = worker.run(code)
    assert (result.text, result.status) == ("[0, 1, 4, 9, 16]", "ok")
    code = "import math\nwith m.get_context('spawn').Pool(1) as p: r = p.map(math.sqrt, [9])\nr"
    assert worker.run(code).text == "[3.0]"
    code = "p = m.get_context('fork').Process(target=print, args=('in the child',))\n"
    assert worker.run(code + "p.start(); p.join(); p.exitcode").out == "in the child\n"


def test_threads_left_over(worker):
    worker.run("import threading, time\ndef later():\n    time.sleep(0.2); print('later')\n"
               "    display('from a thread')\nthreading.Thread(target=later).start()")
    result = worker.run("time.sleep(0.5)")
    assert result.out == "later\n"
    assert result.displays[0]["data"]["text/plain"] == "'from a thread'"


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "number"),
    [
        ("true", "ok", 0, None),
        ("exit 3", "exit", 3, None),
        ("nosuchcommand", "exit", 127, None),
        ("kill -SEGV $$", "signal", None, 11),
        ("kill -9 $$", "signal", None, 9),
        ("if", "exit", 2, None),
        ("", "ok", 0, None),
    ],
)
def test_shell(worker, code, status, exit_code, number):
    done = worker.sh(code).done
    assert (done["status"], done["exit_code"], done["signal"]) == (status, exit_code, number)


def test_shell_is_bash_in_the_folder_of_the_session(worker):
    worker.run("import os; os.makedirs('sub', exist_ok=True); os.chdir('sub'); "
               "os.environ['FROM_PYTHON'] = 'yes'")
    result = worker.sh("pwd; echo $FROM_PYTHON; echo ${BASH_VERSION:+bash}; echo e >&2")
    worker.run("os.chdir('..')")
    assert result.out == "%s/sub\nyes\nbash\n" % os.path.realpath(worker.cwd)
    assert result.err == "e\n"


def test_long_shell_script(worker):
    result = worker.sh("# " + "x" * 200_000 + "\necho $((6 * 7))")
    assert result.out == "42\n"


def test_background_child_does_not_hold_the_run(worker):
    result = worker.sh("sleep 20 & echo done", timeout=5)
    assert result.out == "done\n"


def test_forks_draw_different_numbers(tmp_path):
    """What a zygote does: prepare once, fork, serve in each child."""
    script = """
        import os, socket, sys
        import cellblock_worker
        cellblock_worker.prepare()
        import threading
        assert threading.active_count() == 1
        assert not [f for f in os.listdir('/proc/self/task')][1:]
        opened = {os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd')
                  if int(f) > 2 and os.path.exists('/proc/self/fd/' + f)}
        assert not opened, opened
        import json, struct
        def ask(code):
            ours, theirs = socket.socketpair()
            if os.fork() == 0:
                ours.close()
                cellblock_worker.serve(theirs.detach())
                os._exit(0)
            theirs.close()
            text = json.dumps({"run": "r", "language": "python", "code": code}).encode()
            ours.sendall(struct.pack("<IB", len(text), 1) + text)
            data = b""
            while b'"done"' not in data and b"execution_count" not in data:
                data += ours.recv(65536)
                if b'"sync": true' in data and data.count(b"execution_count") == 0:
                    ours.sendall(struct.pack("<IB", 0, 2))
            ours.close()
            os.wait()
            return data.split(b"text/plain")[1].split(b"}")[0]
        drawn = {ask("import random; random.random()") for _ in range(3)}
        assert len(drawn) == 3, drawn
        print("fine")
    """
    for options in ([], ["-S"]):
        done = subprocess.run(
            ["/usr/bin/python3", *options, "-c", textwrap.dedent(script)], capture_output=True,
            text=True, cwd=tmp_path, timeout=60, check=False,
            env={"PYTHONPATH": SOURCE, "PIP_TARGET": str(tmp_path / "p"), "HOME": str(tmp_path),
                 "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
    assert not (tmp_path / ".ipython").exists()
    assert not (tmp_path / ".python_history").exists()


def test_from_a_zip(tmp_path):
    """As it is shipped; the archive may be gone once the worker is ready."""
    archive = tmp_path / "worker.zip"
    import zipfile

    with zipfile.ZipFile(archive, "w") as file:
        folder = os.path.join(SOURCE, "cellblock_worker")
        for name in os.listdir(folder):
            if name.endswith(".py"):
                file.write(os.path.join(folder, name), "cellblock_worker/" + name)
    for args in ((), ("--plain",)):
        worker = Worker("/usr/bin/python3", tmp_path, args, source=archive)
        moved = archive.rename(tmp_path / "gone.zip")
        try:
            assert worker.run("1 + 1").text == "2"
            error = worker.run("%nosuch" if args else "input()")
            assert error.status == "error" and "cellblock" not in error.traceback
            assert worker.run("import asyncio\nawait asyncio.sleep(0, 3)").text == "3"
            plot = "import matplotlib.pyplot as p; p.plot([1]); p.show()"
            found = worker.run("try:\n    %s\nexcept ImportError: pass" % plot)
            assert found.status == "ok" and found.err == ""
            assert worker.sh("echo x").out == "x\n"
        finally:
            moved.rename(archive)
            worker.close()


def test_unreadable_requests_end_the_worker(fresh):
    fresh.send(1, b"[1]")
    assert fresh.process.wait(5) == 0


def test_usage_message():
    done = subprocess.run([sys.executable, "-m", "cellblock_worker"], capture_output=True,
                          text=True, env={"PYTHONPATH": SOURCE}, check=False)
    assert done.returncode == 2 and "usage" in done.stderr
    assert json.dumps(done.stdout) == '""'
