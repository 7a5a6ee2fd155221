"""The toolset `runs`: runs that go on when their call has been answered."""

import json

import pytest
from box import Box

KEPT = 1024 * 1024  # bytes of a run's newest output
BURSTS = """
import sys, time
for i in range(6):
    print('burst', i, flush=True)
    print('oh', i, file=sys.stderr, flush=True)
    time.sleep(0.15)
'the end'
"""


@pytest.fixture(scope="module")
def session(server):
    """One session for all of them: what a test needs, it makes."""
    return Box(server)


def begin(session, code, **arguments):
    """Starts a run in the background and returns its id."""
    result = session.run(code, background=True, **arguments)
    assert not result.is_error and result.outcome is None, result
    run = result.meta["cellblock/run"]["run"]
    assert run in result.text("note") and "poll_run" in result.text("note")
    assert result.session == session.id
    return run


def poll(session, run, cursor=None, wait_seconds=20):
    """One poll_run: its result, and what it says of the run."""
    more = {"cursor": cursor} if cursor else {}
    result = session.server.tool("poll_run", {"run": run, "wait_seconds": wait_seconds, **more}, 60)
    assert "cellblock/run" in result.meta, result
    assert len(result.text()) < 41_000
    return result, result.meta["cellblock/run"]


def follow(session, run):
    """Polls to the run's end: stdout, stderr, the last result, and the bytes that were dropped."""
    out, err, dropped, cursor = "", "", 0, None
    while True:
        result, state = poll(session, run, cursor)
        out, err = out + result.text("stdout"), err + result.text("stderr")
        dropped, cursor = dropped + state["dropped_bytes"], state["cursor"]
        if result.outcome:
            return out, err, result, dropped
        assert state["state"] != "done" or state["more"], result


def test_bursts_come_once_and_in_order(session):
    out, err, result, dropped = follow(session, begin(session, BURSTS))
    assert out == "".join(f"burst {i}\n" for i in range(6)) and dropped == 0
    assert err == "".join(f"oh {i}\n" for i in range(6))
    assert result.text("result") == "'the end'"
    assert result.cause == "ok" and result.outcome["success"]


def test_the_result_can_be_polled_again(session):
    run = begin(session, "print('a'); kept = 7; 1 / 0")
    _, _, first, _ = follow(session, run)
    again, state = poll(session, run)
    assert again.cause == first.cause == "error" and again.is_error
    assert "ZeroDivisionError" in again.text("error")
    assert again.text("stdout") == "a\n" and state["state"] == "done"
    assert session.value("kept") == "7"


def test_only_the_newest_output_is_kept_and_the_rest_is_counted(session):
    run = begin(session, "for i in range(50_000): print(f'{i:099}')")
    session.ok("None")  # waits behind it, so that all of it has come
    out, _, result, dropped = follow(session, run)
    every = "".join(f"{i:099}\n" for i in range(50_000))
    assert dropped == len(every) - KEPT and out == every[dropped:]
    assert result.cause == "ok"
    first, _ = poll(session, run)
    assert f"{dropped:,} bytes" in first.text("note")


@pytest.mark.needs("interrupt")
def test_cancel(session):
    session.ok("kept = 42")
    run = begin(session, "import time\nprint('begun', flush=True)\ntime.sleep(600)")
    result, state = poll(session, run)
    while not result.text("stdout"):
        result, state = poll(session, run, state["cursor"])
    assert state["state"] == "running" and result.cause is None
    cancelled = session.server.tool("cancel_run", {"run": run}, 60)
    assert "cancelled: true" in cancelled.text() and not cancelled.is_error, cancelled
    result, state = poll(session, run)
    assert result.cause == "cancelled" and result.text("stdout") == "begun\n"
    assert session.value("kept") == "42"


def test_list(session):
    run = begin(session, "import time\ntime.sleep(600)")
    behind = begin(session, "print('behind')")
    listed = json.loads(session.server.tool("list_runs", {"session": session.id}).text())["runs"]
    assert [one["run"] for one in listed[:2]] == [behind, run]
    assert listed[0]["state"] == "waiting" and listed[0]["title"] == "print('behind')"
    session.server.tool("cancel_run", {"run": run}, 60)
    assert follow(session, behind)[0] == "behind\n"
    done = session.server.tool("list_runs", {"session": session.id, "state": "done"})
    assert {run: "cancelled", behind: "ok"}.items() <= {
        one["run"]: one["cause"] for one in json.loads(done.text())["runs"]}.items()


def test_a_limit_of_its_own(session):
    run = begin(session, "import time\ntime.sleep(600)", timeout_seconds=0.3)
    assert follow(session, run)[2].cause == "timeout"


@pytest.mark.needs("ephemeral")
def test_ephemeral(session):
    session.ok("unseen = 1")
    run = begin(session, "print('unseen' in globals())", ephemeral=True)
    assert follow(session, run)[0] == "False\n"


@pytest.mark.once
def test_a_reset_ends_it(server):
    own = Box(server)
    own.ok("1")
    run = begin(own, "import time\ntime.sleep(600)")
    own.reset()
    assert follow(own, run)[2].cause == "cancelled"
    assert own.value("1 + 1") == "2"
    own.end()


@pytest.mark.once
def test_a_call_that_takes_too_long_leaves_its_run(launch):
    with launch(max_foreground_seconds=1) as client:
        own = Box(client)
        own.run("1", background=True)  # its sandbox may take longer than a call to start
        follow(own, begin(own, "1"))
        result = own.run("import time\nprint('so far', flush=True)\nwhile True: time.sleep(0.01)")
        state, out = result.meta["cellblock/run"], result.text("stdout")
        assert result.outcome is None and not result.is_error, result
        assert "max_foreground" in result.text("note")
        while not out:
            later, state = poll(own, state["run"], state["cursor"])
            out = later.text("stdout")
        later, _ = poll(own, state["run"], state["cursor"], wait_seconds=0)
        assert out == "so far\n" and later.text("stdout") == "" and later.outcome is None
        client.tool("cancel_run", {"run": state["run"]}, 60)
        assert poll(own, state["run"])[0].cause == "cancelled"
        assert own.run("2").cause == "ok"


@pytest.mark.once
def test_the_server_ends_with_one_going(launch):
    """Leaving the block checks that nothing is left behind."""
    with launch() as client:
        own = Box(client)
        begin(own.open(), "import time\ntime.sleep(600)")
        begin(own, "import time\ntime.sleep(600)", ephemeral=True)
