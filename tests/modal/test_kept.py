"""Sessions with kernel jupyter that outlive their cellblock, and what may have become of them: the
gateway's token is told to nobody, and what is gone is said to be gone and left nowhere."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from support.client import Client
from support_modal import ModalServer

LIVE = 0  # the status of a sandbox that has not ended


@pytest.fixture(scope="module")
def server():
    with ModalServer() as one:
        yield one


class Kept:
    """Cellblocks that know of the same sessions, one after another, and their sandboxes."""

    def __init__(self, server, folder):
        self.server = server
        self.folder = folder
        self.env = {**server.environment(), "SSL_CERT_FILE": server.info["ca"],
                    "XDG_STATE_HOME": str(folder)}
        self.known = {one["id"] for one in server.state()["sandboxes"]}
        self.clients = []

    def start(self, network="all"):
        """Another cellblock."""
        config = self.folder / f"config-{len(self.clients)}.json"
        default = {"backend": "modal", "kernel": "jupyter", "network": network, "keep": True}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        self.clients.append(Client("--config", config, "--toolsets", "sessions", era="modern",
                                   env=self.env))
        return self.clients[-1]

    def left(self, network="all"):
        """The id of a session with x = 41 whose cellblock was killed."""
        first = self.start(network)
        session = first.run("x = 41").session
        first.kill()
        return session

    def sandboxes(self):
        """Those that were made since the test began, and have not ended."""
        return [one for one in self.server.state()["sandboxes"]
                if one["id"] not in self.known and one["status"] == LIVE]

    def process(self, word):
        """The pid of the sandbox's process that was started with this word."""
        (one,) = self.sandboxes()
        found = [pid for pid in one["processes"]
                 if word in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(found) == 1, found
        return found[0]

    def record(self):
        """What is written about the session that was left."""
        (path,) = (self.folder / "cellblock/sessions").glob("*.json")
        return path.read_text(encoding="utf-8")


def until(true, what):
    """Waits until it is so."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def kept(server, tmp_path):
    """Nothing is left on the server after it."""
    one = Kept(server, tmp_path)
    yield one
    for client in one.clients:
        if client.process.poll() is None:
            client.close(timeout=30)
    until(lambda: not one.sandboxes(), "a sandbox is left")
    server.ask("reset", {})


def attach(client, session):
    """create_session with attach, whatever becomes of it."""
    return client.tool("create_session", {"attach": session}, timeout=120)


@pytest.mark.parametrize("network", ["all", "none"])
def test_found_again(kept, network):
    """Twice, by whoever comes after a kill; with the network cut over the stream. The token is
    where the gateway has it, and nowhere else."""
    session = kept.left(network)
    gateway = Path(f"/proc/{kept.process(b'launch_instance')}/environ").read_bytes()
    token = next(word for word in gateway.split(b"\0") if word.startswith(b"KG_AUTH_TOKEN="))
    token = token.partition(b"=")[2].decode()
    second = kept.start(network)
    assert not attach(second, session).is_error
    assert second.run("x += 1\nx", session=session).text("result") == "42"
    for where in (json.dumps(kept.server.state()), kept.record(), second.errors()):
        assert len(token) > 30 and token not in where
    second.kill()
    third = kept.start(network)
    assert not attach(third, session).is_error
    assert third.run("x", session=session).text("result") == "42"
    assert not third.tool("end_session", {"session": session}).is_error


@pytest.mark.parametrize(("word", "words"), [
    (b"launch_instance", "the Kernel Gateway in it has ended"),
    (b"ipykernel_launcher", "was restarted since it was left")])
def test_what_was_in_it_is_gone(kept, word, words):
    """Then the sandbox is ended as well."""
    session = kept.left()
    os.kill(kept.process(word), signal.SIGKILL)
    result = attach(kept.start(), session)
    assert result.is_error and words in result.text() and "is gone" in result.text(), result
    until(lambda: not kept.sandboxes(), "the sandbox is left")


def test_a_run_of_a_killed_cellblock_is_interrupted(kept):
    """By who comes next, since nobody would be told how it ends."""
    first = kept.start()
    session = first.run("x = 41").session
    first.begin_tool("run_code", {"session": session, "code": "print('going', flush=True)\n"
                                  "import time\ntime.sleep(300)"}, token="t")
    first.wait_notification("notifications/progress",
                            lambda params: "going" in params.get("message", ""), 20)
    first.kill()
    second = kept.start()
    assert not attach(second, session).is_error
    assert second.run("x", session=session).text("result") == "41"
    assert not second.tool("end_session", {"session": session}).is_error


def test_the_sandbox_has_ended(kept):
    session = kept.left()
    kept.server.ask("end", {"sandbox": kept.sandboxes()[0]["id"], "how": "timeout"})
    result = attach(kept.start(), session)
    assert result.is_error and "has ended" in result.text() and "is gone" in result.text(), result


def test_the_tunnel_is_gone(kept):
    """Nobody says that the session is: it is attached when there is one again."""
    session = kept.left()
    kept.server.fault("SandboxGetTunnelsV2", "error", status="NOT_FOUND", message="no tunnels")
    client = kept.start()
    result = attach(client, session)
    assert result.is_error and "tunnel" in result.text() and "is gone" not in result.text(), result
    until(lambda: not attach(client, session).is_error, "it is not attached")
    assert client.run("x", session=session).text("result") == "41"
    assert not client.tool("end_session", {"session": session}).is_error
