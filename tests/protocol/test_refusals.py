"""Runs that fail before they start: each has its outcome (design section 3, "Decided", 4)."""

import json
import socket
import time

import pytest
from jsonschema import Draft202012Validator

from protocol.result_schemas import RESULT


def closed_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


COMMAND = {"backend": "command", "network": "all"}
JUPYTER = {"backend": "jupyter", "network": "all"}

# Refused by the place when it is opened, or before: there is no session.
UNOPENED = {
    "isolation none cannot cut the network": (
        {"backend": "local", "isolation": "none"}, "unsupported", "--network all"),
    "cells need namespaces": (
        {"backend": "local", "isolation": "landlock", "cells": "forked"}, "unsupported", "cells"),
    "a setting of another backend": (
        {"backend": "local", "image": "debian"}, "unsupported", "docker"),
    "kernel of another backend": (
        {"backend": "local", "kernel": "jupyter"}, "unsupported", "docker"),
    "command cannot cut the network": (
        {"backend": "command", "command": ["sh"]}, "unsupported", "network"),
    "command without a command": (COMMAND, "refused", "command"),
    "jupyter cannot cut the network": (
        {"backend": "jupyter", "url": "http://127.0.0.1:1"}, "unsupported", "--network all"),
    "jupyter without a server": (JUPYTER, "refused", "url"),
    "docker with a package that is none": (
        {"backend": "docker", "kernel": "jupyter", "packages": ["-r x"]}, "refused", "packages"),
    "a share that is gone": (
        {"backend": "local",
         "shares": [{"type": "copy", "source": "/nonexistent/data", "dest": "/data"}]},
        "refused", "/nonexistent/data"),
}

# Found out by the start: the session is there and another run may try again.
UNSTARTED = {
    "docker without an engine": (
        {"backend": "docker", "host": "unix:///nonexistent/docker.sock"}, "lost", "docker.sock"),
    "no such interpreter": (
        {"backend": "local", "python": "/nonexistent/python3"}, "unsupported",
        "/nonexistent/python3"),
    "no such program": (
        {**COMMAND, "command": ["/nonexistent/ssh", "host"]}, "refused", "/nonexistent/ssh"),
    "a program that fails": (
        {**COMMAND, "command": ["sh", "-c", "echo 'no such host' >&2; exit 255"]},
        "lost", "no such host"),
    "a program that talks and talks": (
        {**COMMAND, "command": ["sh", "-c", "yes 'go away' >&2 & cat > /dev/null; kill $!"]},
        "lost", "go away"),
    "no server at the address": (
        {**JUPYTER, "url": f"http://127.0.0.1:{closed_port()}"}, "lost", "127.0.0.1"),
}


def refused(client, cause, says):
    """Runs 1 and checks all that holds for a run that did not start."""
    result = client.run("1", timeout=60)
    Draft202012Validator(RESULT).validate(result.raw)
    assert result.is_error and result.outcome["success"] is False
    assert result.cause == cause, result
    assert says in result.text("note"), result
    assert result.outcome["environment"] == "it"
    assert result.outcome["duration_ms"] == 0 and not result.parts("error")
    assert result.outcome.get("session") == result.session
    return result


@pytest.fixture
def begin(start, tmp_path):
    """Starts a server whose only environment is the given one."""

    def begin_(environment, *args, **options):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"environments": {"it": environment}}))
        return start("--config", config, "--environment", "it", *args, **options)

    return begin_


def check_structured(client, result):
    """The same in structuredContent, as the tool's outputSchema has it."""
    schema = next(t for t in client.request("tools/list")["tools"]
                  if t["name"] == "run_code")["outputSchema"]
    Draft202012Validator(schema).validate(result.structured)
    assert result.structured["cause"] == result.cause
    assert result.structured["notes"] == [b["text"] for b in result.parts("note")]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("environment, cause, says", UNOPENED.values(), ids=UNOPENED.keys())
def test_a_place_that_does_not_open(begin, era, environment, cause, says):
    """No session is made, and the outcome says which environment and backend it was."""
    client = begin(environment, "--structured", era=era)
    result = refused(client, cause, says)
    assert result.outcome["backend"] == environment["backend"]
    assert result.session is None
    check_structured(client, result)


@pytest.mark.parametrize("environment, cause, says", UNSTARTED.values(), ids=UNSTARTED.keys())
def test_a_sandbox_that_does_not_start(begin, environment, cause, says):
    """The outcome has the session: the same one is tried again by the next run."""
    client = begin(environment, "--structured")
    first, second = refused(client, cause, says), refused(client, cause, says)
    check_structured(client, first)
    assert first.session and second.session == first.session
    assert first.outcome["run"] != second.outcome["run"]


def test_without_bubblewrap(begin, tmp_path):
    """What is missing on this machine is said, with an outcome, and nothing less is used."""
    (tmp_path / "python3").symlink_to("/usr/bin/python3")
    client = begin({"backend": "local", "isolation": "bwrap"}, env={"PATH": str(tmp_path)})
    result = client.run("1")
    if result.cause == "ok":
        pytest.skip("bwrap is found without PATH")
    Draft202012Validator(RESULT).validate(result.raw)
    assert result.cause in ("lost", "refused", "unsupported") and "bwrap" in result.text("note")


def test_a_limit_past_the_most(client):
    """Policy: refused, within the session that was meant."""
    before = client.run("1")
    result = client.run("1", timeout_seconds=10**6)
    assert result.cause == "refused" and result.session == before.session


def test_a_session_that_has_ended(begin):
    """It is known which one it was: it is lost. A run in one that never was has no outcome."""
    client = begin({"backend": "local", "idle_timeout_seconds": 1}, era="modern")
    session = client.run("1").session
    for _ in range(20):  # the clock of the idle time starts with each use
        time.sleep(1.5)
        lost = client.run("1", session=session)
        if lost.is_error:
            break
    assert lost.cause == "lost" and lost.session is None and session in lost.text("note")
    unknown = client.run("1", session="s-22222222")
    assert unknown.is_error and unknown.outcome is None


def test_what_is_wrong_has_no_outcome(client):
    """A bad value is no run: the schema's refusals, an environment that there is not."""
    for arguments in ({"code": 1}, {"code": "1", "timeout_seconds": 0},
                      {"code": "1", "environment": "nosuch"}, {"code": "1", "env": {"A B": "x"}}):
        result = client.tool("run_code", arguments)
        assert result.is_error and result.outcome is None, result
