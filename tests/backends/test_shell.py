"""language: "shell"."""

import pytest

pytestmark = pytest.mark.needs("shell")


def test_output_and_exit_code(py):
    result = py.shell("echo out; echo err >&2")
    assert (result.text("stdout"), result.text("stderr")) == ("out\n", "err\n")
    assert result.cause == "ok" and result.outcome["exit_code"] == 0


@pytest.mark.parametrize("code, expected", [("exit 3", 3), ("false", 1), ("no-such-command", 127),
                                            ("exit 255", 255)])
def test_failing_commands(py, code, expected):
    result = py.shell(code)
    assert (result.cause, result.outcome["exit_code"]) == ("exit", expected)
    assert result.is_error and str(expected) in result.text("note")


def test_the_last_command_counts(py):
    assert py.shell("false; true").cause == "ok"


@pytest.mark.needs("stateful")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_signals_are_named(py, name):
    py.ok("kept = 'kept'")
    result = py.shell(f"kill -{name[3:]} $$; sleep 5")
    assert (result.cause, result.outcome["signal"]) == ("killed", name)
    assert py.value("kept") == "'kept'"


def test_it_is_bash(py):
    assert py.shell("a=(1 2 3); [[ ${#a[@]} == 3 ]] && echo ${a[-1]} ${BASH_VERSION%%.*}").text(
        "stdout").startswith("3 ")


@pytest.mark.needs("stateful")
def test_files_and_folder_are_python_s(box):
    box.shell("mkdir sub && echo from shell > sub/file")
    assert box.value("open('sub/file').read()") == "'from shell\\n'"
    box.ok("import os\nwith open('written', 'w') as f: f.write('from python')\nos.chdir('sub')")
    assert box.shell("cat ../written; basename $PWD").text("stdout") == "from pythonsub\n"


def test_each_shell_starts_anew(box):
    box.shell("x=1; export y=2; cd /tmp")
    assert box.shell("echo ${x-none} ${y-none}; test $PWD = /tmp || echo home").text(
        "stdout") == "none none\nhome\n"


@pytest.mark.needs("stateful")
def test_the_sessions_environment(box):
    box.ok("import os; os.environ['FROM_PYTHON'] = 'seen'")
    assert box.shell("echo $FROM_PYTHON").text("stdout") == "seen\n"


def test_first_run_of_a_session(box):
    assert box.shell("echo first").text("stdout") == "first\n"


def test_several_lines_quotes_and_unicode(py):
    code = "cat <<'END'\n$not \"expanded\" ü\nEND\nfor i in 1 2; do\n  echo $i\ndone"
    assert py.shell(code).text("stdout") == '$not "expanded" ü\n1\n2\n'


def test_syntax_error(py):
    result = py.shell("if true; then")
    assert result.cause == "exit" and result.outcome["exit_code"] == 2
    assert "syntax error" in result.text("stderr")


def test_a_long_script(py):
    assert py.shell("n=0\n" + "n=$((n+1))\n" * 30_000 + "echo $n").text("stdout") == "30000\n"


def test_empty(py):
    assert py.shell("").cause == "ok"


def test_nul_is_an_error_and_not_the_end(py):
    result = py.shell("echo a\0echo b")
    assert result.is_error or result.text("stdout").startswith("a")
    assert py.shell("echo alive").text("stdout") == "alive\n"


def test_no_terminal(py):
    assert py.shell("test -t 0 || test -t 1 || echo no terminal").text("stdout") == "no terminal\n"


def test_pipes_break_quietly(py):
    assert py.shell("yes | head -n 1").text("stdout") == "y\n"


@pytest.mark.needs("stateful")
def test_background_jobs_live_to_the_next_run(box):
    box.shell("(sleep 0.3; echo done > flag) & ")
    assert box.shell("sleep 1; cat flag").text("stdout") == "done\n"


def test_unknown_language_is_refused(py):
    result = py.call("run_code", code="1", language="cobol")
    assert result.is_error and "python" in result.text() and "shell" in result.text()


class TestFromPython:
    def test_bang(self, py):
        assert py.printed("!echo from the shell") == "from the shell\n"

    def test_bang_with_a_value(self, py):
        assert py.value("name = 'x'\ngot = !echo {name} y\nlist(got)").startswith("['x y")

    def test_bang_that_fails_does_not_fail_the_run(self, py):
        assert py.value("!exit 3\n_exit_code") == "3"

    def test_bash_cell(self, py):
        assert py.printed("%%bash\nfor i in 1 2; do echo $i; done") == "1\n2\n"

    def test_bash_cell_that_fails(self, py):
        result = py.run("%%bash\necho before; exit 4")
        assert result.cause == "error" and "before" in result.text("stdout")
