"""State, values, stdout and stderr, errors and exits."""

import base64
import json

import pytest

USUAL_NAMES = {
    "__annotations__", "__builtins__", "__doc__", "__loader__", "__name__", "__package__",
    "__spec__",
}  # fmt: skip


def test_greeting(fresh):
    greeting = fresh.greeting
    assert greeting["cellblock"] == 1
    assert greeting["implementation"] == "CPython"
    assert fresh.run("import platform; platform.python_version()").text == repr(greeting["python"])


def test_state_and_counter(fresh):
    first = fresh.run("x = 20")
    assert (first.status, first.displays, first.out, first.err) == ("ok", [], "", "")
    assert first.done["execution_count"] == 1
    second = fresh.run("x + 1")
    assert second.text == "21"
    assert second.result.keys() == {"text/plain"}
    assert second.done["execution_count"] == 2
    assert fresh.sh("true").done["execution_count"] == 3
    assert fresh.run("1/0").done["execution_count"] == 4


def test_namespace_is_clean(fresh):
    names = set(json.loads(fresh.run("dir()").text.replace("'", '"')))
    if fresh.has_ipython:
        assert {"In", "Out", "exit", "quit", "get_ipython"} <= names
        names = {n for n in names if not n.startswith("_")}
        assert names == {"In", "Out", "exit", "quit", "get_ipython"}
    else:
        assert names <= USUAL_NAMES
    facts = fresh.run("import sys\n[__name__, sys.argv, sys.path[0], '__file__' in globals()]").text
    assert facts == "['__main__', [''], '', False]"
    assert fresh.run("import __main__; __main__.__dict__ is globals()").text == "True"


def test_modules_of_the_working_folder(worker):
    worker.run("open('neighbour.py', 'w').write('value = 5')")
    assert worker.run("import importlib; importlib.invalidate_caches()\nimport neighbour\n"
                      "neighbour.value").text == "5"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 + 1", "2"),
        ("None", None),
        ("x = 1", None),
        ("5;", None),
        ("5 ; # a comment; with one", None),
        ("'a;b'", "'a;b'"),
        ("5 # not; this", "5"),
        ("'é;' ;", None),
        ("(1,\n 2);", None),
        ("a = 1; a", "1"),
        ("a = 1; a;", None),
        ("for i in range(3):\n    i", None),
        ("if True:\n    7", None),
        ("", None),
        ("\n\n  # only a comment\n", None),
        ("'''x;\n'''", "'x;\\n'"),
        ("'''x\n''';", None),
    ],
)
def test_last_expression(worker, code, text):
    result = worker.run(code)
    assert (result.status, result.text, result.out, result.err) == ("ok", text, "", "")


def test_value_is_not_in_stdout(worker):
    result = worker.run("print('printed')\n'value'")
    assert result.out == "printed\n"
    assert result.text == "'value'"
    assert result.order() == [("stdout", "printed\n"), ("display", "'value'")]


def test_future_imports_stay(worker):
    worker.run("from __future__ import annotations")
    assert worker.run("def f(a: undefined_name): pass\nf.__annotations__['a']").text == (
        "'undefined_name'"
    )


def test_streams(worker):
    result = worker.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n"
                        "sys.stdout.write('no newline')")
    assert result.out == "out\nno newline"
    assert result.err == "err\n"


def test_text_that_is_not_utf8(worker):
    result = worker.run("print('a\\ud800b', 'ü')\n'x\\ud800\\0y'")
    assert result.out == "a\\ud800b ü\n"
    assert result.status == "ok"
    assert worker.run("raise ValueError('\\ud800 \\0')").error["evalue"] == "\\ud800 \\x00"
    shown = worker.run("class T:\n    def __repr__(self): return 'x\\ud800\\0'\nT()")
    assert shown.text == "x\\ud800\\x00"


def test_bytes_through_the_buffer(worker):
    assert worker.run("import sys; sys.stdout.buffer.write(b'\\xff\\x00'); None").raw_out == (
        b"\xff\x00"
    )


def test_much_output(worker):
    result = worker.run("print('x' * 10_000_000)")
    assert len(result.raw_out) == 10_000_001
    result = worker.run("for i in range(100_000): print(i)")
    assert result.raw_out.count(b"\n") == 100_000


def test_error(worker):
    count = worker.run("1").done["execution_count"] + 1
    result = worker.run("def f(x):\n    return 1 / x\n\nf(0)")
    assert result.status == "error"
    assert (result.out, result.err) == ("", "")
    assert result.error["etype"] == "ZeroDivisionError"
    assert result.error["evalue"] == "division by zero"
    lines = result.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == '  File "<run %d>", line 4, in <module>' % count
    assert lines[2] == "    f(0)"
    assert '  File "<run %d>", line 2, in f' % count in lines
    assert "    return 1 / x" in lines
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "cellblock" not in result.traceback
    assert "\x1b" not in result.traceback


def test_error_in_a_library(worker):
    result = worker.run("import json\njson.loads('{')")
    assert "decoder.py" in result.traceback
    assert "cellblock" not in result.traceback
    assert result.error["etype"] == "JSONDecodeError"


def test_syntax_error(worker):
    result = worker.run("x = 1\nif x\n    pass")
    assert result.error["etype"] == "SyntaxError"
    assert "line 2" in result.traceback
    assert "    if x\n" in result.traceback
    assert "^" in result.traceback
    assert not result.traceback.startswith("Traceback")
    assert worker.run("def f(:\n pass").error["etype"] == "SyntaxError"
    assert worker.run("  x = (").error["etype"] in ("SyntaxError", "IndentationError")
    assert worker.run("if True:\npass").error["etype"] == "IndentationError"


def test_nul_and_surrogates_in_code(worker):
    assert worker.run("x = 1\0").error["etype"] == "SyntaxError"
    assert worker.run("x = '\ud800'").error["etype"] == "SyntaxError"


def test_nothing_runs_before_a_syntax_error(worker):
    result = worker.run("print('ran')\n)")
    assert (result.out, result.error["etype"]) == ("", "SyntaxError")


def test_chained_errors(worker):
    result = worker.run("try:\n    {}['k']\nexcept KeyError as e:\n    raise OSError('v') from e")
    assert "direct cause" in result.traceback
    assert "KeyError: 'k'" in result.traceback
    assert worker.run("raise ValueError('alone')").traceback.count("Traceback") == 1


def test_exception_groups_and_notes(worker):
    if worker.greeting["python"].split(".")[1] in ("8", "9", "10"):
        assert worker.run("ExceptionGroup").error["etype"] == "NameError"
        return
    result = worker.run("e = ValueError('v'); e.add_note('a note')\nraise ExceptionGroup('g', [e])")
    assert "a note" in result.traceback
    assert "ExceptionGroup: g (1 sub-exception)" in result.traceback


def test_recursion(worker):
    result = worker.run("def f(n): return f(n + 1)\nf(0)")
    assert result.error["etype"] == "RecursionError"
    assert len(result.traceback) < 70_000
    result = worker.run("def f(n): return g(n + 1)\ndef g(n): return f(n + 1)\nf(0)")
    assert len(result.traceback) < 70_000


def test_huge_error_text(worker):
    result = worker.run("raise ValueError('v' * 1_000_000)")
    assert len(result.traceback) < 70_000
    assert "left out" in result.traceback
    assert len(result.error["evalue"]) < 20_000


def test_exception_that_cannot_be_shown(worker):
    result = worker.run("class E(Exception):\n    def __str__(self): raise KeyError(1)\nraise E")
    assert result.status == "error"
    assert result.error["etype"] == "E"
    assert "KeyError" in result.error["evalue"]


@pytest.mark.parametrize("name", ["GeneratorExit", "BaseException", "MemoryError"])
def test_base_exceptions(worker, name):
    result = worker.run("raise %s('m')" % name)
    assert (result.status, result.error["etype"]) == ("error", name)


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "err"),
    [
        ("exit()", "ok", 0, ""),
        ("quit()", "ok", 0, ""),
        ("import sys; sys.exit()", "ok", 0, ""),
        ("import sys; sys.exit(0)", "ok", 0, ""),
        ("import sys; sys.exit(3)", "exit", 3, ""),
        ("exit(4)", "exit", 4, ""),
        ("import sys; sys.exit(-1)", "exit", 255, ""),
        ("import sys; sys.exit('a reason')", "exit", 1, "a reason\n"),
        ("raise SystemExit(['x'])", "exit", 1, "['x']\n"),
        ("import sys; sys.exit(True)", "exit", 1, ""),
    ],
)
def test_exit(worker, code, status, exit_code, err):
    worker.run("kept = 'state'")
    result = worker.run("print('before')\n" + code + "\nprint('after')")
    assert (result.status, result.done["exit_code"], result.err) == (status, exit_code, err)
    assert (result.out, result.error) == ("before\n", None)
    assert worker.run("kept").text == "'state'"


def test_usage(worker):
    result = worker.run("sum(i * i for i in range(1_000_000))")
    assert result.done["cpu_ms"] >= 10
    assert worker.run("1").done["cpu_ms"] < 50
    assert result.done["peak_rss_kib"] > 1000
    busy = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', '%s'])" % (
        "sum(i*i for i in range(3_000_000))"
    )
    assert worker.run(busy).done["cpu_ms"] >= 30
    grown = worker.run("b = bytearray(300 << 20); b[::4096] = b'x' * len(b[::4096]); del b")
    assert grown.done["peak_rss_kib"] > 300_000


def test_warnings(worker):
    code = "import warnings\nwarnings.warn('careful')"
    for _ in range(2):
        result = worker.run(code)
        assert result.err.count("careful") == 2, result.err  # the message and its source line
        assert "<run" in result.err


def test_getsource_of_an_old_run(worker):
    worker.run("def twice(x):\n    return 2 * x")
    worker.run("pass")
    assert "return 2 * x" in worker.run("import inspect; inspect.getsource(twice)").text


def test_unknown_language(worker):
    result = worker.run("1", language="cobol")
    assert result.status == "error"
    assert "cobol" in result.error["evalue"]


def test_runs_that_arrive_together(fresh):
    fresh.start("1")
    fresh.start("2")
    for run in (1, 2):
        fresh.count = run
        assert fresh.finish().text == str(run)


def test_end_of_the_socket_ends_the_worker(fresh):
    assert fresh.close() == 0


def test_binary_payload_of_a_picture(worker):
    code = "class P:\n    def _repr_png_(self): return b'\\x89PNG\\xff'\nP()"
    assert base64.b64decode(worker.run(code).result["image/png"]) == b"\x89PNG\xff"
