"""Snapshots of files: what is in them, who may begin with one, and what goes wrong meanwhile.

Nothing runs on the server after a test, and what a test made there and nobody knows is deleted.
"""

import json
import time

import pytest
from support.client import Client
from support_modal import ModalServer

LIVE = 0  # the status of a sandbox that has not ended


@pytest.fixture(scope="module")
def shared():
    with ModalServer() as one:
        yield one


def eventually(what, true, seconds=15):
    """Waits until true() is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def server(shared):
    """Its counts begin with the test; nothing runs there afterwards."""
    shared.ask("reset", {})
    yield shared
    eventually("sandboxes are left", lambda: all(
        one["status"] != LIVE for one in shared.state()["sandboxes"]))


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


def tool(client, name, **arguments):
    """A call that must go well; its text."""
    result = client.tool(name, arguments)
    assert not result.is_error, result.text()
    return result.text()


def refused(client, name, **arguments):
    """A call that must not; its text."""
    result = client.tool(name, arguments)
    assert result.is_error, result.text()
    return result.text()


def says(client, code, session, cause="ok"):
    """What code prints."""
    result = client.run(code, session=session)
    assert result.cause == cause, result
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
    file.write("from setuptools import setup\\nsetup(name='made-here', version='1.0', packages=['made_here'])")
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
    assert says(client, "print(open('/workspace/deep.txt').read(), open('/tmp/kept').read(), "
                        "'x' in globals())", second) == "below t False\n"
    assert says(client, "import sys; sys.path.append('/root/packages'); import made_here; "
                        "print(made_here.word)", second) == "installed\n"
    assert json.loads(tool(client, "get_session", session=second))["snapshot"] == row["id"]
    tool(client, "reset_session", session=second)
    assert says(client, "print(open('/workspace/deep.txt').read())", second) == "below\n"


def test_a_snapshot_is_queued_as_a_run_is(server, launch):
    client = launch()
    session = create(client)
    says(client, "pass", session)
    run = client.begin_tool("run_code", {"code": "import time\nopen('/workspace/a', 'w').write('1')\ntime.sleep(0.5)\n"
                           "open('/workspace/b', 'w').write('2')", "session": session})
    made = client.begin_tool("create_snapshot", {"session": session, "name": "s"})
    later = client.begin_tool("run_code", {"code": "open('/workspace/c', 'w').write('3')", "session": session})
    for number in (run, made, later):
        client.wait(number)
    second = create(client, snapshot="s")
    assert says(client, "import os; print(sorted(n for n in os.listdir('/workspace') "
                        "if len(n) == 1))", second) == "['a', 'b']\n"
