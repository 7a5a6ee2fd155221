"""What run_code does with Python code: state, values, awaits, and odd sources."""

import pytest

pytestmark = pytest.mark.needs("stateful")


def test_variables_imports_and_functions_live_on(box):
    box.ok("import math\nx = 41\ndef up(n): return n + 1\nclass Point: y = 2")
    assert box.value("up(x), math.pi > 3, Point.y") == "(42, True, 2)"


def test_files_live_on(box):
    box.ok("with open('kept.txt', 'w') as f: f.write('here')\nimport os; os.makedirs('a/b')")
    assert box.value("open('kept.txt').read(), os.path.isdir('a/b')") == "('here', True)"


def test_a_session_is_made_and_named(box):
    result = box.ok("1")
    assert result.session.startswith("s-") and result.session == result.outcome["session"]
    assert result.session in result.text("note")
    assert box.ok("2").text("note") == ""


def test_sessions_do_not_see_each_other(boxes):
    one, two = boxes(), boxes()
    one.ok("secret = 1; open('mine.txt', 'w').write('1')")
    assert two.run("secret").outcome["error"]["etype"] == "NameError"
    assert two.run("open('mine.txt')").outcome["error"]["etype"] == "FileNotFoundError"


def test_the_outcome_of_a_run(py):
    first = py.ok("import time; time.sleep(0.05); sum(range(200000))").outcome
    assert first["success"] is True and first["backend"] and first["environment"] == "default"
    assert first["run"].startswith("r-") and first["truncated"] is False
    assert 50 <= first["duration_ms"] < 20000
    second = py.ok("0").outcome
    assert second["execution_count"] == first["execution_count"] + 1
    assert second["run"] != first["run"]


@pytest.mark.needs("usage")
def test_what_a_run_used(py):
    used = py.ok("import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: 0"
                 ).outcome
    assert 90 <= used["cpu_ms"] < 20000 and used["peak_rss_kib"] > 1000


class TestValues:
    def test_last_expression(self, py):
        result = py.ok("'a'\n6 * 7")
        assert result.text("result") == "42" and result.text("stdout") == ""

    def test_none_is_not_shown(self, py):
        assert py.ok("None").content == []

    @pytest.mark.parametrize("code", ["6 * 7;", "6 * 7 ;  ", "6 * 7; # why", "x = 6 * 7"])
    def test_semicolon_or_statement_shows_nothing(self, py, code):
        assert py.ok(code).content == []

    def test_semicolon_inside_a_text_does_not_count(self, py):
        assert py.value("'a;'") == "'a;'"

    def test_value_is_not_mixed_into_stdout(self, py):
        result = py.ok("print('out'); 'value'")
        assert (result.text("stdout"), result.text("result")) == ("out\n", "'value'")

    @pytest.mark.needs("ipython")
    def test_last_value_has_a_name(self, box):
        box.ok("40 + 2")
        assert box.value("_") == "42"

    def test_last_expression_in_a_block_is_none(self, py):
        assert py.ok("if True:\n    5").text("result") == ""

    @pytest.mark.needs("ipython")
    def test_long_repr_is_folded_as_pretty_printing_does(self, py):
        assert py.value("list(range(1000))").count("\n") > 1

    def test_no_helper_name_is_left(self, box):
        names = box.value("[n for n in dir() if not n.startswith('_')]")
        assert set(eval(names)) <= {"In", "Out", "exit", "quit", "open", "get_ipython"}

    def test_module_is_main(self, py):
        assert py.value("__name__") == "'__main__'"
        assert py.printed("if __name__ == '__main__': print('main')") == "main\n"

    def test_classes_can_be_pickled(self, py):
        assert py.value("import pickle\nclass Own: pass\n"
                        "type(pickle.loads(pickle.dumps(Own()))) is Own") == "True"


class TestAwait:
    def test_top_level_await(self, py):
        assert py.value("import asyncio\nawait asyncio.sleep(0, 'slept')") == "'slept'"

    def test_async_for_and_with(self, py):
        code = """
            import contextlib
            async def numbers():
                for n in range(3):
                    yield n
            @contextlib.asynccontextmanager
            async def held():
                yield 'held'
            got = [n async for n in numbers()]
            async with held() as what:
                got.append(what)
            got"""
        assert py.value(code) == "[0, 1, 2, 'held']"

    def test_asyncio_run(self, py):
        code = "import asyncio\nasync def f(): return 7\nasyncio.run(f())"
        assert py.value(code) == "7"
        assert py.value("await f() + asyncio.run(f())") == "14"
        assert py.value(code) == "7"

    def test_names_bound_by_awaiting_code_live_on(self, py):
        py.ok("import asyncio\nawaited = await asyncio.sleep(0, 5)")
        assert py.value("awaited") == "5"

    def test_tasks_live_on_to_the_next_await(self, py):
        py.ok("import asyncio\nawait asyncio.sleep(0)\ntask = asyncio.ensure_future("
              "asyncio.sleep(0.01, 'done'))")
        assert py.value("await task") == "'done'"

    def test_exception_in_awaiting_code(self, py):
        result = py.run("import asyncio\nasync def f():\n    1 / 0\nawait f()")
        assert result.outcome["error"]["etype"] == "ZeroDivisionError"
        assert "line 3" in result.text("error") and "line 4" in result.text("error")

    def test_asyncio_subprocess(self, py):
        code = """
            import asyncio
            p = await asyncio.create_subprocess_exec('echo', 'child', stdout=-1)
            (await p.communicate())[0], p.returncode"""
        assert py.value(code) == "(b'child\\n', 0)"

    def test_gather_and_wait_for(self, py):
        code = """
            import asyncio
            async def f(n):
                await asyncio.sleep(0.01); return n
            got = await asyncio.gather(*(f(n) for n in range(5)))
            try:
                await asyncio.wait_for(asyncio.sleep(5), 0.01)
            except asyncio.TimeoutError:
                got.append('late')
            got"""
        assert py.value(code) == "[0, 1, 2, 3, 4, 'late']"


class TestSources:
    def test_empty(self, py):
        for code in ("", " ", "\n\n", "# only a comment"):
            assert py.ok(code).content == []

    def test_nul_is_an_error_and_not_the_end(self, py):
        result = py.run("print('before')\0print('after')")
        assert result.cause == "error", result
        assert result.outcome["error"]["etype"] in ("SyntaxError", "ValueError")
        assert py.value("1 + 1") == "2"

    def test_unicode(self, py):
        result = py.ok("größe = 'Größe 🐍 \\u2028'\nprint(größe, '中文')\ngröße")
        assert result.text("stdout") == "Größe 🐍 \u2028 中文\n"
        assert py.value("len('🐍')") == "1"

    def test_lone_surrogate_is_printed_somehow(self, py):
        result = py.run("print('a\\ud800b')")
        assert result.cause in ("ok", "error")
        assert py.value("'\\ud800' + 'x'")

    def test_crlf_and_cr(self, py):
        assert py.printed("for n in range(2):\r\n    print(n)\r\nprint('end')\r\n") == "0\n1\nend\n"

    def test_tabs_and_form_feeds(self, py):
        assert py.printed("if True:\n\tprint(1)\n\x0cprint(2)") == "1\n2\n"

    def test_a_megabyte(self, py):
        code = "big = '" + "x" * 1_000_000 + "'\nlen(big)"
        assert py.value(code) == "1000000"

    def test_many_lines(self, py):
        code = "n = 0\n" + "n += 1\n" * 20_000 + "n"
        assert py.value(code) == "20000"

    def test_indented_first_line_is_as_the_user_wrote_it(self, py):
        result = py.call("run_code", code="x = 1\n  y = 2")
        assert result.outcome["error"]["etype"] == "IndentationError"

    def test_future_import(self, py):
        assert py.value("from __future__ import annotations\n"
                        "def f(x: Nothing): pass\nf.__annotations__") == "{'x': 'Nothing'}"

    def test_deep_nesting_is_an_error_only(self, py):
        assert py.run("(" * 5000 + ")" * 5000).cause == "error"
        assert py.value("1 + 1") == "2"

    def test_failing_code_runs_once(self, py):
        py.ok("calls = []")
        py.run("calls.append(1)\nimport nothing_such")
        py.run("calls.append(1)\nawait nothing")
        assert py.value("calls") == "[1, 1]"
