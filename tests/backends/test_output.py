"""What code prints: order, children, C, bytes, volume, streaming, and what comes too late."""

import re
import time

import pytest

KB = 1000


def full_path(result, stream="stdout"):
    """The file with the full output that the note names."""
    found = re.search(rf"\S*/\.cellblock/r-\w+\.{stream}", result.text("note"))
    assert found, result.text("note")
    return found.group(0)


class TestWhere:
    def test_stdout_and_stderr_apart(self, py):
        result = py.ok("import sys\nprint('out'); print('err', file=sys.stderr)")
        assert (result.text("stdout"), result.text("stderr")) == ("out\n", "err\n")

    def test_children_and_c_and_python_in_order(self, py):
        code = """
            import ctypes, os, subprocess, sys
            libc = ctypes.CDLL(None)
            print('1 python')
            os.system('echo 2 child')
            libc.puts(b'3 C')
            libc.fflush(None)
            os.write(1, b'4 descriptor\\n')
            subprocess.run(['echo', '5 subprocess'])
            sys.stdout.buffer.write(b'6 bytes\\n')
            print('7 python')"""
        assert [line[0] for line in py.printed(code).splitlines()] == list("1234567")

    def test_c_output_without_a_flush(self, py):
        result = py.ok("import ctypes; ctypes.CDLL(None).printf(b'from C\\n'); None")
        assert result.text("stdout") == "from C\n"
        assert py.ok("None").text("stdout") == ""

    def test_child_stderr(self, py):
        assert py.ok("import os; os.system('echo err >&2');").text("stderr") == "err\n"

    def test_no_newline_at_the_end(self, py):
        assert py.printed("print('a', end='')") == "a"

    def test_replaced_and_closed_stdout_heal(self, py):
        assert py.run("import sys, os\nsys.stdout = None").cause == "ok"
        assert py.printed("print('back')") == "back\n"
        assert py.run("import os; os.close(1); os.close(2)").cause == "ok"
        assert py.printed("print('back')") == "back\n"
        assert py.run("import sys; sys.stdout.close()").cause == "ok"
        assert py.printed("print('back')") == "back\n"

    def test_redirection_by_the_user(self, py):
        code = ("import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as s:\n"
                "    print('caught')\ns.getvalue()")
        result = py.ok(code)
        assert result.text("result") == "'caught\\n'" and result.text("stdout") == ""

    def test_logging_and_print_in_threads_of_the_run(self, py):
        code = """
            import logging, threading
            logging.basicConfig(force=True)
            t = [threading.Thread(target=print, args=(n,)) for n in range(20)]
            [x.start() for x in t]; [x.join() for x in t]
            logging.warning('logged')"""
        result = py.ok(code)
        assert sorted(result.text("stdout").split(), key=int) == [str(n) for n in range(20)]
        assert "logged" in result.text("stderr")


class TestBytes:
    def test_character_split_across_writes(self, py):
        code = ("import os, time\nfor b in 'ü🐍\\n'.encode():\n"
                "    os.write(1, bytes([b])); time.sleep(0.02)")
        assert py.printed(code) == "ü🐍\n"

    def test_invalid_utf8_becomes_replacement_characters(self, py):
        assert py.printed("import os; os.write(1, b'a\\xff\\xfeb\\n');") == "a\ufffd\ufffdb\n"

    def test_nul_and_controls(self, py):
        text = py.printed("import os; os.write(1, b'a\\0b\\x1b[31mred\\x07\\n');")
        assert text.startswith("a") and "red" in text and "b" in text

    def test_frames_forged_on_stdout_are_text(self, py):
        code = ("import os, struct\nos.write(1, struct.pack('<IB', 2, 0x1f) + b'{}');\n"
                "os.write(2, b'\\x02\\0\\0\\0\\x1f{}');\nprint('alive')")
        assert "alive" in py.printed(code)


class TestVolume:
    def test_forty_kb_are_whole(self, py):
        text = py.printed("print('x' * 35_000)")
        assert text == "x" * 35_000 + "\n"

    @pytest.mark.needs("stateful")
    def test_more_is_cut_in_the_middle_at_a_line(self, py):
        result = py.ok("for n in range(20_000): print(f'line {n}')")
        text = result.text("stdout")
        assert text.startswith("line 0\n") and text.endswith("line 19999\n")
        assert len(text.encode()) < 45 * KB and result.outcome["truncated"] is True
        left_out = [line for line in text.splitlines() if not re.fullmatch(r"line \d+", line)]
        assert len(left_out) <= 3 and re.search(r"\d", "".join(left_out)), left_out
        kept = re.findall(r"^line (\d+)$", text, re.M)
        assert len(kept) > 1000
        total = sum(len(f"line {n}\n") for n in range(20_000))
        lines = py.value(f"open({full_path(result)!r}).read().count('\\n')")
        assert lines == "20000"
        assert py.value(f"import os; os.path.getsize({full_path(result)!r})") == str(total)

    def test_the_cut_keeps_characters_whole(self, py):
        text = py.ok("print('🐍ü' * 40_000)").text("stdout")
        assert "\ufffd" not in text and text.startswith("🐍ü") and text.endswith("🐍ü\n")

    @pytest.mark.needs("stateful")
    def test_ten_megabytes(self, box):
        result = box.ok("import sys\nfor n in range(100): sys.stdout.write('y' * 99_999 + '\\n')\n"
                        "print('the end')")
        assert "the end" in result.text("stdout") and len(result.text("stdout")) < 45 * KB
        assert result.outcome["truncated"] is True
        path = full_path(result)
        assert box.value(f"len(open({path!r}).read())") == str(100 * 100_000 + len("the end\n"))
        assert "10000008" in re.sub(r"[ ,._]", "", result.text("stdout") + result.text("note"))

    @pytest.mark.needs("stateful")
    def test_full_output_is_readable_from_the_shell(self, box):
        result = box.ok("print('z' * 300_000)")
        assert box.shell(f"wc -c < {full_path(result)}").text("stdout").strip() == "300001"

    @pytest.mark.needs("stateful")
    def test_a_run_that_is_stopped_keeps_what_it_printed(self, box):
        code = ("import time\nfor n in range(20_000): print(f'line {n}')\n"
                "print('then it hangs', flush=True)\ntime.sleep(60)")
        result = box.run(code, timeout_seconds=2)
        assert result.cause == "timeout" and result.text("stdout").endswith("then it hangs\n")
        lines = box.value(f"open({full_path(result)!r}).read().count('\\n')")
        assert lines == "20001"

    def test_both_streams_share_the_limit(self, py):
        result = py.ok("import sys\nprint('o' * 200_000); print('e' * 200_000, file=sys.stderr)")
        assert len(result.text("stdout")) + len(result.text("stderr")) < 45 * KB
        assert result.text("stdout").startswith("ooo") and result.text("stderr").startswith("eee")

    def test_huge_result_value(self, py):
        result = py.ok("'v' * 500_000")
        assert len(result.text("result")) < 45 * KB and result.outcome["truncated"] is True

    def test_many_displays_are_capped_and_said(self, py):
        result = py.ok("for n in range(500): display(n)")
        assert len(result.content) < 200 and "display" in result.text("note")


class TestStreaming:
    def test_progress_while_it_runs(self, box):
        box.open()
        began = time.monotonic()
        id_ = box.begin("import time\nfor n in range(4):\n    print('step', n); time.sleep(0.4)",
                        token="stream")
        box.server.wait_until(lambda: any(
            "step 0" in m["params"].get("message", "") for m in box.server.messages
            if m.get("method") == "notifications/progress"), 10, "the first line")
        assert time.monotonic() - began < 1.4
        result = box.server.tool_result(id_)
        assert result.text("stdout") == "step 0\nstep 1\nstep 2\nstep 3\n"
        told = [p for p in box.server.progress("stream") if "step" in p.get("message", "")]
        assert len(told) >= 3
        values = [p["progress"] for p in box.server.progress("stream")]
        assert values == sorted(values)

    def test_progress_of_much_output_is_the_newest(self, box):
        """Also where most of it never comes here."""
        box.open()
        code = ("import sys, time\nfor n in range(100_000): print('line', n)\n"
                "print('THE NEWEST', flush=True); time.sleep(1)")
        id_ = box.begin(code, token="much")
        box.server.wait_until(lambda: any(
            p.get("message", "").rstrip().endswith("THE NEWEST")
            for p in box.server.progress("much")), 20, "the newest line")
        text = box.server.tool_result(id_).text("stdout")
        assert text.startswith("line 0\n") and text.endswith("line 99999\nTHE NEWEST\n")

    def test_nothing_without_a_token(self, box):
        seen = len(box.server.notifications("notifications/progress"))
        box.ok("import time\nfor n in range(3):\n    print(n); time.sleep(0.1)")
        assert len(box.server.notifications("notifications/progress")) == seen

    @pytest.mark.once
    def test_at_most_twenty_a_second(self, box):
        box.open()
        id_ = box.begin("import time\nfor n in range(300):\n    print(n); time.sleep(0.005)",
                        token="fast")
        box.server.tool_result(id_)
        assert 2 <= len(box.server.progress("fast")) <= 80


class TestTooLate:
    def test_a_thread_that_prints_later_is_not_in_the_next_result(self, box):
        box.ok("import threading, time\ndef late():\n    time.sleep(0.4); print('LATE')\n"
               "threading.Thread(target=late).start()\nprint('now')")
        time.sleep(1)
        result = box.ok("print('next')")
        assert result.text("stdout") == "next\n"

    def test_a_daemon_that_prints_later_is_not_in_the_next_result(self, box):
        box.shell("(sleep 0.4; echo LATE) &")
        time.sleep(1.2)
        assert box.printed("print('next')") == "next\n"

    def test_a_child_that_keeps_stdout_open_does_not_hold_up_the_result(self, box):
        result = box.ok("import subprocess\np = subprocess.Popen(['sleep', '30'])\nprint('done')")
        assert result.text("stdout") == "done\n" and result.outcome["duration_ms"] < 10_000
        result = box.shell("sleep 30 & echo started")
        assert result.text("stdout") == "started\n" and result.outcome["duration_ms"] < 10_000
