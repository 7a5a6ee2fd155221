"""What policy leaves to be asked for is asked of the person at the client, in both eras."""

import json
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support.client import RpcError, ToolResult

YES = {"action": "accept", "content": {"allow": True}}
NO = {"action": "decline"}
LIMITS = {"max_memory_mib": 4096, "max_lifetime_seconds": 200000, "max_timeout_seconds": 7200,
          "networks": ["all"], "packages": ["numpy"]}


@pytest.fixture(scope="module")
def folder():
    """A folder that is not shared: docs in it may be asked for, secret may not."""
    path = Path(tempfile.mkdtemp(prefix="cellblock-consent-")).resolve()
    for name in ("docs", "secret"):
        (path / name).mkdir()
        (path / name / "f.txt").write_text(name)
    for one in (path, *path.rglob("*")):
        one.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def asking(start, folder, tmp_path):
    """Starts a server whose owner lets things be asked for."""
    def begin(*args, wait=20, **options):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"toolsets": ["sessions"], "policy": {"ask": {
            **LIMITS, "shares": [str(folder / "docs")], "wait_seconds": wait}}}))
        return start("--config", config, *args, **options)
    return begin


def person(answer, seen=None):
    """A legacy client whose person gives this answer (None: none)."""
    def elicit(reply, params):
        if seen is not None:
            seen.append(params)
        if answer is None:
            return None
        return {**reply, **(answer if "error" in answer else {"result": answer})}
    return elicit


def share(folder, name="docs/f.txt", **more):
    """The arguments of add_share."""
    return {"type": "copy", "source": str(folder / name), "dest": "/data/f", **more}


def raw_call(client, name, arguments, **more):
    """One tools/call with more params; the result as it is."""
    return client.request("tools/call", {"name": name, "arguments": arguments, **more})


def ask_modern(client, name, arguments):
    """The first half of a modern call: what is to be asked, and the state."""
    result = raw_call(client, name, arguments)
    assert result["resultType"] == "input_required", result
    assert set(result["inputRequests"]) == {"consent"} and "content" not in result
    assert result["inputRequests"]["consent"]["method"] == "elicitation/create"
    return result["inputRequests"]["consent"]["params"], result["requestState"]


def retry(client, name, arguments, state, answer=YES, **more):
    """The second half."""
    responses = {} if answer is None else {"consent": answer}
    return ToolResult(raw_call(client, name, arguments, requestState=state,
                               inputResponses=responses, **more))


# --- legacy ---

def test_a_share_is_asked_for(asking, folder):
    """The person sees where it really leads; then it is there, and stays at a reset."""
    (folder / "docs" / "link").symlink_to("f.txt")
    seen = []
    client = asking(elicit=person(YES, seen))
    result = client.tool("add_share", share(folder, "docs/link"))
    assert not result.is_error, result
    assert client.run("open('/data/f').read()").text("result") == "'docs'"
    assert not client.tool("reset_session", {}).is_error
    assert client.run("open('/data/f').read()").text("result") == "'docs'"
    [params] = seen
    assert f'"{folder}/docs/f.txt"' in params["message"] and "link" not in params["message"]
    assert "a copy" in params["message"] and "default session" in params["message"]
    assert params["mode"] == "form" and params["requestedSchema"] == {
        "type": "object", "required": ["allow"],
        "properties": {"allow": {"type": "boolean", "title": "Allow it, this once"}}}
    # It was for that one: the same again is asked again.
    client.elicit = person(NO, seen)
    assert client.tool("add_share", share(folder, dest="/data/g")).is_error and len(seen) == 2


@pytest.mark.parametrize("backend, says", [("local", "the original itself"),
                                           ("modal", "a copy that is uploaded")])
def test_what_a_mount_is(asking, folder, backend, says):
    """Where it leaves this machine, the person is told so."""
    seen = []
    client = asking("--backend", backend, elicit=person(NO, seen))
    assert client.tool("add_share", share(folder, type="mount")).is_error
    assert f"What it gets: {says}" in seen[0]["message"]


@pytest.mark.parametrize("answer, says", [
    (NO, "said no"),
    ({"action": "cancel"}, "closed the question"),
    ({"action": "accept", "content": {"allow": False}}, "said no"),
    ({"action": "accept"}, "not one that its form allows"),
    ({"action": "accept", "content": {"allow": "true"}}, "not one that its form allows"),
    ({"action": "yes", "content": {"allow": True}}, "not one that its form allows"),
    ({"content": {"allow": True}}, "not one that its form allows"),
    ({"error": {"code": -1, "message": "no"}}, "with an error"),
])
def test_all_but_a_yes_is_a_no(asking, folder, answer, says):
    """And the agent is told who it was."""
    client = asking(elicit=person(answer))
    result = client.tool("add_share", share(folder))
    assert result.is_error and says in result.text() and "docs/f.txt" in result.text(), result


def test_nobody_answers(asking, folder):
    """A limit; the question is taken back; the answer that is late, or doubled, does nothing."""
    client = asking(wait=.3, elicit=person(None))
    result = client.tool("add_share", share(folder))
    assert result.is_error and "did not answer in time" in result.text()
    [question] = client.server_requests
    taken = client.wait_notification("notifications/cancelled")
    assert taken["requestId"] == question["id"]
    for _ in range(2):
        client.send({"jsonrpc": "2.0", "id": question["id"], "result": YES})
    assert "f.txt" not in client.tool("reset_session", {}).text()
    assert client.tool("add_share", share(folder)).is_error  # its dest is free: it is asked again
    assert len(client.server_requests) == 2


def test_answers_that_were_not_asked_for(asking, folder):
    """Forged ids do nothing; while a question waits the server goes on with the rest."""
    client = asking(elicit=person(None))
    id_ = client.begin_tool("add_share", share(folder))
    client.wait_until(lambda: client.server_requests)
    [question] = client.server_requests
    for forged in ("cellblock-consent-1", "cellblock-roots-1", question["id"] + "0",
                   question["id"][:-1] + "9", 1, None):
        client.send({"jsonrpc": "2.0", "id": forged, "result": YES})
    assert not client.tool("list_sessions", {}).is_error
    assert not client.answers(id_)
    client.send({"jsonrpc": "2.0", "id": question["id"], "result": YES})
    assert not client.tool_result(id_).is_error
    client.send({"jsonrpc": "2.0", "id": question["id"], "result": YES})
    assert not client.tool("list_sessions", {}).is_error and len(client.answers(id_)) == 1


def test_the_call_is_taken_back(asking, folder):
    """The question is taken back with it, and a yes that comes then is for nothing."""
    client = asking(elicit=person(None))
    id_ = client.begin_tool("add_share", share(folder))
    client.wait_until(lambda: client.server_requests)
    client.cancel(id_)
    question = client.server_requests[0]["id"]
    client.wait_notification("notifications/cancelled", lambda p: p["requestId"] == question)
    client.send({"jsonrpc": "2.0", "id": question, "result": YES})
    assert '"total":0' in client.tool("list_sessions", {}).text().replace(" ", "")
    assert not client.answers(id_)


def test_the_end_of_input_ends_the_question(asking, folder):
    """Nobody can answer any more."""
    client = asking(elicit=person(None))
    id_ = client.begin_tool("add_share", share(folder))
    client.wait_until(lambda: client.server_requests)
    client.end_input()
    result = client.tool_result(id_)
    assert result.is_error and "went away" in result.text()


def test_some_questions_at_once(asking, folder):
    """Eight; the ninth is refused without one."""
    client = asking(elicit=person(None))
    ids = [client.begin_tool("add_share", share(folder, dest=f"/data/{n}")) for n in range(9)]
    assert "8 questions wait" in client.tool_result(ids[8]).text()
    assert len(client.server_requests) == 8
    for id_ in ids:
        client.cancel(id_)
    client.elicit = person(YES)
    assert not client.tool("add_share", share(folder)).is_error


def test_a_limit_is_asked_for(asking):
    """All that is beyond policy, in one question; it is for that session."""
    seen = []
    client = asking(elicit=person(YES, seen))
    wishes = {"memory_mib": 2048, "timeout_seconds": 7200, "network": "all", "disk_mib": 10,
              "name": "big"}
    assert not client.tool("create_session", wishes).is_error
    [params] = seen
    message = params["message"]
    assert "- 2048 MiB of memory (without asking: 1024)" in message and "big" in message
    assert "7200 seconds (2 hours) (without asking: 3600 seconds (60 minutes))" in message
    assert '- the network "all"' in message and "disk" not in message
    facts = json.loads(client.tool("get_session", {"session": "big"}).text())
    assert facts["limits"]["memory_mib"] == 2048
    client.elicit = person(NO, seen)
    refused = client.tool("create_session", {"memory_mib": 2048})
    assert refused.is_error and "said no" in refused.text() and len(seen) == 2


def test_a_longer_life_is_asked_for(asking):
    """update_session; the rest of the call is done with it or not at all."""
    seen = []
    client = asking(elicit=person(NO, seen))
    client.tool("create_session", {"name": "long"})
    wish = {"session": "long", "timeout_seconds": 172800, "tags": {"a": "b"}}
    assert client.tool("update_session", wish).is_error
    assert '"a"' not in client.tool("get_session", {"session": "long"}).text()
    client.elicit = person(YES, seen)
    assert not client.tool("update_session", wish).is_error
    facts = json.loads(client.tool("get_session", {"session": "long"}).text())
    assert facts["remaining_seconds"] > 172000 and facts["tags"] == {"a": "b"}
    assert len(seen) == 2 and "172800 seconds (2 days)" in seen[0]["message"]


def test_beyond_what_may_be_asked_for(asking, folder):
    """Refused without a question, as before."""
    client = asking(elicit=person(YES))
    assert "not shared" in client.tool("add_share", share(folder, "secret/f.txt")).text()
    (folder / "docs" / "out").symlink_to(folder / "secret")
    for source in ("docs/out/f.txt", "docs/../secret/f.txt"):
        assert client.tool("add_share", share(folder, source)).is_error
    assert "not exist" in client.tool("add_share", share(folder, "docs/none")).text()
    assert "no session" in client.tool("add_share", share(folder, session="s-none1234")).text()
    for wish in ({"memory_mib": 8192}, {"packages": ["numpy", "evil"]}, {"image": "x"},
                 {"memory_mib": 2048, "max_lifetime_seconds": 10**6}):
        result = client.tool("create_session", wish)
        assert result.is_error and ("may" in result.text() or "allows" in result.text())
    client.tool("create_session", {"name": "s"})
    assert client.tool("update_session", {"session": "s", "timeout_seconds": 10**6}).is_error
    assert not client.server_requests


@pytest.mark.parametrize("options", [
    {}, {"capabilities": {"elicitation": {"url": {}}}},
    {"capabilities": {"elicitation": {}}, "version": "2025-03-26"},
    {"era": "modern"}, {"era": "modern", "capabilities": {"elicitation": {"url": {}}}}])
def test_a_client_that_cannot_ask(asking, folder, options):
    """Refused, and told that it could have been asked for."""
    client = asking(**options)
    for name, arguments in (("add_share", share(folder)), ("create_session", {"cpu": 1,
                                                                           "memory_mib": 2048})):
        result = client.tool(name, arguments)
        assert result.is_error and "this client cannot ask" in result.text(), result
    assert not client.server_requests


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
def test_the_form_of_each_revision(asking, folder, version):
    """`mode` came with 2025-11-25; {"form": {}} is a declaration too."""
    seen = []
    client = asking(version=version, elicit=person(YES, seen),
                    capabilities={"elicitation": {} if version < "2025-11" else {"form": {}}})
    assert not client.tool("add_share", share(folder)).is_error
    assert seen[0].get("mode") == (None if version < "2025-11" else "form")


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_swap_while_the_person_thinks(asking, folder, era):
    """What was opened before the question is what comes in, whatever the path leads to then."""
    swapped = folder / "docs" / "swapped"
    swapped.mkdir(mode=0o755)
    (swapped / "f.txt").write_text("what the person saw")
    swap = threading.Event()

    def elicit(reply, params):
        swapped.rename(folder / "docs" / f"moved-{era}")
        swapped.symlink_to(folder / "secret")
        swap.set()
        return {**reply, "result": YES}

    client = asking(era=era, elicit=elicit)
    arguments = share(folder, "docs/swapped")
    if era == "modern":
        _, state = ask_modern(client, "add_share", arguments)
        elicit({}, None)
        result = retry(client, "add_share", arguments, state)
    else:
        result = client.tool("add_share", arguments)
    assert swap.is_set() and not result.is_error, result
    session = {"session": result.session}
    read = "open('/data/f/f.txt').read()"
    assert client.run(read, **session).text("result") == "'what the person saw'"
    assert not client.tool("reset_session", session).is_error
    assert client.run(read, **session).text("result") == "'what the person saw'"
    swapped.unlink()


# --- modern ---

def test_input_required(asking, folder):
    """A question, and the same call again with its answer."""
    client = asking(era="modern", capabilities={"elicitation": {}})
    params, state = ask_modern(client, "add_share", share(folder))
    assert f'"{folder}/docs/f.txt"' in params["message"] and "new session" in params["message"]
    assert params["requestedSchema"]["required"] == ["allow"] and len(state) >= 32
    result = retry(client, "add_share", share(folder), state)
    assert not result.is_error and result.session, result
    params, state = ask_modern(client, "create_session", {"memory_mib": 2048})
    made = retry(client, "create_session", {"memory_mib": 2048}, state)
    assert made.session and "2048 MiB" in params["message"]
    wish = {"session": made.session, "timeout_seconds": 172800}
    params, state = ask_modern(client, "update_session", wish)
    assert made.session in params["message"]
    assert not retry(client, "update_session", wish, state).is_error
    assert not client.server_requests


@pytest.mark.parametrize("answer, says", [
    (NO, "said no"), ({"action": "cancel"}, "closed the question"), ("yes", "its form allows"),
    ({"action": "accept", "content": {"allow": 1}}, "its form allows")])
def test_modern_answers_that_are_no_yes(asking, folder, answer, says):
    """As in the legacy era, and the state is used up."""
    client = asking(era="modern", capabilities={"elicitation": {}})
    _, state = ask_modern(client, "add_share", share(folder))
    assert says in retry(client, "add_share", share(folder), state, answer).text()
    assert "not good" in retry(client, "add_share", share(folder), state).text()


def test_a_state_is_good_for_one_call(asking, folder):
    """Not for other arguments, another tool, or a second time; nor made up."""
    client = asking(era="modern", capabilities={"elicitation": {}})
    arguments = share(folder)
    changed = [("add_share", share(folder, "secret/f.txt")),
               ("add_share", share(folder, type="mount")),
               ("create_session", {"memory_mib": 2048})]
    for name, other in changed:
        _, state = ask_modern(client, "add_share", arguments)
        refused = retry(client, name, other, state)
        assert refused.is_error and "not good for this call" in refused.text()
        assert retry(client, "add_share", arguments, state).is_error  # one try
    _, state = ask_modern(client, "add_share", arguments)
    for forged in ("", "0" * 64, state[:-1], state + "0", state.upper() + "é", "\0" * 64, 7, {}):
        assert retry(client, "add_share", arguments, forged).is_error
    assert not retry(client, "add_share", arguments, state).is_error
    assert retry(client, "add_share", arguments, state).is_error
    # An answer without a question is none: it is asked.
    result = raw_call(client, "add_share", arguments, inputResponses={"consent": YES})
    assert result["resultType"] == "input_required"


def test_a_state_is_good_for_some_time(asking, folder):
    """And then not any more."""
    client = asking(era="modern", capabilities={"elicitation": {}}, wait=.2)
    _, state = ask_modern(client, "add_share", share(folder))
    time.sleep(.3)
    assert "its time is over" in retry(client, "add_share", share(folder), state).text()


def test_an_answer_that_is_missing_is_asked_for_again(asking, folder):
    """Under a new state; the old one is not good any more."""
    client = asking(era="modern", capabilities={"elicitation": {}})
    _, state = ask_modern(client, "add_share", share(folder))
    again = raw_call(client, "add_share", share(folder), requestState=state,
                     inputResponses={"other": YES})
    assert again["resultType"] == "input_required" and again["requestState"] != state
    assert retry(client, "add_share", share(folder), state).is_error
    assert not retry(client, "add_share", share(folder), again["requestState"]).is_error


def test_states_that_are_never_used_do_not_add_up(asking, folder):
    """Eight wait, and go away with their time."""
    client = asking(era="modern", capabilities={"elicitation": {}}, wait=2)
    for n in range(8):
        ask_modern(client, "add_share", share(folder, dest=f"/data/{n}"))
    assert "8 questions wait" in client.tool("add_share", share(folder)).text()
    deadline = time.monotonic() + 20
    while "content" in raw_call(client, "add_share", share(folder)):
        assert time.monotonic() < deadline
        time.sleep(.1)


def test_legacy_calls_know_no_state(asking, folder):
    """requestState in a legacy call is one more unknown param."""
    client = asking(elicit=person(NO))
    result = retry(client, "add_share", share(folder), "x")
    assert "said no" in result.text()
    with pytest.raises(RpcError):
        retry(client, "none", {}, "x")
