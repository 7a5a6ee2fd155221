"""The toolset `runs`: runs that go on when their call has been answered."""

import json

import pytest
from box import Box
from test_capabilities import refused

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


@pytest.mark.needs("stateful")
def test_the_result_can_be_polled_again(session):
    run = begin(session, "print('a'); kept = 7; 1 / 0")
    _, _, first, _ = follow(session, run)
    again, state = poll(session, run)
    assert again.cause == first.cause == "error" and again.is_error
    assert "ZeroDivisionError" in again.text("error")
    assert again.text("stdout") == "a\n" and state["state"] == "done"
    assert session.value("kept") == "7"


@pytest.mark.needs("stateful")
def test_only_the_newest_output_is_kept_and_the_rest_is_counted(session):
    run = begin(session, "for i in range(50_000): print(f'{i:099}')")
    session.ok("None")  # waits behind it, so that all of it has come
    out, _, result, dropped = follow(session, run)
    every = "".join(f"{i:099}\n" for i in range(50_000))
    assert dropped == len(every) - KEPT and out == every[dropped:]
    assert result.cause == "ok"
    first, _ = poll(session, run)
    assert f"{dropped:,} bytes" in first.text("note")


@pytest.mark.needs("interrupt", "stateful")
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


def write(session, run, **arguments):
    """One write_run."""
    return session.server.tool("write_run", {"run": run, **arguments}, 60)


def until_printed(session, run, text):
    """Polls until all that was printed ends with the text."""
    out, cursor = "", None
    while not out.endswith(text):
        result, state = poll(session, run, cursor)
        assert result.outcome is None, result
        out, cursor = out + result.text("stdout"), state["cursor"]
    return out


@pytest.mark.needs("stdin_code")
class TestStdin:
    """Of code, while it goes on."""

    def test_input_waits(self, session):
        run = begin(session, "import sys\nprint('hello', input('who? '))\nsys.stdin.read()")
        until_printed(session, run, "who? ")
        assert "5 bytes" in write(session, run, text="würm").text("note")
        assert not write(session, run, base64="Cg==").is_error
        until_printed(session, run, "hello würm\n")
        assert not write(session, run, text="the rest", eof=True).is_error
        assert follow(session, run)[2].text("result") == "'the rest'"
        late = write(session, run, text="late")
        assert late.is_error and "ended" in late.text(), late

    def test_its_end(self, session):
        run = begin(session, "kept = 8\ninput()")
        assert not write(session, run, eof=True).is_error
        more = write(session, run, text="more")
        assert more.is_error, more
        assert follow(session, run)[2].outcome["error"]["etype"] == "EOFError"
        assert session.value("kept") == "8"

    def test_a_limit_and_an_end_from_outside(self, session):
        session.ok("kept = 9")
        run = begin(session, "input()", timeout_seconds=0.3)
        assert follow(session, run)[2].cause == "timeout"
        run = begin(session, "print('on', flush=True)\ninput()")
        until_printed(session, run, "on\n")
        session.server.tool("cancel_run", {"run": run}, 60)
        assert follow(session, run)[2].cause == "cancelled"
        assert session.value("kept") == "9"

    def test_children_and_scripts(self, session):
        run = begin(session, "import subprocess\nsubprocess.run(['cat']);")
        write(session, run, text="for cat", eof=True)
        assert follow(session, run)[0] == "for cat"
        run = begin(session, "read a; echo got $a; cat", language="shell")
        write(session, run, text="one\n")
        until_printed(session, run, "got one\n")
        write(session, run, text="two", eof=True)
        assert follow(session, run)[0].endswith("two")

    def test_one_that_waits_for_another(self, session):
        first = begin(session, "print(input())")
        second = begin(session, "print(input())")
        write(session, second, text="of the second\n")
        write(session, first, text="of the first\n")
        assert follow(session, first)[0] == "of the first\n"
        assert follow(session, second)[0] == "of the second\n"

    def test_what_was_given_is_all(self, session):
        run = begin(session, "import sys, time\nprint(sys.stdin.read(), flush=True)\n"
                             "time.sleep(600)", stdin="given")
        until_printed(session, run, "given\n")
        closed = write(session, run, text="more")
        assert closed.is_error and "without stdin" in closed.text(), closed
        session.server.tool("cancel_run", {"run": run}, 60)
        assert session.run("input()").outcome["error"]["etype"] == "EOFError"

    @pytest.mark.once
    def test_too_much(self, session):
        """Nobody reads it; the session goes on all the same."""
        run = begin(session, "import time\nprint('on', flush=True)\ntime.sleep(600)")
        until_printed(session, run, "on\n")
        for _ in range(2):
            assert not write(session, run, text="x" * 8 * 1024 * 1024).is_error
        more = write(session, run, text="x")
        assert more.is_error and "16777216" in more.text(), more
        session.server.tool("cancel_run", {"run": run}, 60)
        assert follow(session, run)[2].cause == "cancelled"
        assert session.value("1 + 1") == "2"


@pytest.mark.lacking("stdin_code")
def test_stdin_of_code_is_refused(session):
    run = begin(session, "import time\ntry:\n    input()\nexcept EOFError:\n"
                         "    print('end', flush=True)\ntime.sleep(600)")
    until_printed(session, run, "end\n")
    refused(write(session, run, text="x"), "stdin_code")
    session.server.tool("cancel_run", {"run": run}, 60)


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
        assert "stdin" in write(own, state["run"], text="it began without any").text()
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
