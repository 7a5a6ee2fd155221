"""Commands without a shell, their stdin while they go on, and signals to them."""

import os
import signal
import sys

import pytest

PRINT = "import sys; print(sys.argv[1:])"
ODD = ["", " ", "a b", "$HOME", "*", "`id`", "'\"\\", "-c", "\n", "ü", "\t;|&<>"]


def run(worker, *argv, **fields):
    """One command, to its end."""
    worker.command(list(argv), **fields)
    return worker.finish()


def seen(text):
    """Becomes true when the command has printed it."""
    return lambda result: text in result.out


def test_arguments_as_they_are(worker):
    result = run(worker, sys.executable, "-c", PRINT, *ODD)
    assert (result.out, result.status) == (f"{ODD}\n", "ok")
    assert result.done["exit_code"] == 0


@pytest.mark.parametrize(
    "code, status, exit_code, number",
    [("exit 3", "exit", 3, None), ("kill -TERM $$", "signal", None, signal.SIGTERM),
     ("kill -KILL $$", "signal", None, signal.SIGKILL), ("true", "ok", 0, None)],
)
def test_ends(worker, code, status, exit_code, number):
    done = run(worker, "sh", "-c", code).done
    assert (done["status"], done["exit_code"], done["signal"]) == (status, exit_code, number)


@pytest.mark.parametrize(
    "program, code, text",
    [("no-such-program", 127, "not found"), ("/no/such", 127, "No such file"),
     ("/etc/passwd", 126, "denied"), ("/", 126, "denied")],
)
def test_what_cannot_be_started(worker, program, code, text):
    result = run(worker, program)
    assert (result.status, result.done["exit_code"]) == ("exit", code)
    assert program in result.err and text in result.err


def test_too_long_an_argument(worker):
    result = run(worker, "true", "x" * 3_000_000)
    assert (result.status, result.done["exit_code"]) == ("exit", 126)


def test_the_session_s_own_python(worker):
    code = "import sys, pathlib; print(sys.version); pathlib.Path('late_module.py').touch()"
    assert worker.run("import late_module").status == "error"
    result = run(worker, "-c", code, python=True)
    assert result.out.split()[0] == worker.greeting["python"]
    assert worker.run("import late_module, os; os.remove('late_module.py')").status == "ok"
    worker.run("import sys; del sys.modules['late_module']")


def test_folders(fresh):
    os.makedirs(os.path.join(fresh.cwd, "sub"))
    for name, there in (("sub", "sub"), ("/workspace/sub", "sub"), ("/workspace", "."), ("/", "/")):
        result = run(fresh, "pwd", workdir=name)
        assert result.out.strip() == os.path.realpath(os.path.join(fresh.cwd, there)), name
    fresh.command(script="pwd", workdir="sub")
    assert fresh.finish().out.strip().endswith("/sub")
    fresh.run("import os; os.chdir('sub')")
    assert run(fresh, "pwd").out.strip().endswith("/sub")
    assert run(fresh, "pwd", workdir=".").out.strip() == os.path.realpath(fresh.cwd)


def test_the_folder_of_the_session(fresh):
    """Entered once, before the first run; one that cannot be made is every run's error."""
    for _ in range(2):
        failed = fresh.run("x = 1", folder="/proc/none")
        assert failed.status == "error" and "workdir: /proc/none" in failed.error["evalue"]
    assert run(fresh, "pwd", folder="/workspace/a/b").out.strip().endswith("/a/b")
    assert fresh.run("import os; print(os.getcwd())", folder="/x").out.strip().endswith("/a/b")
    assert fresh.run("x", folder="/x").status == "error"


@pytest.mark.parametrize("name", ["missing", "/etc/passwd", "/workspace/missing", "x\n"])
def test_no_such_folder(worker, name):
    result = run(worker, "pwd", workdir=name)
    assert result.status == "error" and "workdir" in result.error["evalue"]
    assert not result.out


def test_environment_and_stdin(worker):
    result = run(worker, "sh", "-c", "cat; echo $NEW", stdin="in ü\n", env={"NEW": "new"})
    assert result.out == "in ü\nnew\n"
    assert run(worker, "sh", "-c", "cat; echo ${NEW-none}").out == "none\n"


def test_stdin_while_it_goes_on(worker):
    worker.command(["sh", "-c", "read a; echo got $a; read b; echo then $b; cat; echo end"],
                   stdin="first\n", stdin_open=True)
    worker.finish(until=seen("got first"))
    worker.write(b"second\n")
    worker.finish(until=seen("then second"))
    worker.write(b"\xff\0rest", eof=True)
    result = worker.finish()
    assert result.raw_out == b"\xff\0restend\n" and result.status == "ok"


def test_stdin_of_a_script(worker):
    worker.command(script="cat; echo end", stdin_open=True)
    worker.write(b"1")
    worker.write(b"2", eof=True)
    worker.write(b"too late")
    assert worker.finish().out == "12end\n"


def test_more_stdin_than_a_pipe_holds(worker):
    worker.command(["sh", "-c", "sleep 0.2; wc -c"], stdin_open=True, stdin="x" * 100_000)
    for _ in range(10):
        worker.write(b"y" * 300_000)
    worker.write(b"", eof=True)
    assert worker.finish().out.strip() == "3100000"


def test_stdin_that_nobody_reads(worker):
    worker.run("import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
    worker.command(["sh", "-c", "exec 0<&-; echo closed; sleep 0.1; exit 5"], stdin_open=True)
    worker.finish(until=seen("closed"))
    worker.write(b"x" * 1_000_000, eof=True)
    assert worker.finish().done["exit_code"] == 5
    assert worker.run("signal.getsignal(signal.SIGPIPE)").text.startswith("<Handlers.SIG_DFL")
    worker.run("signal.signal(signal.SIGPIPE, signal.SIG_IGN)")


def test_what_is_for_another_run_is_dropped(worker):
    worker.command(["sh", "-c", "read a; echo $a"], stdin_open=True)
    worker.write(b"other\n", run="r-none")
    worker.signal(signal.SIGKILL, run="r-none")
    worker.write(b"mine\n")
    assert worker.finish().out == "mine\n"
    worker.write(b"late\n")
    worker.signal(signal.SIGKILL)
    assert worker.run("1 + 1").text == "2"


def test_signals(worker):
    script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    worker.command(["sh", "-c", script])
    worker.finish(until=seen("ready"))
    worker.signal(signal.SIGUSR1)
    worker.finish(until=seen("usr1"))
    worker.signal(1000)
    worker.signal("9")
    worker.signal(signal.SIGKILL)
    done = worker.finish().done
    assert (done["status"], done["signal"]) == ("signal", signal.SIGKILL)


def test_a_signal_reaches_its_whole_group(worker):
    worker.command(script="(echo ready >&2; sleep 60; echo never) | cat; echo after")
    worker.finish(until=lambda result: "ready" in result.err)
    worker.signal(signal.SIGTERM)
    result = worker.finish()
    assert (result.status, result.done["signal"]) == ("signal", signal.SIGTERM)
    assert not result.out


def test_an_interrupt_ends_it(worker):
    worker.command(["sh", "-c", "trap '' INT; echo ready; sleep 60"], stdin_open=True)
    worker.finish(until=seen("ready"))
    worker.interrupt()
    assert worker.finish().status == "interrupted"
    assert worker.run("1 + 1").text == "2"


def test_runs_that_come_meanwhile_wait(worker):
    worker.command(["sh", "-c", "read a; echo $a"], stdin_open=True)
    worker.start("6 * 7")
    worker.write(b"go\n", run="r-%d" % (worker.count - 1))
    worker.count -= 1
    assert worker.finish().out == "go\n"
    worker.count += 1
    assert worker.finish().text == "42"
