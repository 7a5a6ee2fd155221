"""`cellblock run`: what comes out, and the exit status that follows the outcome."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support.client import binary


def run(cellblock, code, *options):
    """Runs Python code given on standard input."""
    return cellblock("run", *options, "-", input=code)


def test_prints_and_the_last_value(cellblock):
    """As an interpreter shows it."""
    done = run(cellblock, "import sys\nprint('out')\nprint('err', file=sys.stderr)\n[6 * 7]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n[42]\n", "err\n")


def test_no_value_for_none_and_semicolons(cellblock):
    """Nothing is printed that an interpreter would not print."""
    assert run(cellblock, "None").stdout == ""
    assert run(cellblock, "6 * 7;").stdout == ""
    assert run(cellblock, "").stdout == ""


def test_files_by_their_names(cellblock, tmp_path):
    """.sh is for the shell, all else for Python."""
    (tmp_path / "a.sh").write_text("echo $((6 * 7)); exit 5\n")
    (tmp_path / "a.py").write_text("\ufeffprint('python')\n")
    (tmp_path / "-odd").write_text("print('odd')\n")
    done = cellblock("run", tmp_path / "a.sh")
    assert (done.stdout, done.returncode) == ("42\n", 5)
    assert cellblock("run", tmp_path / "a.py").stdout == "python\n"
    assert cellblock("run", "--", "-odd", cwd=tmp_path).stdout == "odd\n"


@pytest.mark.parametrize(("code", "status"), [
    ("1 / 0", 1),
    ("import sys; sys.exit(0)", 0),
    ("import sys; sys.exit(7)", 7),
    ("import os; os._exit(9)", 9),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139),
    ("def f(:", 1),
])
def test_the_exit_status_follows_the_outcome(cellblock, code, status):
    """And whatever is not 0 is explained, unless the code chose it."""
    done = run(cellblock, code)
    assert done.returncode == status
    assert "Traceback" not in done.stdout


def test_an_exception_shows_its_traceback(cellblock):
    """On stderr, with the user's line."""
    done = run(cellblock, "x = 1\nx / 0\n")
    assert "ZeroDivisionError" in done.stderr and "line 2" in done.stderr


def test_time_limit(cellblock):
    """124, with what was printed before."""
    done = run(cellblock, "print('before', flush=True)\nwhile True: pass", "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (124, "before\n")
    assert "0.5" in done.stderr


def test_out_of_memory(cellblock, tmp_path):
    """137 when the whole sandbox is past its limit, and the limit is named."""
    config = tmp_path / "c.json"
    config.write_text('{"environments": {"default": {"memory_mib": 128}}}')
    code = ("import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n"
            "        x = bytearray(60 << 20)\n        time.sleep(20)\n        os._exit(0)\n"
            "time.sleep(20)\n")
    done = run(cellblock, code, "--config", config)
    assert done.returncode == 137
    assert "128" in done.stderr


def test_shares(cellblock):
    """Read-only unless :rw, whatever their folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.txt").write_text("data")
        out = folder / "out"
        out.mkdir()
        out.chmod(0o777)
        folder.chmod(0o755)
        check_shares(cellblock, folder, out)


def check_shares(cellblock, folder, out):
    """Of a folder that any user may read: root's sandboxes are not root's."""
    code = ("print(open('/data/in.txt').read())\nopen('/out/new', 'w').write('made')\n"
            "try: open('/data/in.txt', 'w')\nexcept OSError as e: print(type(e).__name__)\n")
    done = run(cellblock, code, "--share", f"{folder}/in.txt:/data/in.txt",
               f"--share={out}:/out:rw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "data"
    assert done.stdout.splitlines()[-1] in ("PermissionError", "OSError")
    assert (out / "new").read_text() == "made"


def test_shares_that_cannot_be(cellblock):
    """A missing source, one that is neither file nor folder, the same destination twice."""
    done = run(cellblock, "1", "--share", "/nonexistent:/x")
    assert done.returncode == 2 and "/nonexistent" in done.stderr
    assert run(cellblock, "1", "--share", "/dev/null:/x").returncode == 2
    twice = ("--share", "/usr/share/doc:/x") * 2
    done = run(cellblock, "1", *twice)
    assert done.returncode == 2 and "/x" in done.stderr


def test_files_that_cannot_be_read(cellblock, tmp_path):
    """Missing, a directory, not UTF-8."""
    (tmp_path / "latin").write_bytes(b"print('\xe9')")
    assert "No such file" in cellblock("run", tmp_path / "none").stderr
    assert cellblock("run", tmp_path).returncode == 2
    done = cellblock("run", tmp_path / "latin")
    assert done.returncode == 2 and "UTF-8" in done.stderr


def test_the_code_has_no_input(cellblock, tmp_path):
    """input() never waits, and never reads what is ours."""
    (tmp_path / "a.py").write_text("input()")
    done = cellblock("run", tmp_path / "a.py", input="secret\n")
    assert done.returncode == 1 and "EOFError" in done.stderr


def test_output_streams(cellblock):
    """What is printed comes out while the code runs."""
    with subprocess.Popen([binary(), "run", "-"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdin.write(b"import time\nprint('now', flush=True)\ntime.sleep(3)\n")
        process.stdin.close()
        assert process.stdout.readline() == b"now\n"
        assert process.poll() is None
    assert process.returncode == 0


def test_ten_megabytes_come_out_whole(cellblock):
    """No cut without MCP."""
    done = run(cellblock, "print('x' * 10_000_000)")
    assert done.returncode == 0 and len(done.stdout) == 10_000_001


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels(number, status):
    """With the status that a shell expects."""
    with subprocess.Popen([binary(), "run", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as process:
        process.stdin.write(b"import time\nprint('now', flush=True)\ntime.sleep(60)\n")
        process.stdin.close()
        assert process.stdout.readline() == b"now\n"
        started = time.monotonic()
        os.killpg(process.pid, number)
        assert process.wait(timeout=10) == status
        assert time.monotonic() - started < 5


def test_a_reader_that_goes_away_ends_it():
    """As SIGPIPE would: 141."""
    with subprocess.Popen([binary(), "run", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdin.write(b"while True: print('y' * 1000)\n")
        process.stdin.close()
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=20) == 141


def test_a_display_without_a_terminal(cellblock):
    """A rich value shows its text form."""
    code = ("class Rich:\n    def __repr__(self): return 'plain'\n"
            "    def _repr_html_(self): return '<b>rich</b>'\nRich()")
    assert run(cellblock, code).stdout == "plain\n"


def test_isolation_that_cannot_work_is_refused(cellblock):
    """With PATH empty there is no bwrap: the answer says so and never goes on with less."""
    done = cellblock("run", "--python", "/usr/bin/python3", "-", input="print('ran')",
                     env={"PATH": "/nonexistent"})
    assert "ran" not in done.stdout
    assert done.returncode in (3, 4) and "bubblewrap" in done.stderr
