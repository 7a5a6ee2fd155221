"""The toolset `runs` as messages: both eras, old revisions, --structured, cancelled polls."""

import json

import pytest
from jsonschema import Draft202012Validator
from support.client import Client

LONG = "import time\nprint('begun', flush=True)\ntime.sleep(600)"


@pytest.fixture(params=["legacy", "modern"])
def runs(request):
    """A server with the toolset, in each era."""
    with Client("--toolsets", "runs", era=request.param) as client:
        yield client


def begin(client, code, **arguments):
    """Starts a run in the background: its id and its session."""
    result = client.run(code, background=True, **arguments)
    assert result.outcome is None and not result.is_error, result
    return result.meta["cellblock/run"]["run"], result.session


def poll(client, run, **arguments):
    """poll_run."""
    return client.tool("poll_run", {"run": run, **arguments}, 60)


def until(client, run, text):
    """Polls until the run has printed this."""
    result = poll(client, run)
    while text not in result.text("stdout"):
        result = poll(client, run)
    return result


def test_both_eras(runs):
    run, session = begin(runs, "print('one')\n6 * 7")
    result = poll(runs, run)
    while result.outcome is None:
        result = poll(runs, run)
    assert (result.cause, result.text("stdout"), result.text("result")) == ("ok", "one\n", "42")
    assert result.session == session == result.outcome["session"]
    assert result.outcome["run"] == run


def test_a_session_that_was_made_is_named_at_once(runs):
    result = runs.run("1", background=True)
    assert ("pass \"session\"" in result.text("note")) == (runs.era == "modern")
    assert result.session


def test_ids_are_not_made_of_the_time(runs):
    ids = {begin(runs, "1")[0] for _ in range(20)}
    assert len(ids) == 20 and all(len(one) == 10 for one in ids)
    assert all(len({one[i] for one in ids}) > 3 for i in range(2, 10))


def test_background_is_only_there_with_the_toolset(client, runs):
    def properties(one):
        tools = one.request("tools/list", {})["tools"]
        return next(t for t in tools if t["name"] == "run_code")["inputSchema"]["properties"]

    assert set(properties(runs)) - set(properties(client)) == {"background"}
    result = client.run("1", background=True)
    assert result.is_error and "background" in result.text()


@pytest.mark.parametrize("arguments, says", [
    ({"run": "r-nothere1"}, "there is no run"),
    ({"run": 7}, "run"),
    ({}, "run"),
    ({"run": "r-nothere1", "wait_seconds": 46}, "45"),
    ({"run": "r-nothere1", "wait_seconds": -1}, "wait_seconds"),
    ({"run": "r-noth\u0000ere"}, "NUL"),
])
def test_bad_arguments(runs, arguments, says):
    result = runs.tool("poll_run", arguments)
    assert result.is_error and says in result.text(), result


def test_a_poll_that_is_taken_back_leaves_the_run(runs):
    run, _ = begin(runs, LONG)
    cursor = until(runs, run, "begun").meta["cellblock/run"]["cursor"]
    waiting = runs.begin_tool("poll_run", {"run": run, "cursor": cursor, "wait_seconds": 45})
    runs.cancel(waiting)
    result = poll(runs, run, wait_seconds=0)
    assert result.meta["cellblock/run"]["state"] == "running"
    assert not runs.answers(waiting)


def test_a_cancel_answers_the_polls(runs):
    run, _ = begin(runs, LONG)
    cursor = until(runs, run, "begun").meta["cellblock/run"]["cursor"]
    waiting = [runs.begin_tool("poll_run", {"run": run, "cursor": cursor, "wait_seconds": 45})
               for _ in range(3)]
    assert "cancelled: true" in runs.tool("cancel_run", {"run": run}, 60).text()
    assert [runs.tool_result(one).cause for one in waiting] == ["cancelled"] * 3


def test_a_foreground_run_can_be_cancelled_by_its_id():
    with Client("--toolsets", "runs") as client:
        call = client.begin_tool("run_code", {"code": LONG})
        listed = []
        while not listed:
            listed = json.loads(client.tool("list_runs", {"state": "running"}).text())["runs"]
        assert listed[0]["background"] is False
        assert "cancelled: true" in client.tool("cancel_run", {"run": listed[0]["run"]}, 60).text()
        assert client.tool_result(call).cause == "cancelled"


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26"])
def test_old_revisions_have_it_in_text(version):
    with Client("--toolsets", "runs", version=version) as client:
        result = client.run("print('one')", background=True)
        run = result.meta["cellblock/run"]["run"]
        assert run in result.text()
        answer = poll(client, run)
        while "has ended (ok)" not in answer.text():
            answer = poll(client, run)
        assert "one\n" in poll(client, run).text()
        assert poll(client, run).raw == poll(client, run).raw


def test_structured_fits_what_is_listed():
    with Client("--toolsets", "runs", "--structured") as client:
        tools = client.request("tools/list", {})["tools"]
        schema = Draft202012Validator(
            next(t for t in tools if t["name"] == "run_code")["outputSchema"])
        begun = client.run("print('one')\n42", background=True)
        schema.validate(begun.structured)
        assert begun.structured["state"] in ("waiting", "running")
        run = begun.structured["run"]
        result = poll(client, run)
        while result.outcome is None:
            result = poll(client, run)
        schema.validate(result.structured)
        assert (result.structured["stdout"], result.structured["result"]) == ("one\n", "42")
        foreground = client.run("1 + 1")
        schema.validate(foreground.structured)
        assert foreground.structured["cause"] == "ok"


def test_the_end_of_input_ends_what_goes_on(runs):
    """Leaving the block checks the exit status and that no process is left."""
    run, _ = begin(runs, LONG)
    until(runs, run, "begun")
    runs.end_input()
    assert runs.wait_exit() == 0


def test_a_signal_while_polls_wait(runs):
    run, _ = begin(runs, LONG)
    cursor = until(runs, run, "begun").meta["cellblock/run"]["cursor"]
    for _ in range(5):
        runs.begin_tool("poll_run", {"run": run, "cursor": cursor, "wait_seconds": 45})
    runs.tool("list_runs")
    runs.signal(15)
    assert runs.wait_exit() == 0
