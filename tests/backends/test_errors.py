"""Exceptions and the other ways that a run ends."""

import re
import time

import pytest


def lines_of(result):
    """The line numbers in a traceback, in order."""
    return [int(n) for n in re.findall(r"line (\d+)", result.text("error"))]


class TestTracebacks:
    def test_says_what_and_where(self, py):
        result = py.run("x = 1\n\ndef f():\n    return x / 0\n\nf()")
        assert result.cause == "error" and result.is_error
        assert result.outcome["success"] is False
        assert result.outcome["error"] == {"etype": "ZeroDivisionError",
                                           "evalue": "division by zero"}
        text = result.text("error")
        assert lines_of(result) == [6, 4]
        assert "return x / 0" in text and "f()" in text
        assert text.rstrip().endswith("ZeroDivisionError: division by zero")

    def test_only_the_users_frames(self, py):
        text = py.run("def f(): raise ValueError('own')\nf()").text("error")
        assert text.count("line ") == 2
        for name in ("cellblock", "IPython", "interactiveshell", "exec(", "/usr/lib"):
            assert name not in text, text

    def test_frames_of_libraries_are_kept(self, py):
        text = py.run("import json\njson.loads('{')").text("error")
        assert "json.loads" in text and "decoder" in text

    def test_no_ansi(self, py):
        for code in ("1 / 0", "x = = 1", "import asyncio\nawait nothing()", "%nosuchmagic\n1/0"):
            assert "\x1b" not in str(py.run(code).raw), code

    @pytest.mark.needs("stateful")
    def test_functions_of_earlier_runs(self, py):
        py.ok("# a line\n\ndef earlier():\n    raise KeyError('k')")
        result = py.run("earlier()")
        assert lines_of(result) == [1, 4] and "raise KeyError('k')" in result.text("error")

    def test_chained_exceptions(self, py):
        result = py.run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n"
                        "    raise RuntimeError('second') from e")
        text = result.text("error")
        assert result.outcome["error"]["etype"] == "RuntimeError"
        assert "division by zero" in text and "direct cause" in text

    def test_syntax_error_shows_the_place(self, py):
        result = py.run("x = 1\ny = (2\nz = 3")
        text = result.text("error")
        assert result.outcome["error"]["etype"] == "SyntaxError" and "line 2" in text
        assert "y = (2" in text and "^" in text
        assert "Traceback" not in text

    def test_output_before_the_error_is_kept(self, py):
        result = py.run("print('before')\n1 / 0")
        assert result.text("stdout") == "before\n" and result.cause == "error"

    @pytest.mark.needs("stateful")
    def test_state_after_an_error_is_kept(self, py):
        py.run("kept = 5\n1 / 0")
        assert py.value("kept") == "5"

    def test_own_exception_with_a_broken_str(self, py):
        result = py.run("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd")
        assert result.cause == "error" and result.outcome["error"]["etype"] == "Odd"

    def test_recursion(self, py):
        result = py.run("def f(): return f()\nf()")
        assert result.outcome["error"]["etype"] == "RecursionError"
        assert len(result.text("error")) < 20_000
        assert py.value("1 + 1") == "2"

    def test_huge_message_is_cut(self, py):
        result = py.run("raise ValueError('x' * 3_000_000)")
        assert result.cause == "error" and len(str(result.raw)) < 200_000

    def test_exception_that_is_no_exception(self, py):
        assert py.run("raise 5").outcome["error"]["etype"] == "TypeError"
        assert py.run("class B(BaseException): pass\nraise B('b')").outcome["error"] == {
            "etype": "B", "evalue": "b"}
        assert py.run("raise GeneratorExit").outcome["error"]["etype"] == "GeneratorExit"

    def test_keyboard_interrupt_of_its_own(self, py):
        result = py.run("raise KeyboardInterrupt")
        assert result.cause == "error", result
        assert result.outcome["error"]["etype"] == "KeyboardInterrupt"

    def test_warnings_go_to_stderr(self, py):
        result = py.ok("import warnings; warnings.warn('careful')")
        assert "careful" in result.text("stderr") and result.text("stdout") == ""

    def test_exception_group(self, py):
        result = py.run("try:\n    E = ExceptionGroup\nexcept NameError:\n    raise SystemError\n"
                        "raise E('several', [ValueError(1), KeyError(2)])")
        assert result.outcome["error"]["etype"] in ("ExceptionGroup", "SystemError")


class TestExit:
    @pytest.mark.parametrize("call", ["sys.exit()", "sys.exit(0)", "sys.exit(None)",
                                      "raise SystemExit"])
    def test_zero_is_ok(self, py, call):
        result = py.run(f"import sys\nprint('bye')\n{call}")
        assert (result.cause, result.outcome["exit_code"]) == ("ok", 0)
        assert result.text("stdout") == "bye\n" and not result.is_error

    @pytest.mark.needs("stateful")
    def test_another_code(self, py):
        py.ok("kept = 1")
        result = py.run("import sys; sys.exit(3)")
        assert (result.cause, result.outcome["exit_code"]) == ("exit", 3)
        assert result.is_error and "3" in result.text("note")
        assert py.value("kept") == "1"

    def test_a_text_is_code_one_and_on_stderr(self, py):
        result = py.run("import sys; sys.exit('no such thing')")
        assert (result.cause, result.outcome["exit_code"]) == ("exit", 1)
        assert "no such thing" in result.text("stderr")

    def test_codes_wrap_as_for_a_process(self, py):
        assert py.run("import sys; sys.exit(257)").outcome["exit_code"] == 1
        assert py.run("import sys; sys.exit(-1)").outcome["exit_code"] == 255

    def test_exit_and_quit(self, py):
        for name in ("exit", "quit"):
            result = py.run(f"{name}()")
            assert result.cause == "ok", result
            assert py.value("1 + 1") == "2"


class TestCrashes:
    @pytest.mark.needs("exit_status")
    @pytest.mark.parametrize("code", [0, 1, 77])
    def test_os_exit(self, box, code):
        box.ok("kept = 1")
        result = box.run(f"import os; print('last', flush=True); os._exit({code})")
        assert (result.cause, result.outcome["exit_code"]) == ("exit", code)
        assert result.is_error and result.text("stdout") == "last\n"
        assert "variables" in result.text("note")
        assert box.run("kept").outcome["error"]["etype"] == "NameError"

    @pytest.mark.needs("exit_status")
    @pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM", "SIGBUS"])
    def test_signals_are_named(self, box, name):
        result = box.run(f"import os, signal; print('last', flush=True)\n"
                         f"os.kill(os.getpid(), signal.{name})\nimport time; time.sleep(20)")
        assert (result.cause, result.outcome["signal"]) == ("killed", name), result
        assert result.text("stdout") == "last\n" and name in result.text("note")
        assert box.value("1 + 1") == "2"

    @pytest.mark.lacking("exit_status")
    @pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
    def test_an_end_of_which_nothing_is_known(self, box, end):
        box.ok("kept = 1")
        result = box.run(f"import os; print('last', flush=True); {end}")
        assert result.cause == "killed" and result.is_error, result
        assert not {"exit_code", "signal"} & set(result.outcome)
        assert "does not tell how" in result.text("note")
        assert box.run("kept").outcome["error"]["etype"] == "NameError"

    @pytest.mark.needs("exit_status")
    def test_a_real_segfault(self, box):
        result = box.run("import ctypes; ctypes.CDLL(None).strlen(None)")
        assert (result.cause, result.outcome["signal"]) == ("killed", "SIGSEGV")
        assert result.outcome["duration_ms"] < 5000

    def test_buffered_output_of_a_crash(self, box):
        result = box.run("import os\nprint('not flushed'); os.kill(os.getpid(), 9)")
        assert "not flushed" in result.text("stdout")

    @pytest.mark.needs("exit_status")
    def test_crash_in_a_thread(self, box):
        result = box.run("import ctypes, threading, time\n"
                         "threading.Thread(target=ctypes.CDLL(None).strlen, args=(None,)).start()\n"
                         "time.sleep(20)")
        assert result.outcome["signal"] == "SIGSEGV"

    @pytest.mark.needs("stateful")
    def test_crash_between_runs_is_told_by_the_next(self, box, has):
        box.ok("import os, threading\nkept = 1\nthreading.Timer(0.1, os._exit, (9,)).start()")
        time.sleep(1)
        result = box.run("kept")
        assert result.outcome["error"]["etype"] == "NameError"
        assert ("9" if "exit_status" in has else "ended") in result.text("note"), result

    @pytest.mark.needs("keeps_files", "stateful")
    @pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
    def test_files_outlive_it(self, box, end):
        box.ok("import os\nkept = 1\nos.mkdir('sub')\n"
               "with open('sub/f', 'w') as f: f.write('here')")
        result = box.run(end)
        assert result.is_error and "files are kept" in result.text("note"), result
        result = box.run("kept")
        assert result.outcome["error"]["etype"] == "NameError"
        assert box.value("open('sub/f').read()") == "'here'"

    @pytest.mark.lacking("keeps_files")
    def test_files_are_gone_with_it_and_that_is_said(self, box):
        box.ok("with open('f', 'w') as f: f.write('here')")
        result = box.run("import os; os._exit(3)")
        assert re.search("files in it are gone", result.text("note")), result
        assert box.run("open('f')").outcome["error"]["etype"] == "FileNotFoundError"

    def test_several_crashes_in_a_row(self, box, has):
        for _ in range(3):
            result = box.run("import os; os._exit(5)")
            assert result.outcome.get("exit_code") == (5 if "exit_status" in has else None)
        assert box.value("1 + 1") == "2"
