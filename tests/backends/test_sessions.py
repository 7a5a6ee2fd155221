"""A session that was asked for, with limits and variables of its own. One for the whole chapter."""

import json

import pytest
from box import Box


@pytest.fixture(scope="module")
def asked(server, has):
    """It is made with less memory where memory can be held back; started."""
    less = {"memory_mib": 512} if "memory_limit" in has else {}
    made = server.tool("create_session", {"name": "asked", "env": {"GREETING": "hello"},
                                          "workdir": "/workspace/deep/down",
                                          "tags": {"chapter": "sessions"}, "start": True, **less},
                       timeout=400)
    assert not made.is_error, made
    box = Box(server)
    box.id = made.session
    yield box
    server.tool("end_session", {"session": made.session, "how": "kill"})


def facts(box, **arguments):
    """get_session, read."""
    result = box.call("get_session", **arguments)
    assert not result.is_error, result
    return json.loads(result.text())


@pytest.mark.needs("stateful")
def test_it_is_started_and_keeps_its_state(asked, variant):
    """Nothing has run in it that counts."""
    known = facts(asked)
    assert known["state"] == "idle" and known["backend"] == variant.backend
    assert known["runs"] == 0 and asked.ok("x = 41").session == asked.id
    assert asked.value("x + 1") == "42"
    assert facts(asked)["runs"] == 2


@pytest.mark.needs("stateful")
def test_its_variables_are_in_each_run(asked, py):
    """And in no other session."""
    code = "import os; print(os.environ.get('GREETING'))"
    assert asked.printed(code) == asked.printed(code) == "hello\n"
    assert asked.printed(code, env={"GREETING": "bye"}) == "bye\n"
    assert py.printed(code) == "None\n"


@pytest.mark.needs("stateful", "shell")
def test_its_variables_are_in_a_shell(asked):
    """A shell is a run like another."""
    assert asked.shell("echo $GREETING").text("stdout") == "hello\n"


@pytest.mark.needs("stateful")
def test_it_works_in_its_folder(asked, has):
    """Which was made for it; what the code changes, stays."""
    where = "import os; print(os.getcwd())"
    assert asked.printed(where).endswith("/deep/down\n")
    if "commands" in has:
        assert asked.call("run_command", argv=["pwd"]).text("stdout").endswith("/deep/down\n")
    assert asked.printed("os.chdir('..')\n" + where).endswith("/deep\n")
    assert asked.printed(where).endswith("/deep\n")


@pytest.mark.needs("stateful", "ephemeral", "memory_limit")
def test_its_memory_holds(asked, py):
    """What the environment allows a sandbox that holds nothing yet is too much for it."""
    code = "x = b'1' * (600 << 20); print(len(x)); del x"
    assert py.printed(code, ephemeral=True) == f"{600 << 20}\n"
    assert asked.run(code).cause in ("error", "out_of_memory", "killed")
    assert facts(asked)["limits"]["memory_mib"] == 512


@pytest.mark.needs("stateful")
def test_a_kill_ends_what_goes_on(asked, server):
    """The run is answered, the sandbox goes, and later calls are told. The last of the chapter."""
    asked.open()
    run = asked.begin("import time; print('on', flush=True); time.sleep(100)", token="kill")
    server.wait_notification("notifications/progress", lambda p: p["progressToken"] == "kill"
                             and "on" in p.get("message", ""))
    ended = asked.call("end_session", how="kill")
    assert not ended.is_error, ended
    assert server.tool_result(run).cause == "cancelled"
    late = asked.run("1")
    assert late.is_error and "end_session" in late.text()
    assert not asked.call("end_session").is_error


def test_environments_are_listed(server, variant):
    """With the variant's backend and what it costs to start."""
    listed = json.loads(server.tool("list_environments").text())["environments"]
    found = next(one for one in listed if one["default"])
    assert found["backend"] == variant.backend and found["start"]
    assert "python" in found["languages"]
