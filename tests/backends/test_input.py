"""stdin and environment variables of one run."""

import pytest

pytestmark = pytest.mark.needs("stdin")


class TestStdin:
    def test_input_reads_lines(self, py):
        assert py.value("input(), input('more? ')", stdin="one\ntwo\n") == "('one', 'two')"

    @pytest.mark.needs("stateful")
    def test_sys_stdin(self, py):
        assert py.value("import sys; sys.stdin.read()", stdin="a\nbü\n") == "'a\\nbü\\n'"
        assert py.value("[line for line in sys.stdin]", stdin="1\n2") == "['1\\n', '2']"
        assert py.value("sys.stdin.buffer.read()", stdin="ü") == "b'\\xc3\\xbc'"

    def test_without_stdin_eof_comes_at_once(self, py):
        result = py.run("input()")
        assert result.cause == "error" and result.outcome["error"]["etype"] == "EOFError"
        assert result.outcome["duration_ms"] < 3000
        assert py.value("import sys; sys.stdin.read()") == "''"
        assert py.value("import getpass\ntry:\n    getpass.getpass()\nexcept EOFError:\n"
                        "    got = 'eof'\ngot") == "'eof'"

    def test_an_eof_error_says_what_to_do(self, py):
        assert "stdin" in py.run("input('name? ')").text()

    def test_after_the_last_line(self, py):
        assert py.run("input(); input()", stdin="1\n").outcome["error"]["etype"] == "EOFError"

    def test_what_is_left_is_not_for_the_next_run(self, py):
        py.ok("input()", stdin="one\ntwo\nthree\n")
        assert py.run("input()").outcome["error"]["etype"] == "EOFError"
        assert py.value("input()", stdin="mine\n") == "'mine'"

    def test_a_child_reads_it(self, py):
        code = "import subprocess; subprocess.run(['cat']);"
        assert py.printed(code, stdin="for cat") == "for cat"
        assert py.printed(code) == ""

    def test_a_shell_reads_it(self, py):
        result = py.shell("read a; echo got $a; cat", stdin="one\ntwo\n")
        assert result.text("stdout") == "got one\ntwo\n"
        assert py.shell("cat; echo end").text("stdout") == "end\n"

    def test_a_megabyte(self, py):
        assert py.value("import sys; len(sys.stdin.read())", stdin="x" * 1_000_000) == "1000000"
        assert py.value("1", stdin="unread" * 100_000) == "1"

    def test_nul_and_empty(self, py):
        assert py.value("import sys; sys.stdin.read()", stdin="a\0b") == "'a\\x00b'"
        assert py.run("input()", stdin="").outcome["error"]["etype"] == "EOFError"


class TestEnvironment:
    @pytest.mark.needs("stateful")
    def test_is_there_for_this_run_only(self, py):
        code = "import os; os.environ.get('OWN')"
        assert py.value(code, env={"OWN": "ü value"}) == "'ü value'"
        assert py.value("os.environ.get('OWN') is None") == "True"

    def test_of_children_and_shell(self, py):
        assert py.printed("import os; os.system('echo $OWN');", env={"OWN": "child"}) == "child\n"
        assert py.shell("echo $OWN", env={"OWN": "shell"}).text("stdout") == "shell\n"
        assert py.shell("echo ${OWN-none}").text("stdout") == "none\n"

    @pytest.mark.needs("stateful")
    def test_replaced_value_comes_back(self, py):
        py.ok("import os; os.environ['KEEP'] = 'session'")
        assert py.value("os.environ['KEEP']", env={"KEEP": "run"}) == "'run'"
        assert py.value("os.environ['KEEP']") == "'session'"

    def test_comes_back_after_an_error_too(self, py):
        py.run("1 / 0", env={"GONE": "1"})
        assert py.value("import os; 'GONE' in os.environ") == "False"

    @pytest.mark.needs("stateful")
    def test_what_the_code_sets_itself_stays(self, py):
        py.ok("import os; os.environ['SET_BY_CODE'] = '1'", env={"OTHER": "2"})
        assert py.value("os.environ['SET_BY_CODE']") == "'1'"

    @pytest.mark.parametrize("name", ["", "A=B"])
    def test_impossible_names_are_refused(self, py, name):
        result = py.call("run_code", code="1", env={name: "x"})
        assert result.is_error and "env" in result.text(), result

    def test_the_servers_environment_is_not_the_sandboxs(self, launch):
        with launch(env={"SECRET_OF_THE_SERVER": "token123"}) as client:
            result = client.run("import os; print(dict(os.environ))\n"
                                "print(open('/proc/self/environ').read())\n"
                                "print(open('/proc/1/environ').read() if os.access("
                                "'/proc/1/environ', os.R_OK) else '')")
            assert "token123" not in str(result.raw)

    def test_configured_variables(self, launch):
        with launch(environment={"env": {"TZ": "Asia/Tokyo", "CONFIGURED": "yes"}}) as client:
            result = client.run("import os, time; os.environ['CONFIGURED'], time.tzname[0]")
            assert result.text("result") == "('yes', 'JST')"
