"""A secret by name: the variables of one session have it, and nothing that is told."""

import time
from pathlib import Path

import pytest
from box import Box
from variants import SECRET

MARK = "[secret suite]"


@pytest.fixture(scope="module")
def keeper(server):
    """A session that has the secret; one for the chapter."""
    made = server.tool("create_session", {"secrets": ["suite"]})
    assert not made.is_error, made
    box = Box(server)
    box.id = made.session
    yield box
    server.tool("end_session", {"session": made.session, "how": "kill"})


@pytest.mark.needs("stateful")
def test_code_has_it_and_its_output_does_not(keeper, py):
    """Printed in two pieces, as a value, in a traceback. Another session has nothing."""
    code = ("import os, sys\nv = os.environ.get('SUITE_SECRET', '')\nprint(len(v))\n"
            "print(v[:9], end='', flush=True); print(v[9:])\nprint('e' + v, file=sys.stderr)\nv")
    run = keeper.ok(code)
    assert run.text("stdout") == f"{len(SECRET)}\n{MARK}\n"
    assert run.text("stderr") == f"e{MARK}\n" and run.text("result") == f"'{MARK}'"
    failed = keeper.run("import os; raise ValueError(os.environ['SUITE_SECRET'])")
    assert f"ValueError: {MARK}" in failed.text("error") and SECRET not in str(failed.raw)
    assert py.printed("import os; print(os.environ.get('SUITE_SECRET'))") == "None\n"


@pytest.mark.needs("stateful", "shell")
def test_a_shell_has_it(keeper):
    """A shell is a run like another."""
    assert keeper.shell("echo ${#SUITE_SECRET} $SUITE_SECRET").text("stdout") == (
        f"{len(SECRET)} {MARK}\n")


@pytest.mark.needs("stateful", "files")
def test_a_file_of_it_is_masked(keeper):
    """What read_file gives."""
    keeper.ok("import os\nwith open('kept.txt', 'w') as f:\n"
              "    f.write('k=' + os.environ['SUITE_SECRET'])")
    read = keeper.call("read_file", path="kept.txt")
    assert read.text("file") == f"k={MARK}"


def command_lines():
    """Those of all processes of this machine, of containers too."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes()
        except OSError:
            continue  # it has ended


@pytest.mark.needs("stateful", "commands")
def test_no_command_line_ever_holds_it(keeper, server):
    """While a command with it is started and runs; its argument is found, so it could be."""
    script = ": suite-control-argument; echo ${#SUITE_SECRET}; sleep 0.5"
    begun = server.begin_tool("run_command", {"argv": ["sh", "-c", script], "session": keeper.id})
    seen, end = set(), time.monotonic() + 20
    while begun not in {m.get("id") for m in server.messages} and time.monotonic() < end:
        seen.update(command_lines())
        time.sleep(0.02)
    assert server.tool_result(begun).text("stdout") == f"{len(SECRET)}\n"
    assert any(b"suite-control-argument" in line for line in seen)
    assert not any(SECRET.encode() in line for line in seen)
