"""The toolsets sessions and environments: sessions by request, their ends, what is told of them."""

import json
import re
import socket
import time
from datetime import datetime, timezone

import pytest
from support.client import Client

CONFIG = {
    "default_environment": "work",
    "policy": {"max_lifetime_seconds": 90000, "max_memory_mib": 2048},
    "environments": {
        "work": {"title": "What most runs need", "pool": 0, "env": {"SECRET": "hunter2"}},
        "fresh": {"mode": "ephemeral", "pool": 0},
        "open": {"network": "all", "pool": 0},
        "short": {"max_lifetime_seconds": 30, "idle_timeout_seconds": 30, "pool": 0},
        "far": {"backend": "docker", "image": "python:3", "packages": ["numpy"],
                "kernel": "jupyter", "cpu": 2},
    },
}
MODERN_ONLY = pytest.mark.parametrize("server", ["modern"], indirect=True)
TOOLS = ["create_session", "list_sessions", "get_session", "update_session", "end_session"]


def serve(folder, era, config, *args):
    """A server with this config and both toolsets."""
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return Client("--config", path, "--toolsets", "sessions,environments", *args, era=era)


@pytest.fixture(scope="module", params=["legacy", "modern"])
def server(request, tmp_path_factory):
    """One server for the tests of an era."""
    with serve(tmp_path_factory.mktemp("sessions"), request.param, CONFIG) as client:
        yield client


@pytest.fixture
def own(tmp_path):
    """own(config) starts a server for one test."""
    clients = []

    def start(config=CONFIG, era="modern"):
        clients.append(serve(tmp_path, era, config))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def make(server):
    """make(**arguments) creates a session; all are ended after the test."""
    made = []

    def create(**arguments):
        result = server.tool("create_session", arguments)
        assert not result.is_error, result
        made.append(result.session)
        return result.session

    yield create
    for session in made:
        end(server, session, how="kill")


def end(server, session, **arguments):
    """end_session."""
    return server.tool("end_session", {"session": session, **arguments})


def facts(server, session, **arguments):
    """get_session, read."""
    result = server.tool("get_session", {"session": session, **arguments})
    assert not result.is_error, result
    return json.loads(result.text())


def rows(server, **arguments):
    """list_sessions, read."""
    return json.loads(server.tool("list_sessions", arguments).text())["sessions"]


def refused(server, tool, *words, **arguments):
    """The text of an error, which has these words."""
    result = server.tool(tool, arguments)
    assert result.is_error, result
    for word in words:
        assert word in result.text(), result
    return result.text()


def wait_for_end(server, session, limit=30):
    """The row of a session that ends by itself."""
    stop = time.monotonic() + limit
    while time.monotonic() < stop:
        for row in rows(server, ended=True):
            if row["session"] == session and row["state"] == "ended":
                return row
        time.sleep(0.05)
    raise AssertionError(f"{session} has not ended in {limit} s")


def when(text):
    """The time that an ISO 8601 text says."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


# --- what is made ---

def test_the_tools_are_listed(server):
    """Only where the toolsets are on, and after core's."""
    names = [tool["name"] for tool in server.request("tools/list")["tools"]]
    assert names[-6:] == [*TOOLS, "list_environments"]
    with Client() as plain:
        listed = {tool["name"] for tool in plain.request("tools/list")["tools"]}
        assert not listed & {*TOOLS, "list_environments"}


def test_a_session_is_made_and_used(server, make):
    """Its id is in _meta and in the text; nothing starts before its first run."""
    session = make()
    assert re.fullmatch(r"s-[a-z2-7]{8}", session)
    assert facts(server, session)["state"] == "new"
    assert server.run("x = 6 * 7", session=session).session == session
    assert server.run("x", session=session).text("result") == "42"
    known = facts(server, session)
    assert known["state"] == "idle" and known["runs"] == 2
    assert known["last_run"]["cause"] == "ok" and known["last_run"]["peak_rss_kib"] > 0


def test_it_is_not_the_default_one(server, make):
    """What runs without a session does not enter it."""
    session = make()
    server.run("mine = 1", session=session)
    assert server.run("mine").outcome["error"]["etype"] == "NameError"
    assert "default" not in facts(server, session)


def test_a_name_works_as_the_id_does(server, make):
    """In every argument called session; it is of one live session at a time."""
    session = make(name="analysis.1")
    assert server.run("1", session="analysis.1").session == session
    assert facts(server, "analysis.1")["session"] == session
    refused(server, "create_session", "analysis.1", session, name="analysis.1")
    assert not end(server, "analysis.1").is_error
    assert make(name="analysis.1") != session


@MODERN_ONLY
@pytest.mark.parametrize("name", ["s-x", "s-7k2m9q4d", "a b", "a/b", "é", "a\nb", "", "x\u0000y"])
def test_names_that_are_none(server, name):
    """The refusal says what is allowed."""
    refused(server, "create_session", "name", name=name)


def test_start_starts_it(server, make):
    """The sandbox is there before the first run, which is the first all the same."""
    session = make(start=True)
    assert facts(server, session)["state"] == "idle" and facts(server, session)["runs"] == 0
    assert server.run("1", session=session).outcome["execution_count"] == 1


@MODERN_ONLY
def test_an_ephemeral_session(server, make):
    """Each of its runs is fresh."""
    session = make(mode="ephemeral")
    server.run("x = 1", session=session)
    assert server.run("x", session=session).outcome["error"]["etype"] == "NameError"
    assert facts(server, session)["mode"] == "ephemeral"
    refused(server, "create_session", "start", mode="ephemeral", start=True)


def test_env_is_there_in_each_run(server, make):
    """Those of a run go over them; neither stays in another session; values are not shown."""
    session = make(env={"GREETING": "hello", "SECRET": "other"})
    code = "import os; print(os.environ.get('GREETING'), os.environ.get('SECRET'))"
    for _ in range(2):
        assert server.run(code, session=session).text("stdout") == "hello other\n"
    changed = server.run(code, session=session, env={"GREETING": "bye"})
    assert changed.text("stdout") == "bye other\n"
    shell = server.run("echo $GREETING", session=session, language="shell")
    assert shell.text("stdout") == "hello\n"
    assert server.run(code, session=make()).text("stdout") == "None hunter2\n"
    text = server.tool("get_session", {"session": session}).text()
    assert "GREETING" in text and "hello" not in text and "hunter2" not in text


# --- limits ---

@MODERN_ONLY
def test_memory(server, make):
    """memory_mib holds in the sandbox; without it the environment's does."""
    code = "print(len(bytearray(300 << 20)) >> 20)"
    assert server.run(code, session=make(memory_mib=200)).cause in ("error", "out_of_memory")
    assert server.run(code, session=make()).text("stdout") == "300\n"


@MODERN_ONLY
def test_disk(server, make):
    """disk_mib holds."""
    code = "open('big', 'wb').write(bytes(16 << 20)); import time; time.sleep(1); print('wrote')"
    assert "wrote" not in server.run(code, session=make(disk_mib=8)).text("stdout")
    assert "wrote" in server.run(code, session=make()).text("stdout")


@MODERN_ONLY
def test_no_network(server, make):
    """A session may do without the network that its environment has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = ("import socket\ntry:\n    socket.create_connection(('127.0.0.1', "
                f"{listener.getsockname()[1]}), 5)\n    print('in')\n"
                "except OSError:\n    print('out')")
        with_it = make(environment="open")
        without = make(environment="open", network="none")
        assert server.run(code, session=with_it).text("stdout") == "in\n"
        assert server.run(code, session=without).text("stdout") == "out\n"
    assert facts(server, without)["limits"]["network"] == "none"


@MODERN_ONLY
def test_the_time_of_its_runs(server, make):
    """timeout_seconds is what runs have that name none."""
    session = make(timeout_seconds=0.5)
    assert server.run("while True: pass", session=session).cause == "timeout"
    assert facts(server, session)["limits"]["timeout_seconds"] == 0.5
    assert server.run("1", session=session, timeout_seconds=60).cause == "ok"


@MODERN_ONLY
@pytest.mark.parametrize("arguments, words", [
    ({"memory_mib": 2049}, ("2048 at most", "policy.max_memory_mib")),
    ({"disk_mib": 1025}, ("1024 at most", "policy.max_disk_mib")),
    ({"timeout_seconds": 3601}, ("3600 at most", "max_timeout_seconds")),
    ({"idle_timeout_seconds": 1801}, ("1800 at most", "policy.max_idle_timeout_seconds")),
    ({"max_lifetime_seconds": 90001}, ("90000 at most", "policy.max_lifetime_seconds")),
    ({"network": "all"}, ("network", "policy.networks")),
    ({"image": "ubuntu"}, ("image", "policy.images")),
    ({"packages": ["requests"]}, ("requests", "policy.packages")),
    ({"environment": "far", "cpu": 3}, ("2 at most", "policy.max_cpu")),
    ({"environment": "far", "image": "python:4"}, ("policy.images",)),
    ({"cpu": 1}, ("cpu", "no such setting", "docker")),
    ({"environment": "wrk"}, ("did you mean \"work\"",)),
    ({"memory_mib": 1}, ("memory_mib",)),
    ({"timeout_seconds": 0}, ("timeout_seconds",)),
    ({"gpu": "H100"}, ("gpu", "nothing may", "policy.gpu")),
    ({"workdir": "sub"}, ("workdir", "absolute")),
    ({"workdir": "/a\nb"}, ("workdir", "control character")),
    ({"secrets": ["openai"]}, ("secrets",)),
    ({"attach": "s-7k2m9q4d"}, ("attach",)),
    ({"env": {"A B": "1"}}, ("A B",)),
    ({"env": {"A": "x" * 70000}}, ("env",)),
    ({"tags": {"a b": "1"}}, ("a b",)),
    ({"tags": {str(i): "1" for i in range(33)}}, ("32",)),
])
def test_what_is_refused(server, arguments, words):
    """Never clamped; the message says what is allowed; and nothing is made."""
    before = rows(server)
    refused(server, "create_session", *words, **arguments)
    assert rows(server) == before


def test_null_is_left_out(server, make):
    """As in every tool."""
    names = ("environment", "name", "tags", "mode", "start", "env", "cpu", "memory_mib",
             "disk_mib", "network", "image", "packages", "timeout_seconds", "workdir", "gpu",
             "idle_timeout_seconds", "max_lifetime_seconds")
    session = make(**dict.fromkeys(names))
    assert facts(server, session)["limits"]["memory_mib"] == 1024


# --- what is told ---

def test_facts(server, make):
    """Times are ISO 8601 in UTC and fit each other."""
    before = datetime.now(timezone.utc).timestamp()
    session = make(name="facts", max_lifetime_seconds=600, idle_timeout_seconds=60,
                   tags={"who": "me"})
    known = facts(server, session)
    made, ends = when(known["created_at"]).timestamp(), when(known["ends_at"]).timestamp()
    assert before - 2 <= made <= datetime.now(timezone.utc).timestamp() + 2
    assert 599 <= ends - made <= 601
    assert known["remaining_seconds"] <= 600 and known["idle_remaining_seconds"] <= 60
    assert known["environment"] == "work" and known["backend"] == "local"
    assert known["tags"] == {"who": "me"} and known["name"] == "facts"
    assert known["shares"] == [] and known["last_run"] is None


def test_running_is_seen(server, make):
    """The state while a run goes on; a call that looks does not wait for it."""
    session = make(start=True)
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(60)",
                                         "session": session})
    assert facts(server, session)["state"] == "running"
    assert "idle_remaining_seconds" not in facts(server, session)
    server.cancel(run)


def test_the_log(server, make):
    """What is printed between runs can be asked for."""
    session = make()
    server.run("""
import threading
gate = threading.Event()
def late():
    gate.wait()
    for i in range(50): print('late', i, flush=True)
threading.Thread(target=late).start()
threading.Timer(0.2, gate.set).start()
""", session=session)
    stop = time.monotonic() + 20
    while "late 49" not in (log := facts(server, session, log_tail=3)["log_tail"]):
        assert time.monotonic() < stop, log
        time.sleep(0.05)
    assert log.splitlines() == ["late 47", "late 48", "late 49"]
    assert facts(server, session)["log_tail"] == ""


def test_the_list_and_its_tags(server, make):
    """Newest first; all of the tags that are asked for."""
    one, two = make(tags={"k": "v", "n": "1"}), make(tags={"k": "v", "n": "2"})
    assert [row["session"] for row in rows(server, tags={"k": "v"})] == [two, one]
    assert [row["session"] for row in rows(server, tags={"k": "v", "n": "1"})] == [one]
    assert rows(server, tags={"k": "w"}) == []
    end(server, one)
    assert [row["session"] for row in rows(server, tags={"k": "v"})] == [two]
    ended = rows(server, tags={"k": "v"}, ended=True)
    assert [row["session"] for row in ended][:2] == [two, one]
    assert ended[1]["state"] == "ended" and "end_session" in ended[1]["why"]
    assert when(ended[1]["ended_at"]) >= when(ended[1]["created_at"])


def test_long_lists_have_pages(own):
    """256 sessions with all the tags that they can have."""
    server = own()
    tags = {f"t{i:02d}": "x" * 250 for i in range(32)}
    ids = [server.begin_tool("create_session", {"tags": tags if i < 12 else {"i": str(i)}})
           for i in range(256)]
    made = {server.tool_result(id_).session for id_ in ids}
    assert len(made) == 256
    refused(server, "create_session", "256 sessions")
    seen, offset = [], 0
    while offset is not None:
        text = server.tool("list_sessions", {"offset": offset}).text()
        assert len(text) < 40_000
        page = json.loads(text)
        assert page["total"] == 256 and page["sessions"]
        seen += [row["session"] for row in page["sessions"]]
        offset = page.get("next_offset")
    assert len(seen) == 256 and set(seen) == made


def test_environments(server):
    """What there is to choose from, without anything that is a secret."""
    text = server.tool("list_environments").text()
    found = {one["name"]: one for one in json.loads(text)["environments"]}
    assert list(found) == list(CONFIG["environments"])
    work, far = found["work"], found["far"]
    assert work["default"] and work["title"] == "What most runs need"
    assert work["resources"]["memory_mib"] == 1024 and work["network"] == "none"
    assert "python" in work["languages"] and "pool" in work["start"]
    assert far["packages"] == ["numpy"] and far["resources"]["cpu"] == 2
    assert "container" in far["start"] and not far["default"]
    assert found["fresh"]["mode"] == "ephemeral" and found["open"]["network"] == "all"
    assert "hunter2" not in text


# --- what changes ---

def test_tags_merge_and_null_removes(server, make):
    """Only those that are named change."""
    session = make(tags={"a": "1", "b": "2"})
    server.tool("update_session", {"session": session, "tags": {"a": None, "c": "3", "d": None}})
    assert facts(server, session)["tags"] == {"b": "2", "c": "3"}
    refused(server, "update_session", "32", session=session,
            tags={f"t{i}": "x" for i in range(31)})
    assert facts(server, session)["tags"] == {"b": "2", "c": "3"}


def test_a_session_is_renamed(server, make):
    """The old name is free then."""
    session, other = make(name="before"), make(name="taken")
    refused(server, "update_session", other, session=session, name="taken")
    assert not server.tool("update_session", {"session": "before", "name": "after"}).is_error
    assert facts(server, "after")["session"] == session
    assert make(name="before") != session


def test_nothing_to_change(server, make):
    """An update of nothing is a mistake."""
    refused(server, "update_session", "nothing to change", session=make())


def test_a_new_end_is_within_policy(server, make):
    """Counted from now, and no later than the session could live in all."""
    session = make(max_lifetime_seconds=100)
    text = server.tool("update_session", {"session": session, "timeout_seconds": 500}).text()
    known = facts(server, session)
    assert known["ends_at"] in text and 490 <= known["remaining_seconds"] <= 500
    refused(server, "update_session", "policy.max_lifetime_seconds", session=session,
            timeout_seconds=90001, tags={"not": "set"})
    assert "tags" not in facts(server, session)


# --- ends ---

def test_end_and_end_again(server, make):
    """A call with its id is told what happened and when, and ending it again is no error."""
    session = make(name="gone")
    server.run("1", session=session)
    first = end(server, session)
    assert not first.is_error and first.session == session
    moment = re.search(r"at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC)", first.text())[1]
    for name in (session, "gone"):
        again = end(server, name)
        assert not again.is_error and again.session == session and moment in again.text()
        for tool in ("get_session", "update_session"):
            refused(server, tool, "end_session", moment, session=name)
        run = server.run("1", session=name)
        assert run.is_error and moment in run.text()


def test_what_never_was(server):
    """It is not the same as what has ended."""
    for tool in ("get_session", "end_session"):
        refused(server, tool, "there is no session", session="s-22222222")


def test_kill_cancels_the_run(server, make):
    """And it is answered."""
    session = make(start=True)
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(60)",
                                         "session": session})
    assert facts(server, session)["state"] == "running"
    ended = end(server, session, how="kill")
    assert "cancelled" in ended.text()
    assert server.tool_result(run).cause == "cancelled"


def test_kill_cancels_an_ephemeral_run(server, make):
    """A fresh sandbox of it ends as well."""
    session = make(environment="fresh")
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(60)",
                                         "session": session})
    stop = time.monotonic() + 20
    while facts(server, session)["state"] != "running":
        assert time.monotonic() < stop
        time.sleep(0.05)
    end(server, session, how="kill")
    assert server.tool_result(run).cause == "cancelled"


def test_graceful_waits_for_the_run(server, make):
    """Nothing new begins meanwhile; a kill hurries it."""
    session = make(start=True)
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(1); 'done'",
                                         "session": session})
    ending = server.begin_tool("end_session", {"session": session})
    assert facts(server, session)["state"] == "ending"
    late = server.run("1", session=session)
    assert late.is_error and "is ending" in late.text()
    assert server.tool_result(run).text("result") == "'done'"
    assert not server.tool_result(ending).is_error


@MODERN_ONLY
def test_graceful_then_kill(server, make):
    """Both calls are answered."""
    session = make(start=True)
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(60)",
                                         "session": session})
    ending = server.begin_tool("end_session", {"session": session})
    assert facts(server, session)["state"] == "ending"
    assert not end(server, session, how="kill").is_error
    assert not server.tool_result(ending).is_error
    assert server.tool_result(run).cause == "cancelled"


def test_an_end_that_is_taken_back_still_comes(server, make):
    """Cancelling the call is not cancelling the end."""
    session = make(start=True)
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(1)",
                                         "session": session})
    ending = server.begin_tool("end_session", {"session": session})
    assert facts(server, session)["state"] == "ending"
    server.cancel(ending)
    assert server.tool_result(run).cause == "ok"
    assert "end_session" in wait_for_end(server, session)["why"]
    assert server.answers(ending) == []


def test_idle_and_lifetime_ends_are_told(server, make):
    """By limits that the session was made with."""
    idle = make(idle_timeout_seconds=0.2, tags={"end": "idle"})
    life = make(max_lifetime_seconds=0.3, idle_timeout_seconds=60)
    row = wait_for_end(server, idle)
    assert "0.2 s without use" in row["why"] and row["tags"] == {"end": "idle"}
    assert "had lived for 0.3 s" in wait_for_end(server, life)["why"]
    told = server.run("1", session=idle)
    assert told.is_error and re.search(r"at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", told.text())


@MODERN_ONLY
def test_update_session_extends(server, make):
    """One that was given more time is there when another of its age has ended."""
    first = make(max_lifetime_seconds=4, idle_timeout_seconds=60)
    assert not server.tool("update_session", {"session": first, "timeout_seconds": 600}).is_error
    second = make(max_lifetime_seconds=4, idle_timeout_seconds=60)
    wait_for_end(server, second)
    assert facts(server, first)["state"] == "new"


@MODERN_ONLY
def test_update_session_shortens(server, make):
    """A new end may be sooner."""
    session = make()
    assert not server.tool("update_session", {"session": session,
                                              "timeout_seconds": 0.1}).is_error
    wait_for_end(server, session)


def test_the_owner_may_allow_fewer(own):
    """policy.max_sessions, with a refusal that says what to do; an end makes room."""
    server = own({"policy": {"max_sessions": 2}})
    first = server.tool("create_session").session
    server.tool("create_session")
    refused(server, "create_session", "2 sessions", "end one")
    assert "2 sessions" in server.run("1").text()
    end(server, first)
    assert not server.tool("create_session").is_error


def test_the_policy_names_images_and_packages(own):
    """What it names passes, as far as the backend: the next refusal is another."""
    server = own({"policy": {"images": ["python:3.13"], "packages": ["pandas"],
                             "networks": ["all"], "gpu": ["H100"]}})
    refused(server, "create_session", "no such setting", image="python:3.13")
    refused(server, "create_session", "no such setting", packages=["pandas"])
    refused(server, "create_session", "these may: pandas", packages=["polars"])
    refused(server, "create_session", "no such setting", "modal", "Leave it out", gpu="H100")
    refused(server, "create_session", "these may: H100", gpu="H100:2")
    assert not server.tool("create_session", {"network": "all"}).is_error


def test_a_start_that_fails_makes_no_session(own):
    """It is told why, and nothing is left that nobody knows of."""
    server = own({"environments": {"default": {"backend": "command", "network": "all",
                                               "command": ["false"]}}})
    refused(server, "create_session", "no session was made", start=True)
    assert rows(server) == []


def test_the_end_of_input_ends_a_graceful_end(own):
    """What waits for a session is answered when the server ends."""
    server = own()
    session = server.tool("create_session", {"start": True}).session
    run = server.begin_tool("run_code", {"code": "import time; time.sleep(1)",
                                         "session": session})
    ending = server.begin_tool("end_session", {"session": session})
    server.end_input()
    assert server.tool_result(run).cause == "ok"
    assert not server.tool_result(ending).is_error
