"""Secrets of one session: other sessions, and the lists of processes, do not have them.

The control of each is the session that may have the value, or an argument that is seen."""

import json
import time
from pathlib import Path

import pytest
from support import processes
from support.client import Client

VALUE = "attacked-0123456789-secret"
LOOK = """
import glob, os
def look(path):
    try:
        with open(path, 'rb') as f:
            return f.read()
    except OSError:
        return b''
wanted = ''.join(['attacked-', '0123456789', '-secret']).encode()
seen = [path for kind in ('environ', 'cmdline') for path in glob.glob('/proc/*/' + kind)
        if wanted in look(path)]
print('ESCAPED' if seen or wanted.decode() in str(dict(os.environ)) else 'HELD')
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose own environment has one, too; its log is at the level debug."""
    folder = tmp_path_factory.mktemp("secrets")
    config = {"secrets": {"one": {"variable": "ONE", "env": "THE_OWNERS_ONE"},
                          "bad": {"variable": "BAD", "file": str(folder / "bad.key")}},
              "policy": {"secrets": ["one", "bad"]}, "environments": {"default": {"pool": 1}}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "bad.key").write_text(VALUE, encoding="utf-8")
    (folder / "bad.key").chmod(0o644)
    with Client("--config", folder / "config.json", "--toolsets", "all", "--log-level", "debug",
                env={"THE_OWNERS_ONE": VALUE}) as client:
        yield client


@pytest.fixture(scope="module")
def owner(server):
    """The session that has it."""
    return server.tool("create_session", {"secrets": ["one"]}).session


def test_another_session_finds_it_nowhere(server, owner):
    """Not in its variables, nor in any process that it can see; the owner's does."""
    assert server.run(LOOK, session=owner).text("stdout") == "ESCAPED\n"
    assert server.run(LOOK).text("stdout") == "HELD\n"
    assert server.run(LOOK, ephemeral=True).text("stdout") == "HELD\n"


def test_no_argv_of_ours_holds_it(server, owner):
    """Of the server and all below it, while a run has it. Another argument is seen."""
    begun = server.begin_tool("run_command", {
        "argv": ["sh", "-c", ": seen-argument; echo ${#ONE}; sleep 0.5"], "session": owner})
    seen, end = set(), time.monotonic() + 20
    while begun not in {m.get("id") for m in server.messages} and time.monotonic() < end:
        for pid in [server.pid, *(pid for pid, _ in processes.descendants(server.pid))]:
            try:
                seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
        time.sleep(0.02)
    assert server.tool_result(begun).text("stdout") == f"{len(VALUE)}\n"
    assert any(b"seen-argument" in line for line in seen)
    assert not any(VALUE.encode() in line for line in seen)


def test_a_file_that_others_may_read_is_refused_without_a_word_of_it(server):
    """The reason names the file and what to do."""
    made = server.tool("create_session", {"secrets": ["bad"]}).session
    run = server.run("print(1)", session=made)
    assert run.cause == "refused" and "chmod 600" in run.text() and VALUE not in str(run.raw)


def test_nothing_that_was_said_holds_it(server, owner):
    """Answers, lists, facts, the log. The mark is there, so it was printed."""
    server.run("import os; print(os.environ['ONE'])", session=owner)
    for name, arguments in (("list_sessions", {}), ("get_session", {"session": owner}),
                            ("list_runs", {}), ("list_environments", {})):
        assert not server.tool(name, arguments).is_error
    said = json.dumps(server.messages)
    assert "[secret one]" in said
    assert VALUE not in said and VALUE.encode() not in bytes(server.stderr)
