"""Sessions that outlive the server which made them: left, found again by their id, ended."""

import hmac
import json
import os
import subprocess
import time

import pytest
from box import Box
from support.client import binary
from variants import SECRET

KEPT = {"keep": True}
NO_SUCH = {"kernel": "00000000-0000-4000-8000-000000000000", "container": "0" * 64,
           "sandbox": "sb-" + "0" * 22}
reattach = pytest.mark.needs("reattach")


@pytest.fixture(scope="module")
def another(launch, scratch, variant, setup):
    """another(**options) starts a server; all of them know of the same sessions."""
    state = scratch / f"state-{variant.name}"
    state.mkdir(mode=0o700, exist_ok=True)

    def start(**options):
        return launch(environment=KEPT, env={"XDG_STATE_HOME": str(state)}, **options)

    start.state = state
    start.env = {**os.environ, **setup.env, "XDG_STATE_HOME": str(state)}
    return start


def make(client, **arguments):
    """A session that is started."""
    made = client.tool("create_session", {"start": True, **arguments}, timeout=400)
    assert not made.is_error, made
    box = Box(client)
    box.id = made.session
    return box


def attach(client, session, **arguments):
    """create_session with attach, whatever becomes of it."""
    return client.tool("create_session", {"attach": session, **arguments}, timeout=120)


def attached(client, session, **arguments):
    """The session, in this server."""
    result = attach(client, session, **arguments)
    assert not result.is_error and result.session == session, result.text()
    box = Box(client)
    box.id = session
    return box


def until(condition):
    """Waits for it."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rows(client, **arguments):
    """list_sessions: id → row."""
    result = client.tool("list_sessions", arguments)
    assert not result.is_error, result
    return {row["session"]: row for row in json.loads(result.text())["sessions"]}


@reattach
def test_a_session_goes_on(another):
    """Variables, functions, files, name and tags are there after the server's end."""
    with another() as first:
        box = make(first, name="long", tags={"job": "7"}, env={"WORD": "one"})
        box.ok("import os, threading\nx = [41]\ndef more(): return x[0] + 1\n"
               "open('note.txt', 'w').write('kept')\nos.chdir('/tmp')")
    with another() as second:
        row = rows(second, tags={"job": "7"})[box.id]
        assert row["state"] == "detached" and row["name"] == "long" and row["runs"] == 1
        facts = json.loads(second.tool("get_session", {"session": box.id}).text())
        assert facts["state"] == "detached" and facts["env"] == ["WORD"]
        early = second.tool("run_code", {"session": box.id, "code": "1"})
        assert early.is_error and "attach" in early.text()
        again = attached(second, box.id, env={"WORD": "two"})
        assert again.value("more()") == "42"
        assert again.printed("print(os.environ['WORD'], os.getcwd())") == "two /tmp\n"
        read = second.tool("read_file", {"session": box.id, "path": "/workspace/note.txt"})
        assert read.text() == "kept", read
        assert rows(second)[box.id]["state"] == "idle"
        with another() as third:
            assert rows(third)[box.id]["state"] == "attached elsewhere"
            refused = attach(third, box.id)
            assert refused.is_error and str(second.pid) in refused.text(), refused
        reset = again.call("reset_session")
        assert "not known to this server" in reset.text(), reset  # what had been brought in
        assert "Its shares come back" in again.call("reset_session").text()
        ended = again.call("end_session")
        assert not ended.is_error and box.id not in rows(second)
    with another() as last:
        gone = attach(last, box.id)
        assert gone.is_error and "end with the server" in gone.text(), gone
    assert not list((another.state / "cellblock/sessions").iterdir())


@reattach
def test_a_killed_server_leaves_it_to_people(another):
    """Nobody had the time to say good-bye. Then by the commands: listed, gone on in, ended."""
    first = another()
    box = make(first)
    box.ok("x = 5")
    first.kill()
    config = first.process.args[first.process.args.index("--config") + 1]

    def command(name, *args, **options):
        return subprocess.run([binary(), name, "--config", str(config), *args], check=False,
                              env=another.env, capture_output=True, text=True, timeout=60,
                              **options)

    assert box.id in command("sessions").stdout
    done = command("attach", box.id, input="for i in range(2):\n    x += i\n\nx")
    assert (done.returncode, done.stdout) == (0, "6\n"), done
    done = command("attach", box.id, input="1/0")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr, done
    with another() as second:
        assert attached(second, box.id).value("x") == "6"
        busy = command("stop", box.id)
        assert busy.returncode == 3 and str(second.pid) in busy.stderr, busy
    done = command("stop", box.id)
    assert done.returncode == 0 and box.id in done.stdout, done
    assert box.id not in command("sessions", "--json").stdout
    assert command("attach", box.id, input="x").returncode == 2


@reattach
def test_a_run_that_was_going_is_interrupted(another):
    """Nobody would be told how it ends; what the session knows stays."""
    with another() as first:
        box = make(first)
        box.ok("x = 7")
        begun = box.run("import time\nprint('begun', flush=True)\ntime.sleep(300)",
                        background=True)
        run = begun.meta["cellblock/run"]["run"]
        until(lambda: "begun" in first.tool("poll_run", {"run": run, "wait_seconds": 1}).text())
    with another() as second:
        again = attached(second, box.id)
        assert again.value("x") == "7"
        assert not again.call("end_session").is_error


class Record:
    """What is written about a session that was left; whoever has the key can write another."""

    def __init__(self, another, session):
        folder = another.state / "cellblock"
        self.key = (folder / "key").read_bytes()
        self.path = folder / "sessions" / f"{session}.json"
        self.text = self.path.read_text(encoding="utf-8")

    def change(self, **members):
        """Written and signed anew."""
        record = {**json.loads(self.text), **members}
        del record["mac"]
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        record["mac"] = hmac.new(self.key, b"record\0" + text.encode(), "sha256").hexdigest()
        self.path.write_text(json.dumps(record), encoding="utf-8")

    def restore(self):
        """As it was."""
        self.path.write_text(self.text, encoding="utf-8")


@reattach
def test_its_lifetime_goes_on(another):
    """One that is past it is ended by the next server that looks."""
    with another() as first:
        box = make(first)
    Record(another, box.id).change(end_ms=1)
    with another() as second:
        late = attach(second, box.id)
        assert late.is_error and "lived as long" in late.text(), late
        until(lambda: not any((another.state / "cellblock/sessions").iterdir()))


@reattach
def test_only_the_sandbox_with_the_tag_is_attached(another):
    """Not another one at the same place; and what is gone is said to be gone. Controls: as it was
    left, it is attached."""
    with another() as first:
        box = make(first)
        box.ok("x = 6")
    record = Record(another, box.id)
    with another() as second:
        record.change(nonce="0" * 32)
        wrong = attach(second, box.id)
        assert wrong.is_error and "tag" in wrong.text() and box.id not in rows(second), wrong
        until(lambda: not record.path.with_suffix(".lock").exists())
        record.restore()
        assert attached(second, box.id).value("x") == "6"
    record = Record(another, box.id)
    with another() as third:
        where = json.loads(record.text)["where"]
        last = next(name for name in NO_SUCH if name in where)
        record.change(where={**where, last: NO_SUCH[last]})
        gone = attach(third, box.id)
        assert gone.is_error and "is gone" in gone.text() and box.id not in rows(third), gone
        until(lambda: not record.path.with_suffix(".lock").exists())
        record.restore()
        # A container may be on its way out still, and cannot be entered then.
        until(lambda: not third.tool("end_session", {"session": box.id}).is_error)


def by_hand(another, client, name, *args, **options):
    """`cellblock NAME` with the configuration that a server had."""
    config = client.process.args[client.process.args.index("--config") + 1]
    return subprocess.run([binary(), name, "--config", str(config), *args], check=False,
                          env=another.env, capture_output=True, text=True, timeout=60, **options)


PRINTS = "import os, sys; print(word[0], end=''); sys.stdout.flush(); print(word[1:])\nword"


@reattach
def test_its_secrets_are_masked_again(another):
    """Before it says anything, by its record, and not because it is asked for once more. Without
    the value it is not attached."""
    with another() as first:
        box = make(first, secrets=["suite"])
        box.ok("import os; word = os.environ['SUITE_SECRET']\nopen('w', 'w').write(word)")
    assert SECRET not in Record(another, box.id).text
    done = by_hand(another, first, "attach", box.id, input=PRINTS)
    assert done.stdout == "[secret suite]\n'[secret suite]'\n" and done.returncode == 0, done
    done = by_hand(another, first, "attach", box.id, input="raise ValueError(word)")
    assert done.returncode == 1 and "[secret suite]" in done.stderr, done
    assert SECRET not in done.stdout + done.stderr
    with another() as second:
        again = attached(second, box.id)
        read = second.tool("read_file", {"session": box.id, "path": "w"})
        assert read.text("file") == "[secret suite]", read
        shown = again.ok(PRINTS + "\nos.environ['SUITE_SECRET']")
        assert shown.text("stdout") == "[secret suite]\n" and SECRET not in str(shown.raw)
    unset = {"suite": {"variable": "SUITE_SECRET", "env": "SURELY_NOT_SET"}}
    with another(secrets=unset) as third:
        refused = attach(third, box.id)
        assert refused.is_error and "could not be masked" in refused.text(), refused
    done = by_hand(another, third, "attach", box.id, input="word")
    assert done.returncode == 3 and "\"suite\"" in done.stderr and not done.stdout, done
    with another(secrets={}) as last:
        refused = attach(last, box.id)
        assert refused.is_error and "has no more" in refused.text(), refused
        ended = last.tool("end_session", {"session": box.id})
        assert not ended.is_error and box.id not in rows(last), ended


def yes(reply, params):
    """The person at the client agrees."""
    return {**reply, "result": {"action": "accept", "content": {"allow": True}}}


@reattach
def test_what_a_person_has_agreed_to_stays(another):
    """For as long as it may still be asked for; who has not agreed has not."""
    ask = {"ask": {"max_lifetime_seconds": 200_000}}
    with another(policy=ask, era="legacy", elicit=yes) as first:
        box = make(first, max_lifetime_seconds=150_000)
    with another() as second:
        narrowed = attach(second, box.id)
        assert narrowed.is_error and "had agreed to" in narrowed.text(), narrowed
        assert "narrowed since" in narrowed.text() and rows(second)[box.id]["state"] == "detached"
    record = Record(another, box.id)
    record.change(consented=False)
    with another(policy=ask) as third:
        refused = attach(third, box.id)
        assert refused.is_error and "narrowed since the session was made" in refused.text(), refused
        record.restore()
        attached(third, box.id)
    with another(policy={"max_lifetime_seconds": 150_000}) as fourth:
        attached(fourth, box.id)
    with another() as last:
        assert not last.tool("end_session", {"session": box.id}).is_error


def left_running(another, code):
    """A session whose server was killed while it ran this, which prints first; and that server."""
    server = another()
    box = make(server)
    begun = box.run(f"import time\nprint('begun', flush=True)\n{code}", background=True)
    run = begun.meta["cellblock/run"]["run"]
    until(lambda: "begun" in server.tool("poll_run", {"run": run, "wait_seconds": 1}).text())
    server.kill()
    return box.id, server


@reattach
def test_what_goes_on_in_it_is_let_finish_or_is_killed(another, variant):
    """`stop` waits for it where nobody else ends it, and with --kill for nothing: not for code that
    cannot be interrupted either."""
    done_at = another.state / f"{variant.name}.done"
    session, server = left_running(
        another, f"time.sleep(2)\ntry: open({str(done_at)!r}, 'w').close()\nexcept OSError: pass")
    done = by_hand(another, server, "stop", session)
    assert done.returncode == 0 and session in done.stdout, done
    assert done_at.exists() == (variant.backend == "jupyter")  # a container has its own files
    session, server = left_running(
        another, "while True:\n try: time.sleep(600)\n except BaseException: pass")
    done = by_hand(another, server, "stop", "--kill", session)
    assert done.returncode == 0 and session in done.stdout, done
    assert session not in by_hand(another, server, "sessions", "--json").stdout


@pytest.mark.lacking("reattach")
def test_what_ends_with_the_server_says_so(another):
    """A session is not made where it could not be kept."""
    with another() as client:
        refused = client.tool("create_session", {"start": True})
        assert refused.is_error and "keep" in refused.text(), refused
        assert "ends with the server" in refused.text() and "jupyter" in refused.text(), refused
