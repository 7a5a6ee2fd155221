"""Snapshots of files: what is in them, who may begin with one, and what goes wrong meanwhile.

Nothing runs on the server after a test, and what a test made there and nobody knows is deleted.
"""

import json

import pytest
from support.client import Client
from support_modal import LIVE, wait_for


@pytest.fixture
def launch(server, tmp_path):
    """launch(policy=None, env=None, **environment) starts a server of ours with the toolsets of
    sessions and snapshots; `more` are further environments."""
    made = []

    def begin(policy=None, more=None, **environment):
        config = tmp_path / f"config-{len(made)}.json"
        default = {"backend": "modal", **environment}
        config.write_text(json.dumps({
            "default_environment": "default",
            "environments": {"default": default, **(more or {})}, "policy": policy or {}}))
        info = server.info
        made.append(Client(
            "--config", config, "--toolsets", "all", era="modern", env={
                "MODAL_SERVER_URL": info["url"], "MODAL_TOKEN_ID": info["token_id"],
                "MODAL_TOKEN_SECRET": info["token_secret"],
                "XDG_STATE_HOME": str(tmp_path / "state")}))
        return made[-1]

    yield begin
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=30)


def tool(client, tool_name, **arguments):
    """A call that must go well; its text."""
    result = client.tool(tool_name, arguments)
    assert not result.is_error, result.text()
    return result.text()


def refused(client, tool_name, **arguments):
    """A call that must not; its text."""
    result = client.tool(tool_name, arguments)
    assert result.is_error, result.text()
    return result.text()


def says(client, code, session, cause="ok"):
    """What code prints."""
    result = client.run(code, session=session)
    assert result.cause == cause, result.text()
    return result.text("stdout")


def create(client, **arguments):
    """A session's id."""
    result = client.tool("create_session", arguments)
    assert not result.is_error, result.text()
    return result.session


def snapshots(client):
    return json.loads(tool(client, "list_snapshots"))["snapshots"]


def images(server):
    """The ids of the images that the server has."""
    return {one["id"] for one in server.state()["images"]}


def calls(server, name):
    """How often an RPC was called."""
    return server.state()["calls"].get(name, 0)


PACKAGE = """
import os, sys, subprocess
os.makedirs("/workspace/src/made_here", exist_ok=True)
with open("/workspace/src/setup.py", "w") as file:
    file.write("from setuptools import setup\\n"
               "setup(name='made-here', version='1.0', packages=['made_here'])")
with open("/workspace/src/made_here/__init__.py", "w") as file:
    file.write("word = 'installed'")
done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation",
                       "--no-deps", "--target", "/root/packages", "/workspace/src"],
                      capture_output=True, text=True)
print(done.returncode, done.stderr[-300:] if done.returncode else "")
"""


@pytest.mark.parametrize("settings", [{}, {"gpu": "T4"}], ids=["v2", "v1"])
def test_a_session_goes_on_in_another_one(server, launch, settings):
    """Files and packages are there, variables are not, and the first one is not disturbed."""
    client = launch(**settings)
    first = create(client, name="first")
    says(client, "x = 41; open('/workspace/deep.txt', 'w').write('below'); "
                 "open('/tmp/kept', 'w').write('t')", first)
    assert says(client, PACKAGE, first).startswith("0")
    told = tool(client, "create_snapshot", session="first", name="trained")
    assert '"snapshot": "trained"' in told and "Variables and processes are not in it" in told
    row, = snapshots(client)
    assert (row["name"], row["session"], row["backend"]) == ("trained", first, "modal")
    assert row["id"].startswith("im-") and row["expires_at"] > row["made_at"]
    assert says(client, "print(x + 1)", first) == "42\n"
    says(client, "open('/workspace/deep.txt', 'w').write('changed')", first)
    tool(client, "end_session", session=first)

    second = create(client, snapshot="trained")
    result = client.run("open('/workspace/new', 'w').write('')", session=second)
    assert [block["uri"].split("/")[-1] for block in result.parts("artifact")] == ["new"]
    assert says(client, "print(open('/workspace/deep.txt').read(), open('/tmp/kept').read(), "
                        "'x' in globals())", second) == "below t False\n"
    assert says(client, "import sys; sys.path.append('/root/packages'); import made_here; "
                        "print(made_here.word)", second) == "installed\n"
    assert json.loads(tool(client, "get_session", session=second))["snapshot"] == row["id"]
    tool(client, "reset_session", session=second)
    assert says(client, "print(open('/workspace/deep.txt').read())", second) == "below\n"


def test_a_snapshot_is_queued_as_a_run_is(launch):
    client = launch()
    session = create(client)
    says(client, "pass", session)
    write = "open('/workspace/%s', 'w').write('')"
    begun = [client.begin_tool("run_code", {
        "session": session, "code": f"import time; time.sleep(0.5); {write % 'before'}"})]
    begun.append(client.begin_tool("create_snapshot", {"session": session, "name": "s"}))
    begun.append(client.begin_tool("run_code", {"session": session, "code": write % "after"}))
    for number in begun:
        client.wait(number)
    assert says(client, "import os; print('before' in os.listdir(), 'after' in os.listdir())",
                create(client, snapshot="s")) == "True False\n"


@pytest.mark.parametrize("settings, wishes", [({"kernel": "jupyter", "network": "none"}, {}),
                                              ({}, {"mode": "ephemeral"})])
def test_other_ways_to_run(launch, settings, wishes):
    client = launch(**settings)
    session = create(client)
    says(client, "x = 1\nwith open('mark', 'w') as file: file.write('one')", session)
    tool(client, "create_snapshot", session=session, name="s")
    assert says(client, "print(x)", session) == "1\n"
    assert says(client, "print(open('mark').read(), 'x' in globals())",
                create(client, snapshot="s", **wishes)) == "one False\n"


def test_what_a_stranger_has_made_is_an_image(server, launch):
    """By its id, in another server: as the policy says of images; and in another environment."""
    one = launch(more={"other": {"backend": "modal"}})
    session = create(one)
    says(one, "open('mark', 'w').write('one')", session)
    tool(one, "create_snapshot", session=session, name="s")
    id_ = snapshots(one)[0]["id"]
    assert "counts as an image" in refused(one, "create_session", snapshot="s", environment="other")

    text = refused(launch(), "create_session", snapshot=id_)
    assert "counts as an image" in text and id_ in text and "policy.images" in text
    two = launch(policy={"images": [id_]})
    assert says(two, "print(open('mark').read())", create(two, snapshot=id_)) == "one\n"
    assert snapshots(two) == []
    assert "there are none" in refused(two, "delete_snapshot", snapshot=id_)
    assert id_ in images(server)


def test_what_cannot_be(launch):
    client = launch(more={"here": {"backend": "local"},
                          "each": {"backend": "modal", "mode": "ephemeral"}})
    session = create(client)
    assert "modal" in refused(client, "create_snapshot", session=create(client, environment="here"))
    assert "modal" in refused(client, "create_session", snapshot="im-1", environment="here")
    assert "ephemeral" in refused(client, "create_snapshot",
                                  session=create(client, environment="each"))
    assert "there are none" in refused(client, "create_session", snapshot="nothing")
    assert "pickle" in refused(client, "create_snapshot", session=session, memory=True)
    for name in ("im-1234", "a/b", "x" * 65):
        assert "name" in refused(client, "create_snapshot", session=session, name=name)
    tool(client, "create_snapshot", session=session, name="s")
    assert "another snapshot's" in refused(client, "create_snapshot", session=session, name="s")
    assert f"s ({snapshots(client)[0]['id']})" in refused(client, "create_session", snapshot="t")
    for key, value in (("image", "python:3.11"), ("packages", ["requests"])):
        assert key in refused(client, "create_session", **{"snapshot": "s", key: value})
    assert len(snapshots(client)) == 1


def test_one_that_is_deleted(server, launch):
    client = launch()
    session = create(client)
    for name in ("s", "t"):
        tool(client, "create_snapshot", session=session, name=name)
    ids = [row["id"] for row in snapshots(client)]
    later = create(client, snapshot="s")
    assert "is deleted" in tool(client, "delete_snapshot", snapshot="s")
    assert ids[1] not in images(server) and ids[0] in images(server)
    assert "t (im-" in refused(client, "create_session", snapshot="s")
    result = client.run("1", session=later)
    assert result.is_error and "may have been deleted" in result.text()
    tool(client, "end_session", session=later)
    server.fault("ImageDelete", "error", status="PERMISSION_DENIED", message="not yours")
    assert "not yours" in refused(client, "delete_snapshot", snapshot=ids[0])
    server.fault("ImageDelete", "error", status="NOT_FOUND", message="no image")
    assert "gone already" in tool(client, "delete_snapshot", snapshot="t")
    assert snapshots(client) == []


@pytest.mark.parametrize("what", ["error", "reset", "close", "expired"])
def test_an_answer_that_is_lost_makes_no_second_one(server, launch, what):
    client = launch()
    session = create(client)
    says(client, "x = 1", session)
    before = images(server)
    server.fault("TaskSnapshotFilesystem", what, when="before" if what == "expired" else "after")
    tool(client, "create_snapshot", session=session, name="s")
    assert calls(server, "TaskSnapshotFilesystem") == 2
    assert images(server) - before == {snapshots(client)[0]["id"]}
    assert says(client, "print(x)", session) == "1\n"


def test_one_that_fails_leaves_the_session_as_it_was(server, launch):
    client = launch()
    session = create(client)
    says(client, "x = 1", session)
    for what, words in (("error", {"status": "FAILED_PRECONDITION", "message": "disk is odd"}),
                        ("garbage", {"times": 0})):
        server.fault("TaskSnapshotFilesystem", what, **words)
        text = refused(client, "create_snapshot", session=session, name="s")
        assert words.get("message", "") in text and session in text
        server.ask("reset", {})
    assert snapshots(client) == []
    assert says(client, "print(x)", session) == "1\n"
    tool(client, "create_snapshot", session=session, name="s")


def test_a_session_that_is_lost_meanwhile(server, launch):
    client = launch()
    session = create(client, name="gone")
    says(client, "x = 1", session)
    server.fault("TaskSnapshotFilesystem", "hang", seconds=100)
    number = client.begin_tool("create_snapshot", {"session": session})
    wait_for(lambda: calls(server, "TaskSnapshotFilesystem"), "it is asked for")
    server.ask("end", {"sandbox": next(one["id"] for one in server.state()["sandboxes"]
                                       if one["status"] == LIVE), "how": "terminated"})
    result = client.tool_result(number)
    assert result.is_error and "no snapshot" in result.text() and snapshots(client) == []
    assert says(client, "print('x' in globals())", session) == "False\n"


def test_one_that_is_cancelled_is_deleted(server, launch):
    """And neither the run after it nor the variables notice."""
    client = launch()
    session = create(client)
    says(client, "x = 1", session)
    before = images(server)
    server.fault("TaskSnapshotFilesystem", "hang", seconds=0.7)
    number = client.begin_tool("create_snapshot", {"session": session, "name": "s"})
    wait_for(lambda: calls(server, "TaskSnapshotFilesystem"), "it is asked for")
    client.cancel(number)
    assert says(client, "print(x)", session) == "1\n"
    assert snapshots(client) == []
    wait_for(lambda: calls(server, "ImageDelete"), "it is deleted")
    wait_for(lambda: images(server) == before, "nothing is left")


def test_an_end_while_one_is_made(server, launch):
    """Of the session, and of the server that leaves its session to the next one."""
    client = launch(keep=True)
    session = create(client)
    server.fault("TaskSnapshotFilesystem", "hang", seconds=100, times=2)
    number = client.begin_tool("create_snapshot", {"session": session})
    wait_for(lambda: calls(server, "TaskSnapshotFilesystem") == 1, "it is asked for")
    tool(client, "end_session", session=session, how="kill")
    assert client.tool_result(number).is_error

    session = create(client)
    says(client, "x = 1", session)
    client.begin_tool("create_snapshot", {"session": session})
    wait_for(lambda: calls(server, "TaskSnapshotFilesystem") == 2, "it is asked for")
    client.signal(15)
    client.wait_exit(20)
    other = launch(keep=True)
    assert create(other, attach=session) == session
    assert says(other, "print(x)", session) == "1\n"
    tool(other, "end_session", session=session)


def test_what_the_environment_brings(launch, tmp_path):
    """Its copies are in the snapshot, as they were left; a bucket is not, and is mounted again."""
    (tmp_path / "copy.txt").write_text("new")
    client = launch(shares=[{"type": "copy", "source": str(tmp_path / "copy.txt"),
                             "dest": "/data/copy.txt"},
                            {"type": "cloud", "bucket": "b", "dest": "/bucket",
                             "read_only": False}])
    session = create(client)
    assert says(client, "p = '/data/copy.txt'; print(open(p).read()); open(p, 'w').write('left'); "
                        "open('/bucket/f', 'w').write('there')", session) == "new\n"
    tool(client, "create_snapshot", session=session, name="s")
    assert says(client, "print(open('/data/copy.txt').read(), open('/bucket/f').read())",
                create(client, snapshot="s")) == "left there\n"


def test_sessions_that_are_kept(launch):
    """One is left that began with a snapshot: it is attached, and begins with it after a reset."""
    one = launch(keep=True)
    session = create(one)
    says(one, "open('mark', 'w').write('one')", session)
    tool(one, "create_snapshot", session=session, name="s")
    tool(one, "end_session", session=session)
    second = create(one, snapshot="s")
    says(one, "x = 1; open('mark', 'a').write(' two')", second)
    one.close(timeout=30)
    two = launch(keep=True)
    assert create(two, attach=second) == second
    assert says(two, "print(x, open('mark').read())", second) == "1 one two\n"
    tool(two, "create_snapshot", session=second, name="later")
    tool(two, "reset_session", session=second)
    assert says(two, "print('x' in globals(), open('mark').read())", second) == "False one\n"
    tool(two, "end_session", session=second)
    third = create(two, snapshot="later")
    assert says(two, "print(open('mark').read())", third) == "one two\n"
    tool(two, "end_session", session=third)
