"""What goes wrong around a Jupyter server that cellblock itself starts and ends."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from engines.jupyter import KERNELS
from jupyter_faults import PYTHON, begin, going

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PYTHON.exists(),
                       reason=f"no {KERNELS}: tests/run.sh --install makes it"),
]


def fake_python(folder, text):
    """A program in the place of an interpreter."""
    path = folder / "python-of-the-test"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def named(text):
    """The processes whose command line has this text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.add(int(path.parent.name))
    return found


@pytest.mark.skipif(not PYTHON.exists(), reason=f"no {KERNELS}: tests/run.sh --install makes it")
class TestOwnServer:
    def test_dead_at_its_start_is_quoted_at_once(self, launch, tmp_path):
        python = fake_python(tmp_path, "echo 'boom: no such thing' >&2; exit 3")
        began = time.monotonic()
        result = launch("local-jupyter", python=python).run("1")
        assert result.is_error and "boom: no such thing" in result.text(), result
        assert "3" in result.text() and time.monotonic() - began < 5

    def test_a_python_without_a_server_says_what_to_install(self, launch, tmp_path):
        result = launch("local-jupyter", python="/usr/bin/python3").run("1")
        if result.is_error:  # Debian's has neither, as a rule
            assert "jupyter_server" in result.text() and "install" in result.text(), result

    def test_slow_to_start(self, launch, tmp_path):
        python = fake_python(tmp_path, f'sleep 3; exec {PYTHON} "$@"')
        assert launch("local-jupyter", python=python).run("6 * 7").text("result") == "42"

    def test_no_grammar_is_read_that_it_never_needs(self, launch, tmp_path):
        """It took most of a start. What the code imports is its own."""
        (tmp_path / "rfc3987_syntax.py").write_text("raise SystemExit('it was read')\n")
        python = fake_python(tmp_path, f'PYTHONPATH={tmp_path} exec {PYTHON} "$@"')
        result = launch("local-jupyter", python=python).run(
            "import importlib.util\nimportlib.util.find_spec('rfc3987_syntax').origin")
        assert str(tmp_path) in result.text("result"), result

    def test_killed_under_a_run(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        session = client.run("import os; server = os.getppid(); server").session
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)", session)
        going(client, "going")
        server = next(pid for pid, _ in client.tree() if _is_server(pid))
        os.kill(server, signal.SIGKILL)
        result = client.tool_result(run, 60)
        assert result.cause in ("lost", "killed") and result.is_error, result

    def test_the_token_is_in_no_command_line(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        client.run("1")
        for pid, _ in client.tree():
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for entry in environ:
                if entry.startswith(b"JUPYTER_TOKEN="):
                    token = entry.split(b"=", 1)[1]
                    assert len(token) > 30 and not named(token.decode())

    def test_nothing_of_our_environment(self, launch):
        client = launch("local-jupyter", python=str(PYTHON),
                        env={"SECRET_OF_THE_SERVER": "token123"})
        result = client.run("import os; print(dict(os.environ), open('/proc/self/environ').read())")
        assert "token123" not in str(result.raw)

    def test_nothing_stays_after_a_kill_of_ours(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        folder = client.run("import os; os.environ['IPYTHONDIR']").text("result").strip("'")
        before = client.tree()
        client.kill()
        end = time.monotonic() + 20
        while alive(before) or os.path.exists(os.path.dirname(folder)):
            assert time.monotonic() < end, (alive(before), folder)
            time.sleep(0.2)

    def test_nothing_stays_after_a_close(self, launch):
        with launch("local-jupyter", python=str(PYTHON)) as client:
            folder = client.run("import os; os.environ['IPYTHONDIR']").text("result").strip("'")
            before = client.tree()
            assert len(before) >= 3
        assert not alive(before) and not os.path.exists(os.path.dirname(folder))


def alive(processes):
    """Those of (pid, start) that are there still."""
    found = set()
    for pid, _ in processes:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            if state.rsplit(")", 1)[1].split()[0] != "Z":
                found.add(pid)
    return found


def _is_server(pid):
    with contextlib.suppress(OSError):
        return b"own_server" in Path(f"/proc/{pid}/cmdline").read_bytes() or \
            b"die_with_parent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
