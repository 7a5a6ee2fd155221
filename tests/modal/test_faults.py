"""cellblock against what goes wrong at Modal: each fault of the server that plays it, by name.

After each test nothing is left running on that server; code that was given to a session ran once,
and what it printed came whole, whatever became of the calls that carried it.
"""

import itertools
import json
import os
import signal
import time

import pytest
from support.client import Client
from support_modal import ModalServer

LINES = 3000
EXPECTED = "".join(f"line {i:05}\n" for i in range(LINES))
WHOLE = f"""
with open("/workspace/count", "a") as file:
    file.write("x")
for i in range({LINES}):
    print(f"line {{i:05}}")
"""
# The session is there and says so, then prints when the test lets it.
GATED = """
import os, time
print("going", flush=True)
while not os.path.exists("/workspace/gate"):
    time.sleep(0.01)
""" + WHOLE
SLEEP = "import time\nprint('going', flush=True)\ntime.sleep(100)"
LIVE = 0  # the status of a sandbox that has not ended
DAY = 86400
numbers = itertools.count()


@pytest.fixture(scope="module")
def shared():
    with ModalServer() as one:
        yield one


def eventually(what, true, seconds=15):
    """Waits until true() is, and returns what it said."""
    deadline = time.monotonic() + seconds
    while not (said := true()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)
    return said


def left_on(server):
    """What still runs there."""
    return [(one["id"], one["status"], one["processes"]) for one in server.state()["sandboxes"]
            if one["status"] == LIVE or one["processes"]]


@pytest.fixture(autouse=True)
def server(shared):
    """The server as at its start; after the test, and the end of its cellblock, nothing runs."""
    known = {one["id"] for one in shared.state()["sandboxes"]}
    shared.known = known
    yield shared
    eventually(lambda: f"left running: {left_on(shared)}", lambda: not left_on(shared))
    shared.ask("reset", {})


@pytest.fixture
def launch(server, tmp_path):
    """launch(**settings) starts a cellblock on the server; it is ended before the server is looked
    at."""
    made = []

    def begin(*args, **settings):
        config = tmp_path / f"config-{len(made)}.json"
        default = {"backend": "modal", "pool": 0, **settings}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        names = {"MODAL_SERVER_URL": "url", "MODAL_TOKEN_ID": "token_id",
                 "MODAL_TOKEN_SECRET": "token_secret"}
        made.append(Client("--config", config, *args, era="modern", env={
            name: server.info[key] for name, key in names.items()}))
        return made[-1]

    yield begin
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=30)


@pytest.fixture
def client(launch):
    """A cellblock of the test's."""
    return launch()


def sandboxes(server):
    """Those that were made since the test began."""
    return [one for one in server.state()["sandboxes"] if one["id"] not in server.known]


def only(server):
    """The one sandbox that was made since the test began."""
    found = sandboxes(server)
    assert len(found) == 1, [(one["id"], one["status"]) for one in found]
    return found[0]


def calls(server, rpc):
    """How often an RPC was called."""
    return server.state()["calls"].get(rpc, 0)


def file_in(server, name):
    """A path on this machine of a file in the test's only sandbox."""
    return f"{only(server)['root']}/workspace/{name}"


def check_whole(server, result, times=1):
    """The run succeeded, its output is whole, and its code ran once."""
    assert result.cause == "ok", result
    assert result.text("stdout").removeprefix("going\n") == EXPECTED
    with open(file_in(server, "count"), encoding="ascii") as file:
        assert file.read() == "x" * times


def whole(server, client, times=1, **arguments):
    """Runs code that counts itself and prints much; the session."""
    result = client.run(WHOLE, **arguments)
    check_whole(server, result, times)
    return result.session


def open_session(client):
    """A session whose sandbox is there."""
    result = client.run("1")
    assert result.cause == "ok", result
    return result.session


def begin(client, code, session, **arguments):
    """A run that has said that it goes: its request's id."""
    token = f"token-{next(numbers)}"
    id_ = client.begin_tool("run_code", {"code": code, "session": session, **arguments},
                            token=token)
    client.wait_notification("notifications/progress", lambda p: p["progressToken"] == token
                             and "going" in p.get("message", ""), 20)
    return id_


def let_go(server):
    """Opens the gate of GATED."""
    with open(file_in(server, "gate"), "w", encoding="ascii"):
        pass


# UNAVAILABLE, before the effect of a call and after it


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("rpc", [
    "AuthTokenGet", "EnvironmentGetOrCreate", "AppGetOrCreate", "ImageGetOrCreate",
    "SandboxCreateV2", "TaskExecStart"])
def test_unavailable_in_a_start(server, client, rpc, when):
    server.fault(rpc, "error", status="UNAVAILABLE", when=when)
    before = calls(server, rpc)
    whole(server, client)
    expected = 1 if (rpc, when) == ("SandboxCreateV2", "after") else 2
    assert calls(server, rpc) - before == expected


@pytest.mark.parametrize("when", ["before", "after"])
def test_unavailable_in_stdin(server, client, when):
    session = open_session(client)
    server.fault("TaskExecStdinWrite", "error", status="UNAVAILABLE", when=when, times=3)
    whole(server, client, session=session)
    assert not server.state()["faults"]


@pytest.mark.parametrize("bytes_", [1, 10000])
def test_unavailable_in_stdout(server, client, bytes_):
    server.ask("set", {"chunk": 1000})
    session = open_session(client)
    server.fault("TaskExecStdioRead", "error", status="UNAVAILABLE", bytes=bytes_)
    whole(server, client, session=session)
    assert not server.state()["faults"]
    assert calls(server, "TaskExecStdioRead") > 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_unavailable_in_the_exec_s_end(server, client, when):
    """The supervisor ends; how is told by TaskExecWait, when it answers."""
    server.fault("TaskExecWait", "error", status="UNAVAILABLE", when=when)
    result = client.run("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    assert result.cause in ("lost", "killed"), result
    assert not server.state()["faults"]
    again = client.run("6 * 7", session=result.session)
    assert again.text("result") == "42"


@pytest.mark.parametrize("when", ["before", "after"])
def test_unavailable_in_the_sandbox_s_end(server, client, when):
    """What SandboxWait says is asked for again."""
    session = open_session(client)
    id_ = begin(client, SLEEP, session)
    server.fault("SandboxWaitV2", "error", status="UNAVAILABLE", when=when)
    server.ask("end", {"sandbox": only(server)["id"]})
    result = client.tool_result(id_)
    assert result.cause == "lost", result
    assert "terminated from outside" in result.text("note"), result


@pytest.mark.parametrize("when", ["before", "after"])
def test_unavailable_in_the_termination(server, client, when):
    open_session(client)
    server.fault("SandboxTerminateV2", "error", status="UNAVAILABLE", when=when)
    client.close(30)
    assert calls(server, "SandboxTerminateV2") == 2
    assert not left_on(server)


# Sent away for a while, and for good


@pytest.mark.parametrize("rpc", ["SandboxCreateV2", "TaskExecStart", "TaskExecStdinWrite"])
def test_throttled(server, client, rpc):
    """RESOURCE_EXHAUSTED with a policy: so long is waited, and that is no retry."""
    server.fault(rpc, "error", status="RESOURCE_EXHAUSTED", retry_after=0.8)
    began = time.monotonic()
    whole(server, client)
    assert time.monotonic() - began >= 0.8
    retried = [one["metadata"] for one in server.state()["log"] if one["rpc"] == rpc][1]
    assert retried["x-throttle-retry-attempt"] == "1"
    assert retried.get("x-retry-attempt", "0") == "0"


def test_quota(server, client):
    server.ask("set", {"quota": 0})
    result = client.run(WHOLE)
    assert result.is_error
    assert "the workspace's limit of 0 sandboxes is reached" in result.text()
    assert calls(server, "SandboxCreateV2") == 1
    server.ask("set", {"quota": 1})
    whole(server, client)


# Tokens and clocks


def test_token_expired(server, client):
    """The control plane's, when a sandbox is made."""
    server.fault("SandboxCreateV2", "expired")
    whole(server, client)
    assert calls(server, "AuthTokenGet") == 2


def test_token_expired_in_a_build_s_log(server, launch):
    """The control plane's, in the middle of a stream."""
    server.ask("set", {"image_seconds": 0.5})
    client = launch(dockerfile_commands=[f"ENV FAULT={next(numbers)}", "RUN pip install numpy"])
    server.fault("ImageJoinStreaming", "expired", bytes=1, skip=1)  # after its first message
    whole(server, client)
    assert not server.state()["faults"]
    assert calls(server, "AuthTokenGet") == 2


def test_router_token_expired_in_a_stream(server, client):
    server.ask("set", {"chunk": 1000})
    session = open_session(client)
    id_ = begin(client, GATED, session)
    server.fault("TaskExecStdioRead", "expired", bytes=1)
    let_go(server)
    check_whole(server, client.tool_result(id_))
    assert calls(server, "SandboxGetCommandRouterAccess") == 1


def test_short_tokens(server, client):
    """Those that are over between two runs are got anew, one for all that need it."""
    server.ask("set", {"auth_seconds": 1, "router_seconds": 1})
    session = whole(server, client)
    assert client.run("import time; time.sleep(2.1)", session=session).cause == "ok"
    before = calls(server, "SandboxGetCommandRouterAccess")
    whole(server, client, 2, session=session)
    assert 1 <= calls(server, "SandboxGetCommandRouterAccess") <= before + 1


@pytest.mark.parametrize("skew", [DAY, -DAY])
def test_clock_skew(server, client, skew):
    server.ask("set", {"skew": skew})
    session = whole(server, client)
    whole(server, client, 2, session=session)
    assert calls(server, "AuthTokenGet") == 1


# Connections and streams that break

CUTS = ["goaway", "close", "reset", "half"]


@pytest.mark.parametrize("what", CUTS)
def test_cut_while_it_is_made(server, client, what):
    """The sandbox was made, and nobody heard of it: it is found by its name."""
    server.fault("SandboxCreateV2", what, when="after")
    whole(server, client)
    assert calls(server, "SandboxGetFromNameV2") == 1


@pytest.mark.parametrize("what", CUTS)
def test_cut_stream(server, client, what):
    server.ask("set", {"chunk": 1000})
    session = open_session(client)
    id_ = begin(client, GATED, session)
    server.fault("TaskExecStdioRead", what, bytes=5000)
    let_go(server)
    check_whole(server, client.tool_result(id_))
    assert not server.state()["faults"]


@pytest.mark.parametrize("what", CUTS)
def test_cut_stdin(server, client, what):
    session = open_session(client)
    server.fault("TaskExecStdinWrite", what, when="after")
    whole(server, client, session=session)
    assert not server.state()["faults"]


# Answers that are none

LIES = [("huge", {}), ("trailers", {}), ("trailers", {"status": "ninety"}), ("garbage", {})]
LIE_IDS = ["huge", "no-trailers", "wrong-trailers", "garbage"]


@pytest.mark.parametrize("what, words", LIES, ids=LIE_IDS)
def test_lie_about_a_new_sandbox(server, client, what, words):
    """It was made; the answer cannot be read. It is the one that is used, or is not left there."""
    server.fault("SandboxCreateV2", what, when="after", **words)
    whole(server, client)
    assert calls(server, "SandboxCreateV2") == 1


@pytest.mark.parametrize("what, words", LIES, ids=LIE_IDS)
def test_lie_before_a_sandbox(server, client, what, words):
    server.fault("AppGetOrCreate", what, **words)
    whole(server, client)
    assert calls(server, "AppGetOrCreate") == 2


@pytest.mark.parametrize("what, words", LIES, ids=LIE_IDS)
def test_lie_in_a_stream(server, client, what, words):
    """It is asked for again from where it was."""
    server.ask("set", {"chunk": 1000})
    session = open_session(client)
    id_ = begin(client, GATED, session)
    server.fault("TaskExecStdioRead", what, bytes=5000, **words)
    let_go(server)
    check_whole(server, client.tool_result(id_))
    assert not server.state()["faults"]


@pytest.mark.parametrize("rpc", ["TaskExecStart", "TaskExecStdinWrite"])
@pytest.mark.parametrize("what, words", LIES, ids=LIE_IDS)
def test_lie_about_what_was_done(server, client, rpc, what, words):
    """It is asked again, and done once."""
    session = None if rpc == "TaskExecStart" else open_session(client)
    server.fault(rpc, what, when="after", **words)
    check_whole(server, client.run(WHOLE, session=session), times=1)
    assert not server.state()["faults"]


def test_nothing_but_lies(server, client):
    """The session is lost, and told why."""
    session = open_session(client)
    server.fault("TaskExecStdinWrite", "garbage", times=0)
    result = client.run("print(1)", session=session)
    assert result.cause == "lost", result
    assert "TaskExecStdinWrite: its answer cannot be read" in result.text("note"), result
    server.ask("reset", {})
    assert client.run("6 * 7", session=session).text("result") == "42"


# What succeeded though nobody said so


def test_create_timed_out_but_succeeded(server, client):
    server.ask("set", {"idempotency": False})
    server.fault("SandboxCreateV2", "error", status="DEADLINE_EXCEEDED", when="after")
    whole(server, client)  # in the only sandbox that there is
    assert calls(server, "SandboxCreateV2") == 1
    assert calls(server, "SandboxGetFromNameV2") == 1


def test_create_failed_for_good(server, client):
    """Said after a few attempts, and nothing of them is left."""
    server.fault("SandboxCreateV2", "error", status="INTERNAL", message="no luck", times=0)
    result = client.run(WHOLE)
    assert result.is_error
    assert "no luck" in result.text(), result
    assert not sandboxes(server)


def test_code_runs_once(server, client):
    """Every call of the router fails after its effect once: nothing is done twice."""
    session = open_session(client)
    server.fault("*", "error", status="UNAVAILABLE", when="after", times=4)
    whole(server, client, session=session)


# The router


def test_router_gone_for_a_moment(server, client):
    session = open_session(client)
    id_ = begin(client, GATED, session)
    server.ask("set", {"router": False})
    let_go(server)
    eventually("it ends", lambda: os.path.exists(file_in(server, "count")))
    server.ask("set", {"router": True})
    check_whole(server, client.tool_result(id_))


def test_router_gone_for_good(server, client):
    session = open_session(client)
    id_ = begin(client, SLEEP, session)
    server.ask("set", {"router": False})
    result = client.tool_result(id_, 60)
    assert result.cause == "lost", result
    assert "the connection to the sandbox was lost" in result.text("note"), result
    server.ask("set", {"router": True})
    again = client.run("6 * 7", session=session)
    assert again.text("result") == "42"


# Ends


def test_build_failed(server, launch):
    server.ask("set", {"image": "\n".join(["Step 1", "E: no space left on the builder"])})
    client = launch(dockerfile_commands=[f"ENV FAULT={next(numbers)}"])
    result = client.run(WHOLE)
    assert result.is_error
    assert "E: no space left on the builder" in result.text(), result
    assert not sandboxes(server)
    server.ask("set", {"image": ""})
    whole(server, client)


@pytest.mark.parametrize("how, words", [
    ("terminated", "terminated from outside"), ("gone", "a failure of its own"),
    ("timeout", "lifetime"), ("idle", "idle for too long")])
def test_ended_from_outside(server, client, how, words):
    session = open_session(client)
    id_ = begin(client, SLEEP, session)
    server.ask("end", {"sandbox": only(server)["id"], "how": how})
    result = client.tool_result(id_)
    assert result.cause == "lost", result
    assert result.text("stdout") == "going\n"
    assert words in result.text("note"), result
    again = client.run("6 * 7", session=session)
    assert again.text("result") == "42"


@pytest.mark.parametrize("how", ["oom", "evicted"])
def test_out_of_memory(server, client, how):
    session = open_session(client)
    id_ = begin(client, SLEEP, session)
    server.ask("end", {"sandbox": only(server)["id"], "how": how})
    result = client.tool_result(id_)
    assert result.cause == "out_of_memory", result
    assert client.run("6 * 7", session=session).text("result") == "42"


# Cancelling a start


def cancelled(server, client, rpc, **arguments):
    """A call that is taken back while this RPC hangs."""
    id_ = client.begin_tool("run_code", {"code": WHOLE, **arguments})
    eventually(f"no {rpc}", lambda: not server.state()["faults"])
    client.cancel(id_)


@pytest.mark.parametrize("rpc", ["AuthTokenGet", "AppGetOrCreate", "ImageJoinStreaming"])
def test_cancelled_before_a_sandbox(server, launch, rpc):
    """Then cellblock ends at once, and no sandbox is made."""
    more = {"dockerfile_commands": [f"ENV FAULT={next(numbers)}"]} if "Image" in rpc else {}
    client = launch(**more)
    server.fault(rpc, "hang", seconds=30)
    cancelled(server, client, rpc)
    client.close(10)
    assert not sandboxes(server)


@pytest.mark.parametrize("rpc, when", [
    ("SandboxCreateV2", "before"), ("SandboxCreateV2", "after"), ("TaskExecStart", "before"),
    ("TaskExecStart", "after"), ("TaskExecStdinWrite", "before")])
def test_cancelled_in_a_start(server, launch, rpc, when):
    """The session goes on in the only sandbox there is, and what was cancelled never ran."""
    client = launch("--toolsets", "sessions")
    server.fault(rpc, "hang", when=when, seconds=1)
    session = client.tool("create_session").session
    cancelled(server, client, rpc, session=session)
    whole(server, client, session=session)


@pytest.mark.parametrize("rpc, when", [
    ("SandboxCreateV2", "before"), ("SandboxCreateV2", "after"), ("TaskExecStart", "after")])
def test_left_in_a_start(server, client, rpc, when):
    """The end of cellblock finds the sandbox that it never heard of."""
    server.fault(rpc, "hang", when=when, seconds=30 if when == "after" else 1)
    cancelled(server, client, rpc)
    client.close(20)
    assert not left_on(server)


# cellblock's own end


def test_killed_cellblock_s_sandboxes_are_swept(server, launch):
    first = launch()
    id_ = open_session(first)
    begin(first, SLEEP, id_)
    left = only(server)["id"]
    first.kill()
    assert [one[0] for one in left_on(server)] == [left]
    second = launch()
    assert second.run("6 * 7").text("result") == "42"
    eventually("the first one's sandbox is left", lambda: left not in
               [one[0] for one in left_on(server)])
    assert len(left_on(server)) == 1


def test_a_killed_cellblock_s_kept_sandbox_is_not_swept(server, launch, tmp_path, monkeypatch):
    """The next one attaches it, by a tag from which the session's own cannot be learnt."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first = launch(keep=True)
    id_ = first.run("x = 41").session
    left = only(server)
    assert len(left["tags"]["cellblock-kept"]) == 48 and int(left["tags"]["cellblock-until"]) > 0
    first.kill()
    second = launch("--toolsets", "sessions", keep=True)
    assert second.run("6 * 7").text("result") == "42"
    eventually("nobody looks for what was left", lambda: calls(server, "SandboxListV2") > 1)
    assert not second.tool("create_session", {"attach": id_}).is_error
    assert second.run("x + 1", session=id_).text("result") == "42"
    for row in json.loads(second.tool("list_sessions", {}).text())["sessions"]:
        assert not second.tool("end_session", {"session": row["session"]}).is_error
    eventually("a sandbox is left", lambda: not left_on(server))


def test_terminated_cellblock(server, client):
    """SIGTERM in the middle of a run: all is given back."""
    session = open_session(client)
    begin(client, SLEEP, session)
    client.signal(signal.SIGTERM)
    client.wait_exit(20)
    assert not left_on(server)
