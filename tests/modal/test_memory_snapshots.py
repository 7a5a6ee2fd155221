"""Snapshots with variables: where a session goes on, who may begin with one, and what goes wrong.

The played Modal can restore a snapshot only once, and a session goes on from its own: to begin
another one with it, the first is ended before its next run.
"""

import json

import pytest
from support_modal import live, wait_for
from test_snapshots import calls, create, refused, says, snapshots, tool
from test_snapshots import launch as launch  # noqa: PLC0414


def taken(client, session, **arguments):
    """A memory snapshot's text."""
    return tool(client, "create_snapshot", session=session, memory=True, **arguments)


def test_the_session_goes_on_with_its_variables(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "import os, threading; x = 41; lock = threading.Lock(); pid = os.getpid(); "
                 "f = open('/tmp/open', 'w+'); f.write('held')", session)
    before, = live(server)
    assert before["definition"]["enable_snapshot"]
    told = taken(client, session, name="s")
    assert "variables and files" in told
    row, = snapshots(client)
    assert row["memory"] and row["id"].startswith("sn-") and row["id"] in told
    result = client.run("f.seek(0); print(x + 1, lock.locked(), pid == os.getpid(), f.read())",
                        session=session)
    assert result.text("stdout") == "42 False True held\n", result
    assert "random numbers" in result.text("note")
    assert says(client, "x += 1; print(x)", session) == "42\n"
    after, = live(server)
    assert after["id"] != before["id"] and after["name"] == before["name"]
    assert after["tags"] == before["tags"]
    assert client.run("import time; time.sleep(9)", session=session,
                      timeout_seconds=0.3).cause == "timeout"
    assert says(client, "print(x)", session) == "42\n"
    taken(client, session)
    assert says(client, "print(x)", session) == "42\n"


def test_another_session_begins_with_it(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "import random; random.seed(1); x = [41]; open('/tmp/mark', 'w').write('one')",
         session)
    drawn = says(client, "state = random.getstate(); print(random.random()); "
                         "random.setstate(state)", session)
    taken(client, session, name="s")
    tool(client, "end_session", session=session, how="kill")  # else its files are looked at first
    wait_for(lambda: not live(server), "the first sandbox is left")
    second = create(client, snapshot="s")
    assert says(client, "print(random.random())", second) != drawn
    assert says(client, "print(x, open('/tmp/mark').read())", second) == "[41] one\n"
    one, = live(server)
    assert one["tags"]["cellblock-sandbox"]
    result = client.run("print(x)", session=create(client, snapshot="s"))
    assert result.is_error and "only once" in result.text()


def test_it_is_queued_as_a_run_is(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = []", session)
    begun = [client.begin_tool("run_code", {
        "session": session, "code": "import time; time.sleep(0.3); x.append('before')"})]
    begun.append(client.begin_tool("create_snapshot", {"session": session, "memory": True}))
    begun.append(client.begin_tool("run_code", {"session": session, "code": "x.append('after')"}))
    begun.append(client.begin_tool("create_snapshot", {"session": session}))
    for number in begun:
        result = client.tool_result(number)
        assert not result.is_error, result.text()
    assert says(client, "print(x)", session) == "['before', 'after']\n"
    assert len(live(server)) == 1 and len(snapshots(client)) == 2


def test_buckets(launch):
    """They stay mounted where the session goes on; no other can be mounted in a restored one."""
    share = {"type": "cloud", "bucket": "b", "dest": "/bucket", "read_only": False}
    client = launch(memory_snapshots=True, shares=[share])
    session = create(client)
    says(client, "x = 41; open('/bucket/f', 'w').write('there')", session)
    taken(client, session, name="s")
    assert says(client, "print(x, open('/bucket/f').read())", session) == "41 there\n"
    result = client.run("1", session=create(client, snapshot="s"))
    assert result.is_error and "no bucket" in result.text()


def test_where_its_ports_are_reached(launch):
    """It is another sandbox that the session goes on in, with other addresses."""
    client = launch(memory_snapshots=True, ports=[8080], network="all")
    session = create(client)
    says(client, "x = 41", session)

    def ports():
        return json.loads(tool(client, "get_session", session=session))["ports"]

    wait_for(ports, "they are known")
    before = ports()
    taken(client, session)
    assert says(client, "print(x)", session) == "41\n"
    wait_for(ports, "they are known again")
    assert ports().keys() == before.keys() == {"8080"} and ports() != before


def test_what_cannot_be(launch):
    client = launch()
    session = create(client)
    text = refused(client, "create_snapshot", session=session, memory=True)
    assert '"memory_snapshots": true' in text and "pickle" in text
    client = launch(policy={"images": ["sn-1.7"]})
    assert "memory_snapshots" in refused(client, "create_session", snapshot="sn-1.7")
    for settings in ({"gpu": "T4"}, {"kernel": "jupyter"}, {"mode": "ephemeral"}, {"keep": True}):
        other = launch(memory_snapshots=True, **settings)
        result = other.tool("create_session", {})
        text = result.text() if result.is_error else other.run("1", session=result.session).text()
        assert "memory_snapshots" in text and next(iter(settings)) in text


def test_a_strangers(launch):
    one = launch(memory_snapshots=True)
    session = create(one)
    says(one, "x = 41", session)
    taken(one, session)
    id_ = snapshots(one)[0]["id"]
    for key, value in (("network", "none"), ("packages", ["requests"]), ("cpu", 1)):
        assert key in refused(one, "create_session", **{"snapshot": id_, key: value})
    assert "no way to delete" in refused(one, "delete_snapshot", snapshot=id_)
    tool(one, "end_session", session=session)
    assert "policy.images" in refused(launch(memory_snapshots=True), "create_session",
                                      snapshot=id_)
    two = launch(policy={"images": [id_]}, memory_snapshots=True)
    assert says(two, "print(x)", create(two, snapshot=id_)) == "41\n"


@pytest.mark.parametrize("what, when", [("error", "before"), ("error", "after"),
                                        ("reset", "after"), ("close", "after")])
def test_an_answer_that_is_lost(server, launch, what, when):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = 41", session)
    server.fault("TaskSnapshotMemory", what, when=when)
    server.fault("SandboxRestoreV2", what, when=when)
    taken(client, session)
    assert calls(server, "TaskSnapshotMemory") == 2
    assert says(client, "print(x)", session) == "41\n"
    assert calls(server, "SandboxRestoreV2") == 2 and len(live(server)) == 1


def test_one_that_fails_leaves_the_session_as_it_was(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = 41", session)
    before, = live(server)
    server.fault("TaskSnapshotMemory", "error", status="FAILED_PRECONDITION", message="odd memory")
    assert "odd memory" in refused(client, "create_snapshot", session=session, memory=True)
    assert snapshots(client) == []
    assert says(client, "print(x)", session) == "41\n"
    after, = live(server)
    assert after["id"] == before["id"]
    taken(client, session)
    says(client, "x += 1", session)
    server.fault("TaskSnapshotMemory", "error", status="FAILED_PRECONDITION", message="odd memory")
    refused(client, "create_snapshot", session=session, memory=True)
    assert says(client, "print(x)", session) == "42\n"


def test_a_restore_that_fails_says_what_is_lost(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = 41", session)
    taken(client, session)
    server.fault("SandboxRestoreV2", "error", status="NOT_FOUND", message="no such snapshot")
    result = client.run("print('x' in globals())", session=session)
    assert result.text("stdout") == "False\n" and "no such snapshot" in result.text("note")


def test_one_that_is_cancelled(server, launch):
    """Nobody gets it, and the session goes on from it."""
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = 41", session)
    server.fault("TaskSnapshotMemory", "hang", seconds=0.5)
    number = client.begin_tool("create_snapshot", {"session": session, "memory": True})
    wait_for(lambda: calls(server, "TaskSnapshotMemory"), "it is asked for")
    client.cancel(number)
    assert says(client, "print(x)", session) == "41\n"
    assert snapshots(client) == []


def test_an_end_while_one_is_made(server, launch):
    client = launch(memory_snapshots=True)
    session = create(client)
    says(client, "x = 41", session)
    server.fault("TaskSnapshotMemory", "hang", seconds=100)
    number = client.begin_tool("create_snapshot", {"session": session, "memory": True})
    wait_for(lambda: calls(server, "TaskSnapshotMemory"), "it is asked for")
    tool(client, "end_session", session=session, how="kill")
    assert client.tool_result(number).is_error
