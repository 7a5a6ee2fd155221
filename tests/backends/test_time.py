"""Limits of time, cancelling, waiting in line, and sessions beside each other."""

import threading
import time

import pytest

SPIN = "while True: pass"
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('deaf', flush=True)
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


def timed_out(result, seconds):
    """It is a time-out, told as one, and came soon after the limit."""
    assert result.cause == "timeout" and result.is_error, result
    assert result.outcome["error"]["etype"] == "TimeoutError"
    assert result.outcome["duration_ms"] < seconds * 1000 + 6000
    assert f"{seconds:g} s" in result.text(), result.text()
    return result


@pytest.mark.needs("interrupt")
class TestInterrupted:
    @pytest.mark.needs("stateful")
    @pytest.mark.parametrize("code", [
        SPIN, "import time; time.sleep(60)", "input and __import__('threading').Event().wait()",
        "import asyncio; await asyncio.sleep(60)", "import os; os.system('sleep 60')",
        "import subprocess; subprocess.run(['sleep', '60'])", "!sleep 60", "%%bash\nsleep 60",
        "while True:\n    try:\n        raise ValueError\n    except Exception: pass"])
    def test_variables_are_kept(self, py, code):
        py.ok("kept = 42")
        result = timed_out(py.run(code, timeout_seconds=0.5), 0.5)
        assert "kept" in result.text("note") or "variables" in result.text("note")
        assert py.value("kept") == "42"

    def test_two_seconds_of_a_loop(self, py):
        result = timed_out(py.run(SPIN, timeout_seconds=2), 2)
        assert 2000 <= result.outcome["duration_ms"] < 3500

    def test_partial_output_is_kept(self, py):
        result = timed_out(py.run("print('before', end='')\n" + SPIN, timeout_seconds=0.5), 0.5)
        assert result.text("stdout") == "before"

    @pytest.mark.needs("stateful")
    def test_a_loop_that_prints_all_the_time(self, py):
        py.ok("kept = 1")
        result = timed_out(py.run("while True: print('again')", timeout_seconds=1), 1)
        assert result.text("stdout").startswith("again\n")
        assert len(result.text("stdout")) < 45_000
        assert py.value("kept") == "1"

    @pytest.mark.needs("stateful")
    def test_finally_and_with_are_run(self, py):
        timed_out(py.run("import time\ntry:\n    while True: time.sleep(0.01)\nfinally:\n"
                         "    cleaned = True", timeout_seconds=0.5), 0.5)
        assert py.value("cleaned") == "True"

    def test_a_run_that_swallows_the_interrupt_and_ends_is_still_late(self, py):
        result = py.run("import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
                        "    print('swallowed')", timeout_seconds=0.5)
        assert timed_out(result, 0.5).text("stdout") == "swallowed\n"

    @pytest.mark.needs("stateful")
    def test_shell(self, py):
        py.ok("kept = 5")
        result = timed_out(py.shell("echo before; sleep 60", timeout_seconds=0.5), 0.5)
        assert result.outcome["exit_code"] == 124 and result.text("stdout") == "before\n"
        assert py.value("kept") == "5"

    def test_shell_that_ignores_signals(self, py):
        py.ok("kept = 6")
        timed_out(py.shell("trap '' INT TERM; while :; do sleep 1; done", timeout_seconds=0.5), 0.5)
        assert py.value("1 + 1") == "2"


class TestKilled:
    def test_code_that_ignores_the_interrupt(self, box):
        box.ok("kept = 1")
        result = timed_out(box.run(DEAF, timeout_seconds=0.5), 0.5)
        assert result.text("stdout") == "deaf\n"
        assert "gone" in result.text("note")
        assert box.run("kept").outcome["error"]["etype"] == "NameError"

    @pytest.mark.needs("keeps_files", "stateful")
    def test_files_are_kept(self, box):
        box.ok("with open('f', 'w') as f: f.write('here')")
        result = timed_out(box.run(DEAF, timeout_seconds=0.5), 0.5)
        assert "files are kept" in result.text("note"), result
        assert box.value("open('f').read()") == "'here'"

    def test_code_stuck_in_c(self, box):
        code = "import ctypes; ctypes.PyDLL(None).sleep(60)"
        if "PyPy" in box.value("import sys; sys.version"):
            code = "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')"
        timed_out(box.run(code, timeout_seconds=0.5), 0.5)
        assert box.value("1 + 1") == "2"

    def test_stopped_code(self, box):
        timed_out(box.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
                          timeout_seconds=0.5), 0.5)
        assert box.value("1 + 1") == "2"

    @pytest.mark.needs("copy")
    def test_shares_are_back_afterwards(self, box, host):
        (host / "data").write_text("shared")
        box.bring(host / "data", "/workspace/data")
        box.ok("1")
        timed_out(box.run(DEAF, timeout_seconds=0.5), 0.5)
        assert box.value("open('/workspace/data').read()") == "'shared'"


class TestLimits:
    def test_default_comes_from_the_environment(self, launch):
        with launch(environment={"timeout_seconds": 0.5}) as client:
            timed_out(client.run(SPIN), 0.5)
            assert client.run("import time; time.sleep(1)", timeout_seconds=5).cause == "ok"

    def test_above_the_maximum_is_refused(self, py):
        result = py.run("1", timeout_seconds=3601)
        assert result.is_error and "3600" in result.text() and "3601" in result.text()

    @pytest.mark.parametrize("seconds", [0, -1])
    def test_nonsense_is_refused(self, py, seconds):
        result = py.call("run_code", code="1", timeout_seconds=seconds)
        assert result.is_error and "timeout_seconds" in result.text()

    def test_null_is_the_default(self, py):
        assert py.call("run_code", code="1 + 1", timeout_seconds=None, language=None, stdin=None,
                       env=None, environment=None, ephemeral=None).text("result") == "2"


class TestCancel:
    @pytest.mark.needs("interrupt", "stateful")
    def test_of_a_running_one_keeps_variables(self, box):
        box.ok("kept = 7")
        id_ = box.begin(f"print('going', flush=True)\n{SPIN}", token="cancelled")
        box.server.wait_notification("notifications/progress",
                                     lambda p: "going" in p.get("message", ""), 10)
        box.server.cancel(id_)
        began = time.monotonic()
        assert box.value("kept") == "7"
        assert time.monotonic() - began < 10
        assert box.server.answers(id_) == []

    @pytest.mark.needs("interrupt", "stateful")
    def test_of_one_that_has_hardly_begun_keeps_variables(self, box):
        box.ok("kept = 8")
        for n in range(20):
            id_ = box.begin(SPIN)
            time.sleep(n / 5000)
            box.server.cancel(id_)
            assert box.value("kept") == "8"

    def test_of_one_that_ignores_it(self, box):
        box.open()
        id_ = box.begin(DEAF, token="deaf")
        box.server.wait_notification("notifications/progress",
                                     lambda p: "deaf" in p.get("message", ""), 10)
        box.server.cancel(id_)
        assert box.value("1 + 1") == "2"

    @pytest.mark.needs("stateful")
    def test_of_one_that_waits(self, box):
        box.ok("ran = []")
        first = box.begin("import time; time.sleep(1); ran.append(1)")
        second = box.begin("ran.append(2)")
        third = box.begin("ran.append(3)")
        box.server.cancel(second)
        assert box.server.tool_result(third).cause == "ok"
        assert box.server.tool_result(first).cause == "ok"
        assert box.value("ran") == "[1, 3]"


class TestBeside:
    @pytest.mark.needs("stateful")
    def test_runs_of_one_session_are_in_order(self, box):
        box.ok("seen = []")
        ids = [box.begin(f"import time; time.sleep(0.05); seen.append({n})") for n in range(10)]
        for id_ in ids:
            assert box.server.tool_result(id_).cause == "ok"
        assert box.value("seen == list(range(10))") == "True"

    def test_the_clock_starts_when_the_code_starts(self, box):
        box.open()
        first = box.begin("import time; time.sleep(1.5)")
        second = box.begin("'in time'", timeout_seconds=1)
        assert box.server.tool_result(second).text("result") == "'in time'"
        assert box.server.tool_result(first).cause == "ok"

    def test_a_failed_run_does_not_stop_those_behind_it(self, box, has):
        box.open()
        ids = [box.begin(code) for code in ("1 / 0", "import os; os._exit(1)", "6 * 7")]
        causes = [box.server.tool_result(id_).cause for id_ in ids]
        assert causes == ["error", "exit" if "exit_status" in has else "killed", "ok"]

    def test_a_long_run_does_not_hold_up_another_session(self, boxes):
        slow, quick = boxes().open(), boxes().open()
        id_ = slow.begin("import time; time.sleep(5)")
        began = time.monotonic()
        assert quick.value("1 + 1") == "2"
        slow.server.request("tools/list")
        assert time.monotonic() - began < 4
        assert slow.server.answers(id_) == []
        slow.server.cancel(id_)

    @pytest.mark.needs("stateful")
    def test_eight_at_once(self, boxes):
        many = [boxes() for _ in range(8)]
        results = [None] * 8

        def work(n):
            one = many[n]
            one.ok(f"own = {n}")
            results[n] = [one.value("own"), one.value("import os; os.getpid() > 0")]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert results == [[str(n), "True"] for n in range(8)]

    @pytest.mark.once
    def test_too_many_in_line_is_refused(self, box):
        box.open()
        ids = [box.begin("import time; time.sleep(2)")] + [box.begin("1") for _ in range(70)]
        results = [box.server.tool_result(id_) for id_ in ids]
        refused = [r for r in results if r.is_error]
        assert 1 <= len(refused) <= 10 and "64" in refused[0].text(), refused[:1]
