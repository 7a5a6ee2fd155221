"""Fresh sandboxes: `ephemeral: true` on a session, and `--mode ephemeral`."""

import threading
import time

import pytest

pytestmark = pytest.mark.needs("ephemeral")


@pytest.mark.needs("stateful")
class TestOnASession:
    def test_state_is_neither_seen_nor_changed(self, box):
        box.ok("x = 'kept'\nwith open('f', 'w') as f: f.write('kept')")
        result = box.run("x", ephemeral=True)
        assert result.outcome["error"]["etype"] == "NameError"
        box.ok("x = 'other'\nwith open('f', 'w') as f: f.write('other')", ephemeral=True)
        assert box.value("x, open('f').read()") == "('kept', 'kept')"

    @pytest.mark.needs("copy")
    def test_it_has_the_sessions_shares(self, box, host):
        (host / "f").write_text("shared")
        box.bring(host / "f", "/workspace/f")
        box.ok("with open('/workspace/f', 'w') as f: f.write('changed')")
        assert box.value("open('/workspace/f').read()", ephemeral=True) == "'shared'"

    @pytest.mark.needs("mount|mount_copy")
    def test_it_has_the_sessions_mounts(self, box, host):
        (host / "f").write_text("mounted")
        box.bring(host, "/mnt/host", "mount")
        assert box.value("open('/mnt/host/f').read()", ephemeral=True) == "'mounted'"
        assert box.value("open('/mnt/host/f').read()") == "'mounted'"

    def test_beside_a_run_of_the_session(self, box):
        box.open()
        id_ = box.begin("import time; time.sleep(10)")
        began = time.monotonic()
        assert box.value("1 + 1", ephemeral=True) == "2"
        assert time.monotonic() - began < 8
        box.server.cancel(id_)

    def test_a_crash_in_it_is_its_own(self, box, has):
        box.ok("kept = 1")
        result = box.run("import os; os._exit(4)", ephemeral=True)
        assert result.outcome.get("exit_code") == (4 if "exit_status" in has else None)
        assert box.value("kept") == "1"

    def test_a_time_out_in_it_is_its_own(self, box):
        box.ok("kept = 1")
        result = box.run("while True: pass", ephemeral=True, timeout_seconds=0.5)
        assert result.cause == "timeout"
        assert box.value("kept") == "1"

    @pytest.mark.needs("shell")
    def test_shell(self, box):
        assert box.shell("echo $((6 * 7))", ephemeral=True).text("stdout") == "42\n"


@pytest.fixture(scope="module")
def fresh(launch):
    """A server in ephemeral mode."""
    with launch("--mode", "ephemeral") as client:
        yield client


class TestMode:
    def test_each_run_is_fresh(self, fresh):
        assert fresh.run("x = 1\nwith open('f', 'w') as f: f.write('x')\nx").text("result") == "1"
        assert fresh.run("x").outcome["error"]["etype"] == "NameError"
        assert fresh.run("import os; os.path.exists('f')").text("result") == "False"

    def test_results_are_whole(self, fresh):
        result = fresh.run("import sys\nprint('out'); print('err', file=sys.stderr); 'value'")
        assert [result.text(p) for p in ("stdout", "stderr", "result")] == [
            "out\n", "err\n", "'value'"]
        assert result.outcome["execution_count"] == 1

    @pytest.mark.needs("matplotlib")
    def test_figures(self, fresh):
        result = fresh.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
        assert len(result.images()) == 1

    @pytest.mark.needs("files")
    def test_what_it_made_is_there_afterwards(self, fresh):
        """Its sandbox is gone, the small files that it made are not."""
        link, = fresh.run("with open('made', 'w') as f: f.write('x')").parts("artifact")
        contents, = fresh.request("resources/read", {"uri": link["uri"]})["contents"]
        assert link["name"] == "made" and contents["text"] == "x"

    @pytest.mark.needs("usage")
    def test_what_it_used(self, fresh):
        code = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: 0"
        used = fresh.run(code).outcome
        assert 90 <= used["cpu_ms"] < 20000 and used["peak_rss_kib"] > 1000

    @pytest.mark.parametrize("code, cause", [
        ("1 / 0", "error"), ("import sys; sys.exit(3)", "exit"),
        ("import os; os.kill(os.getpid(), 11)", "killed")])
    def test_ends(self, fresh, code, cause):
        assert fresh.run(code).cause == cause

    @pytest.mark.needs("exit_status")
    def test_ends_by_itself(self, fresh):
        result = fresh.run("import os; os._exit(3)")
        assert (result.cause, result.outcome["exit_code"]) == ("exit", 3)

    def test_time_out(self, fresh):
        result = fresh.run("print('before')\nwhile True: pass", timeout_seconds=0.5)
        assert result.cause == "timeout" and result.text("stdout") == "before\n"
        assert "variables" not in result.text("note") or "gone" not in result.text("note")

    def test_stdin_and_env(self, fresh):
        result = fresh.run("import os; input(), os.environ['OWN']", stdin="in\n", env={"OWN": "e"})
        assert result.text("result") == "('in', 'e')"

    def test_shell(self, fresh):
        assert fresh.run("echo $0 > f; cat f", language="shell").cause == "ok"

    def test_long_output_says_what_is_left_out(self, fresh):
        result = fresh.run("for n in range(20000): print('line', n)")
        text = result.text("stdout")
        assert text.startswith("line 0\n") and text.endswith("line 19999\n") and len(text) < 45_000
        assert result.outcome["truncated"] is True

    def test_random_numbers_differ(self, fresh):
        values = {fresh.run("import random; random.random()").text("result") for _ in range(4)}
        assert len(values) == 4

    @pytest.mark.needs("copy")
    def test_shares_enter_each_run(self, fresh, host):
        (host / "f").write_text("shared")
        result = fresh.tool("add_share", {"type": "copy", "source": str(host / "f"),
                                          "dest": "/workspace/f"})
        assert not result.is_error, result
        for _ in range(2):
            code = "t = open('f').read(); open('f', 'w').close(); t"
            assert fresh.run(code).text("result") == "'shared'"
        fresh.tool("reset_session", {"session": result.session, "keep_shares": False})
        assert fresh.run("open('f')").cause == "error"

    def test_no_note_says_that_anything_is_kept(self, fresh):
        for code in ("import sys; sys.exit(3)", "import os; os._exit(3)", "while True: pass"):
            result = fresh.run(code, timeout_seconds=0.5)
            assert result.is_error and "kept" not in result.text("note"), result

    def test_a_reset_cancels_what_is_going(self, fresh):
        session = fresh.run("1").session
        id_ = fresh.begin_tool("run_code", {"code": "import time; print('x'); time.sleep(60)",
                                            "session": session}, "going")
        fresh.wait_notification("notifications/progress",
                                lambda p: "x" in p.get("message", ""), 20)
        assert not fresh.tool("reset_session", {"session": session}).is_error
        assert fresh.tool_result(id_).cause == "cancelled"
        assert fresh.run("1 + 1", session=session).text("result") == "2"

    def test_runs_are_beside_each_other(self, fresh):
        results = [None] * 4

        def work(n):
            results[n] = fresh.run(f"import time; time.sleep(0.3); {n}").text("result")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == ["0", "1", "2", "3"]
