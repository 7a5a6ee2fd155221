"""The connection to a Jupyter server is cut, or slow, by a proxy in between."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from jupyter_faults import Proxy, begin, going

pytestmark = pytest.mark.timeout(180)


class TestCuts:
    """The WebSocket ends in each phase; the code runs once, and its output is whole."""

    def test_between_two_runs(self, through, proxy):
        session = through.run("n = 1").session
        assert proxy.cut() > 0
        assert through.run("n += 1; n", session=session).text("result") == "2"
        time.sleep(0.3)
        proxy.cut()
        time.sleep(0.3)
        assert through.run("n += 1; n", session=session).text("result") == "3"

    @pytest.mark.parametrize("language", ["python", "shell"])
    def test_and_the_next_run_is_sent_at_once_or_a_moment_later(self, through, proxy, language):
        session = through.run("n = 0").session
        code = {"python": "n += 1; print(n)", "shell": "echo x >> count; wc -l < count"}[language]
        for n, pause in enumerate((0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), 1):
            assert proxy.cut() > 0
            time.sleep(pause)
            result = through.run(code, session=session, language=language)
            assert (result.cause, result.text("stdout")) == ("ok", f"{n}\n"), (pause, result)

    @pytest.mark.parametrize("slow", [0.0, 0.05])
    def test_and_the_next_run_waits_for_the_connection(self, through, proxy, slow):
        session = through.run("n = 0").session
        proxy.slow = slow
        for n in range(1, 4):
            proxy.refusing = True
            assert proxy.cut() > 0
            time.sleep(0.2)
            run = begin(through, "n += 1; print(n); n", session)
            time.sleep(0.2)
            proxy.refusing = False
            result = through.tool_result(run, 60)
            assert (result.text("stdout"), result.text("result")) == (f"{n}\n", str(n)), result

    def test_while_code_runs(self, through, proxy):
        session = through.run("n = 0").session
        code = "import time\nn += 1\nprint('going', flush=True)\ntime.sleep(1.5)\nprint('end')\nn"
        run = begin(through, code, session)
        going(through, "going")
        assert proxy.cut() > 0
        result = through.tool_result(run, 60)
        assert result.cause == "ok", result
        assert (result.text("stdout"), result.text("result")) == ("going\nend\n", "1")

    def test_and_the_end_of_the_run_comes_while_nothing_is_connected(self, through, proxy):
        session = through.run("n = 0").session
        run = begin(through, "import time\nprint('going', flush=True)\ntime.sleep(0.5)\nn += 1\nn",
                    session)
        going(through, "going")
        proxy.refusing = True
        proxy.cut()
        time.sleep(2)
        proxy.refusing = False
        result = through.tool_result(run, 60)
        assert (result.cause, result.text("result")) == ("ok", "1"), result
        assert through.run("n", session=session).text("result") == "1"

    def test_when_the_run_is_sent(self, through, proxy):
        session = through.run("n = 0").session
        proxy.cut_at = b"n += 1 # cut here"
        result = through.run("n += 1 # cut here\nn", session=session)
        assert (result.cause, result.text("result")) == ("ok", "1"), result

    @pytest.mark.parametrize("rest", ["", "\nimport time; time.sleep(0.5)"])
    def test_when_the_run_has_arrived(self, through, proxy, rest):
        session = through.run("n = 0").session
        for n in range(1, 4):
            proxy.cut_after = b"n += 1 # cut %d" % n
            result = through.run(f"n += 1 # cut {n}\nprint('out', n){rest}\nn", session=session)
            assert proxy.cut_after is None
            assert (result.cause, result.text("result")) == ("ok", str(n)), result
            assert result.text("stdout") == f"out {n}\n"

    @pytest.mark.parametrize("wait", [0, 1])
    def test_and_the_server_has_not_noticed_yet(self, through, proxy, wait):
        """What it sends then is lost with the connection: our helper has it still."""
        session = through.run("n = 0").session
        code = ("\nimport sys, time\nprint('o' + 'ut', n, 'é', flush=True)\n"
                "print('e' + 'rr', file=sys.stderr, flush=True)\ndisplay('fi' + 'gure')\n"
                f"time.sleep({wait})\nprint('end', n)\nn")
        for n in range(1, 4):
            proxy.swallow = (b"out", b"err", b"figure") if wait else (
                b"out", b"err", b"figure", b"end", b"execute_result", b"execute_reply")
            proxy.cut_after = b"n += 1 # cut %d" % n
            result = through.run(f"n += 1 # cut {n}{code}", session=session)
            assert proxy.cut_after is None
            assert (result.cause, result.text("result")) == ("ok", str(n)), result
            assert result.text("stdout") == f"out {n} é\nend {n}\n", result
            assert result.text("stderr") == "err\n" and "figure" in result.text(), result
            assert not result.text("note"), result

    def test_while_the_helper_is_brought(self, through, proxy):
        proxy.cut_at = b"hello"
        result = through.run("6 * 7")
        assert (result.cause, result.text("result")) == ("ok", "42"), result

    def test_while_output_comes(self, through, proxy):
        session = through.run("1").session
        code = "import time\nfor n in range(40):\n    print('line', n); time.sleep(0.05)"
        run = begin(through, code, session)
        for n in (5, 15, 25):
            going(through, f"line {n}")
            proxy.cut()
        result = through.tool_result(run, 60)
        assert result.cause == "ok" and not result.text("note"), result
        assert result.text("stdout") == "".join(f"line {n}\n" for n in range(40))

    def test_more_is_lost_than_the_helper_keeps(self, through, proxy):
        session = through.run("1").session
        proxy.swallow, proxy.cut_after = (b"execute_reply", b"the " + b"end"), b"# cut here"
        code = "for n in range(80): print('y' * 99_999) # cut here\nprint('the', 'end')"
        result = through.run(code, session=session, timeout=60)
        note, out = result.text("note"), result.text("stdout")
        assert result.cause == "ok" and out.endswith("y\nthe end\n"), result
        assert "was cut" in note and "8000008 bytes" in note, note

    def test_while_a_copy_is_made(self, server, proxy, launch, tmp_path):
        source = tmp_path / "large"
        source.write_bytes(os.urandom(8_000_000))
        client = launch(url=f"http://127.0.0.1:{proxy.port}", token=server.token,
                        args=("--share-root", tmp_path))
        session = client.run("1").session
        share = client.begin_tool("add_share", {"type": "copy", "source": str(source),
                                                "dest": "/workspace/large", "session": session})
        time.sleep(0.15)
        proxy.cut()
        assert not client.tool_result(share, 60).is_error
        code = "import hashlib; hashlib.md5(open('large', 'rb').read()).hexdigest()"
        wanted = hashlib.md5(source.read_bytes()).hexdigest()
        assert client.run(code, session=session).text("result") == repr(wanted)

    def test_for_good_is_lost(self, server, launch):
        own = Proxy(server.port)
        client = launch(url=f"http://127.0.0.1:{own.port}", token=server.token)
        session = client.run("1").session
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)", session)
        going(client, "going")
        own.close()
        result = client.tool_result(run, 60)
        assert result.cause == "lost" and result.is_error, result
        client.close(40)
        for kernel in server.kernels():  # out of our reach: the test cleans up
            server.ask("DELETE", f"kernels/{kernel}")
        for folder in server.temp.glob("cellblock-*"):
            shutil.rmtree(folder)


class TestVolume:
    def test_a_hundred_megabytes_and_a_slow_connection(self, through, proxy):
        session = through.run("1").session
        proxy.slow = 0.0005
        code = "for n in range(1000): print('y' * 99_999)\nprint('the end')"
        result = through.run(code, session=session, timeout=120, timeout_seconds=100)
        assert result.cause == "ok" and "the end" in result.text("stdout"), result
        assert "dropped" not in result.text("note")
        assert result.outcome["truncated"] is True
        status = Path(f"/proc/{through.process.pid}/status").read_text(encoding="ascii")
        peak = next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)
        assert peak < 200_000, peak  # KiB
