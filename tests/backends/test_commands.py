"""The toolset `commands`: run_command and install_packages, and stdin and signals on their way."""

import re

import pytest
from box import Box
from test_capabilities import refused

needs = pytest.mark.needs
PRINT = "import sys; print(sys.argv[1:])"
ODD = ["", "a b", "$HOME", "*", "`id`", "'\"\\", "-c", "\n", "ü", ";|&<>"]


@pytest.fixture(scope="module")
def toolsets(launch):
    """A server with the toolsets of this file."""
    with launch("--toolsets", "commands,runs") as client:
        yield client


@pytest.fixture(scope="module")
def session(toolsets):
    """One session for all of them: what a test needs, it makes."""
    return Box(toolsets)


@pytest.fixture
def command(session):
    """command(*argv) runs a program."""
    return lambda *argv, **more: session.call("run_command", argv=list(argv), **more)


@pytest.fixture
def begin(session):
    """begin(*argv) runs one in the background, and gives its run's id."""

    def start(*argv, **more):
        session.ok("None")  # its sandbox is there: a run that is asked about has begun
        result = session.call("run_command", argv=list(argv), background=True, **more)
        assert not result.is_error, result
        return result.meta["cellblock/run"]["run"]

    return start


def wait(session, run, text=None):
    """Polls until the run has printed `text`, or has ended; what came with the last poll."""
    seen, more = "", {}
    while True:
        result = session.server.tool("poll_run", {"run": run, "wait_seconds": 20, **more})
        seen += result.text("stdout")
        state = result.meta["cellblock/run"]
        if state["state"] == "done" or (text and text in seen):
            return result, seen
        more = {"cursor": state["cursor"]}


@needs("commands")
class TestArgv:
    def test_output_and_exit_code(self, command):
        result = command("sh", "-c", "echo out; echo err >&2")
        assert (result.text("stdout"), result.text("stderr")) == ("out\n", "err\n")
        assert (result.cause, result.outcome["exit_code"]) == ("ok", 0)

    def test_no_shell_touches_it(self, command):
        result = command("python3", "-c", PRINT, *ODD)
        assert result.text("stdout") == f"{ODD}\n", result

    @pytest.mark.parametrize("code", [1, 3, 255])
    def test_exit_codes(self, command, code):
        result = command("sh", "-c", f"echo before; exit {code}")
        assert (result.cause, result.outcome["exit_code"]) == ("exit", code)
        assert result.is_error and result.text("stdout") == "before\n"

    def test_a_signal(self, command):
        result = command("sh", "-c", "kill -TERM $$")
        assert (result.cause, result.outcome["signal"]) == ("killed", "SIGTERM")

    @pytest.mark.parametrize("program, code", [("no-such-program", 127), ("/", 126)])
    def test_what_cannot_be_started(self, command, program, code):
        result = command(program)
        assert (result.cause, result.outcome["exit_code"]) == ("exit", code)
        assert program in result.text("stderr")

    def test_stdin(self, command):
        assert command("cat", stdin="in ü\n").text("stdout") == "in ü\n"
        assert command("cat").text("stdout") == ""

    def test_env_of_one_run(self, command):
        assert command("printenv", "NEW", env={"NEW": "new"}).text("stdout") == "new\n"
        assert command("printenv", "NEW").outcome["exit_code"] == 1

    def test_output_that_is_no_text(self, command):
        result = command("printf", r"a\377\000b")
        assert result.cause == "ok" and re.fullmatch(r"a.+b", result.text("stdout"))

    @needs("stateful")
    def test_workdir(self, session, command):
        session.ok("import os; os.makedirs('/workspace/sub', exist_ok=True)")
        for name in ("sub", "/workspace/sub", "./sub/"):
            assert command("sh", "-c", 'basename "$PWD"', workdir=name).text("stdout") == "sub\n"
        assert command("pwd", workdir="/").text("stdout") == "/\n"

    @pytest.mark.parametrize("name", ["missing", "/etc/passwd"])
    def test_a_workdir_that_is_none(self, command, name):
        result = command("pwd", workdir=name)
        assert result.is_error and "workdir" in result.text() and name in result.text()

    @needs("stateful")
    def test_past_its_limit(self, session, command):
        session.ok("kept = 1")
        result = command("sh", "-c", "echo before; sleep 60", timeout_seconds=1)
        assert (result.cause, result.outcome["exit_code"]) == ("timeout", 124)
        assert result.text("stdout") == "before\n"
        assert session.value("kept") == "1"

    @needs("stateful")
    def test_the_session_is_untouched(self, session, command):
        session.ok("import os; os.chdir('/tmp'); names = set(globals())")
        try:
            assert command("pwd").text("stdout").strip().endswith("/tmp")
            code = "set(globals()) - names - {'names'} - {n for n in globals() if n[0] == '_'}"
            assert session.value(code) == "set()"
        finally:
            session.ok("os.chdir('/workspace')")


@needs("commands", "shell")
def test_scripts(session):
    result = session.call("run_command", script="for i in 1 2; do echo $i; done; exit 4",
                          workdir="/tmp")
    assert result.text("stdout") == "1\n2\n" and result.outcome["exit_code"] == 4


@needs("commands")
@pytest.mark.parametrize("arguments, words", [
    ({}, "argv"), ({"argv": ["true"], "script": "true"}, "both"), ({"argv": []}, "argv"),
    ({"argv": [""]}, "argv"), ({"argv": ["a\0b"]}, "NUL"), ({"argv": [1]}, "argv"),
    ({"argv": ["true"], "stdin_open": True}, "background"),
    ({"argv": ["true"], "env": {"1A": "x"}}, "1A"),
])
def test_wrong_arguments(session, arguments, words):
    result = session.call("run_command", **arguments)
    assert result.is_error and words in result.text(), result


@needs("stdin_stream")
def test_stdin_while_it_goes_on(session, begin):
    run = begin("sh", "-c", "read a; echo got $a; cat; echo end", stdin_open=True)
    write = session.server.tool("write_run", {"run": run, "text": "first\n"})
    assert not write.is_error, write
    wait(session, run, "got first")
    session.server.tool("write_run", {"run": run, "text": "rest ", "eof": True})
    _last, seen = wait(session, run)
    assert "rest end" in seen
    late = session.server.tool("write_run", {"run": run, "text": "late"})
    assert late.is_error


@needs("stdin_stream")
def test_stdin_that_is_not_open(session, begin):
    run = begin("sleep", "60")
    result = session.server.tool("write_run", {"run": run, "text": "x"})
    assert result.is_error and "stdin_open" in result.text()
    session.server.tool("cancel_run", {"run": run})


@needs("signal")
def test_signals(session, begin):
    run = begin("sh", "-c", "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done")
    wait(session, run, "ready")
    session.server.tool("signal_run", {"run": run, "signal": "SIGUSR1"})
    wait(session, run, "caught")
    session.server.tool("signal_run", {"run": run, "signal": "SIGKILL"})
    last, _seen = wait(session, run)
    assert last.outcome["signal"] == "SIGKILL", last


@needs("signal", "stateful")
def test_code_is_interrupted(session):
    session.ok("kept = 2")
    code = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    run = session.call("run_code", code=code, background=True).meta["cellblock/run"]["run"]
    wait(session, run, "ready")
    session.server.tool("signal_run", {"run": run, "signal": "SIGINT"})
    last, _seen = wait(session, run)
    assert last.outcome["error"]["etype"] == "KeyboardInterrupt", last
    assert session.value("kept") == "2"


HANDLER = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: print("caught", flush=True))
print("ready", flush=True)
while True: time.sleep(0.05)
"""


@needs("signal")
def test_code_takes_signals(session, has):
    """Where its process is ours to reach; a signal that it does not handle ends it."""
    run = session.call("run_code", code=HANDLER, background=True).meta["cellblock/run"]["run"]
    wait(session, run, "ready")
    sent = session.server.tool("signal_run", {"run": run, "signal": "SIGUSR1"})
    if "exit_status" not in has:
        assert sent.is_error and "SIGINT" in sent.text()
        session.server.tool("cancel_run", {"run": run})
        return
    wait(session, run, "caught")
    session.server.tool("signal_run", {"run": run, "signal": "SIGTERM"})
    last, _seen = wait(session, run)
    assert last.cause == "killed" and last.outcome["signal"] == "SIGTERM", last
    assert session.value("6 * 7") == "42"


class TestRefused:
    """Where there are none."""

    @pytest.mark.lacking("commands")
    def test_commands(self, command):
        refused(command("true"), "commands")

    @pytest.mark.lacking("stdin_stream")
    def test_open_stdin(self, session):
        result = session.call("run_command", script="cat", stdin_open=True, background=True)
        refused(result, "stdin_stream")

    @pytest.mark.lacking("signal")
    def test_signal(self, session):
        session.ok("None")
        run = session.call("run_code", code="import time; time.sleep(60)", background=True).meta[
            "cellblock/run"]["run"]
        refused(session.server.tool("signal_run", {"run": run, "signal": "SIGINT"}), "signal")
        session.server.tool("cancel_run", {"run": run})


@needs("commands", "pip", "copy")
class TestPythonPackages:
    def install(self, session, *packages, **more):
        return session.call("install_packages", packages=list(packages), **more)

    @needs("stateful")
    def test_it_can_be_used_at_once(self, session, host):
        from wheels import build

        assert session.run("import tinyseven").outcome["error"]["etype"] == "ModuleNotFoundError"
        for version in ("1.0", "2.0"):
            path = build(host, "tinyseven", {"tinyseven.py": f"v = '{version}'\n"}, version)
            session.bring(path, f"/workspace/{path.name}")
            result = self.install(session, f"/workspace/{path.name}")
            assert result.cause == "ok" and f"tinyseven-{version}" in result.text("stdout"), result
            code = "import importlib, tinyseven\nimportlib.reload(tinyseven).v"
            assert session.value(code) == f"'{version}'"

    def test_a_wheel_that_is_not_there(self, session):
        result = self.install(session, "/workspace/none-1.0-py3-none-any.whl")
        assert result.cause == "exit" and "none-1.0" in result.text("stderr")


@needs("commands", "pip", "walls")
def test_without_a_network_that_is_said_first(session):
    result = session.call("install_packages", packages=["surely-not-there"])
    notes = [block["text"] for block in result.parts("note")]
    assert result.cause == "exit" and "network: none" in notes[0], result


@needs("commands")
@pytest.mark.parametrize("manager, name", [
    ("python", "--index-url=http://x"), ("python", "-r"), ("python", "x @ http://y/z.whl"),
    ("python", "./x.whl"), ("python", "/etc/x.whl"), ("python", "x;y"), ("system", "-y"),
    ("system", "x-"), ("system", "a b"), ("system", "./x.deb"),
])
def test_names_that_are_none(session, manager, name):
    result = session.call("install_packages", packages=["fine", name], manager=manager)
    assert result.is_error and name in result.text() and "item 1" in result.text(), result


@needs("commands", "own_root")
@pytest.mark.lacking("elsewhere")
def test_system_packages_where_the_system_is_read_only(session):
    result = session.call("install_packages", packages=["hello"], manager="system")
    assert result.is_error and "apt_packages" in result.text(), result
