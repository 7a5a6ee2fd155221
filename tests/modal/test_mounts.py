"""Mount shares at the server that plays Modal: an uploaded, read-only copy of a folder.

What is sent and what is not, what it is in the sandbox, and what goes wrong on the way."""

import hashlib
import json
import os
import signal
import time

import pytest
from support.client import Client
from support_modal import wait_for

BIG = 5 << 20  # more than goes in a message


@pytest.fixture
def folder(tmp_path):
    """An empty folder below the share root; its content is no other test's."""
    path = tmp_path / "shared" / "folder"
    path.mkdir(parents=True)
    (path / "its-own").write_text(str(path))
    return path


@pytest.fixture
def launch(server, tmp_path):
    """launch(**environment) starts a cellblock, which ends before the test does."""
    made = []

    def begin(**environment):
        config = tmp_path / f"config-{len(made)}.json"
        config.write_text(json.dumps({"environments": {"default": {"backend": "modal",
                                                                   **environment}}}))
        names = {"MODAL_SERVER_URL": "url", "MODAL_TOKEN_ID": "token_id",
                 "MODAL_TOKEN_SECRET": "token_secret"}
        made.append(Client("--config", config, "--share-root", tmp_path / "shared",
                           env={name: server.info[key] for name, key in names.items()}))
        return made[-1]

    yield begin
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=30)


def mount(client, folder, dest="/data/in", **more):
    """Adds it, and expects that this goes well."""
    result = client.tool("add_share", {"type": "mount", "source": str(folder), "dest": dest,
                                       **more})
    assert not result.is_error, result
    return result


def value(client, code, **arguments):
    """A run that must go well: its value."""
    result = client.run(code, **arguments)
    assert result.cause == "ok", result
    return result.text("result")


def calls(server, name):
    """How often an RPC (or a request of the blobs' store) was called."""
    return server.state()["calls"].get(name, 0)


def uploads(server):
    """Files that were sent: in messages, and as blobs."""
    return calls(server, "MountPutFile"), calls(server, "BlobPut")


def filled(folder):
    """Files, modes, a link, hidden ones, one as a blob."""
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "sub" / "deep" / "bytes").write_bytes(bytes(range(256)))
    (folder / "tool").write_text("#!/bin/sh\necho tool ran\n")
    (folder / "tool").chmod(0o750)
    (folder / ".hidden").write_text("hidden")
    (folder / "näme with spaces\n🐍").write_text("odd")
    (folder / "zero").touch()
    (folder / "link").symlink_to("sub/deep/bytes")
    (folder / "also").symlink_to("sub")
    (folder / "big").write_bytes(os.urandom(BIG))
    return folder


LOOK = """
import hashlib, os, subprocess
os.chdir("/data/in")
found = {}
for where, _, names in os.walk("."):
    for name in names:
        path = os.path.join(where, name)
        with open(path, "rb") as file:
            found[os.path.relpath(path)] = (
                oct(os.stat(path).st_mode & 0o7777), hashlib.sha256(file.read()).hexdigest())
found, subprocess.run("./tool", capture_output=True, text=True).stdout, os.path.exists("empty")
"""


def looks(folder):
    """What LOOK must see."""
    found = {}
    for where, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = (
                    oct(os.stat(path).st_mode & 0o7777), hashlib.sha256(file.read()).hexdigest())
    return found


@pytest.mark.parametrize("settings", [
    {}, {"network_file_systems": [{"name": "v1", "dest": "/mnt/v1"}]}], ids=["v2", "v1"])
def test_a_folder_is_there_as_it_is_here(server, launch, folder, settings):
    """Content, modes, hidden files and odd names; links are what they lead to; folders that hold
    nothing are left out."""
    client = launch(**settings)
    result = mount(client, filled(folder))
    assert "uploaded" in result.text() and "reset_session" in result.text()
    found, ran, empty = eval(value(client, LOOK))
    assert found == looks(folder) and "also/deep/bytes" in found
    assert (ran, empty) == ("tool ran\n", False)
    assert bool(calls(server, "SandboxCreate")) == bool(settings)
    assert uploads(server)[1] == 1
    for act in ("open('/data/in/tool', 'a')", "open('/data/in/new', 'w')",
                "__import__('os').unlink('/data/in/zero')"):
        assert client.run(act).outcome["error"]["etype"] == "OSError"


def test_a_file_alone(launch, folder):
    (folder / "f").write_text("alone")
    client = launch()
    mount(client, folder / "f", "/data/deep/g")
    assert value(client, "import os; open('/data/deep/g').read(), os.listdir('/data/deep')") == (
        "('alone', ['g'])")


def test_what_changes_here_is_seen_after_a_reset(server, launch, folder):
    (folder / "f").write_text("before")
    (folder / "same").write_text(f"same {folder}")
    client = launch()
    mount(client, folder)
    look = "import os; open('/data/in/f').read(), sorted(os.listdir('/data/in'))"
    assert value(client, look) == "('before', ['f', 'its-own', 'same'])"
    (folder / "f").write_text("after!")
    (folder / "new").write_text("new")
    assert value(client, look) == "('before', ['f', 'its-own', 'same'])"
    before = uploads(server)[0]
    assert not client.tool("reset_session", {"session": None}).is_error
    assert value(client, look) == "('after!', ['f', 'its-own', 'new', 'same'])"
    assert uploads(server)[0] == before + 2  # what is as it was is not sent again


def test_a_file_of_the_same_size_that_changed_at_once(launch, folder):
    """The clock of a file system has ticks: within one, a change is not to be seen in its times."""
    client = launch(mode="ephemeral")
    mount(client, folder)
    for n in range(4):
        (folder / "f").write_text(str(n))
        assert value(client, "open('/data/in/f').read()") == f"'{n}'"


def test_each_ephemeral_run_has_it_and_only_the_first_sends_it(server, launch, folder):
    """A pooled sandbox has no mount: it is not taken."""
    (folder / "big").write_bytes(os.urandom(BIG))
    time.sleep(2.1)  # their times are past: they tell of a change
    client = launch(backend="modal-ephemeral", pool=1)
    look = "import os; sorted(os.listdir('/data/in'))"
    assert value(client, "1 + 1") == "2"
    mount(client, folder)
    for _ in range(3):
        assert value(client, look) == "['big', 'its-own']"
    assert uploads(server) == (2, 1)
    asked = "MountBatchedCheckExistence"
    assert (calls(server, asked), calls(server, "MountGetOrCreate")) == (1, 1)
    (folder / "small").symlink_to("its-own")  # nothing to send, and nothing to ask for
    (folder / "big").unlink()
    assert value(client, look) == "['its-own', 'small']"
    assert (calls(server, asked), calls(server, "MountGetOrCreate")) == (1, 2)
    (folder / "small").unlink()
    server.fault("MountGetOrCreate", "error", status="NOT_FOUND")  # it had it, it says now
    assert value(client, "import os; os.listdir('/data/in')") == "['its-own']"
    assert (calls(server, asked), calls(server, "MountGetOrCreate")) == (2, 4)


def test_what_the_service_has_is_not_sent(server, launch, folder):
    """Also by another process, and of files with the same content only one goes."""
    for name in ("one", "two"):
        (folder / name).write_text(f"same {folder}")
    for times in range(2):
        client = launch()
        mount(client, folder)
        assert value(client, "open('/data/in/two').read()") == repr(f"same {folder}")
        assert uploads(server) == (2, 0), times


def test_a_thousand_files(server, launch, folder):
    for n in range(1000):
        (folder / f"{n}").write_text(f"{n} {folder}")
    client = launch()
    mount(client, folder)
    id_ = client.begin_tool("run_code", {"code": "1"}, token="it")
    client.wait_notification("notifications/progress", lambda p: "mounting /data/in: " in p.get(
        "message", "") and "of 1001 files" in p["message"], 20)
    assert client.tool_result(id_).cause == "ok"
    assert eval(value(client, "import os; len(os.listdir('/data/in')), "
                              "open('/data/in/999').read()")) == (1001, f"999 {folder}")
    assert uploads(server) == (1001, 0)
    assert calls(server, "MountBatchedCheckExistence") == -(-1001 // 64)


def test_a_kernel_of_jupyter_has_it_too(launch, folder):
    (folder / "f").write_text("x")
    client = launch(kernel="jupyter", network="none")
    mount(client, folder)
    assert value(client, "open('/data/in/f').read()") == "'x'"


@pytest.mark.parametrize("settings", [{"part_bytes": 2 << 20}, {"stores": 2}],
                         ids=["parts", "stores"])
def test_a_blob_that_goes_otherwise(server, launch, folder, settings):
    """In parts, or to the second store when the first does not take it."""
    server.ask("set", settings)
    if "stores" in settings:
        server.fault("BlobPut", "status", status=500, times=3)
    (folder / "big").write_bytes(os.urandom(BIG))
    digest = hashlib.sha256((folder / "big").read_bytes()).hexdigest()
    client = launch()
    mount(client, folder)
    assert value(client, "import hashlib\nwith open('/data/in/big', 'rb') as f: d = f.read()\n"
                         "hashlib.sha256(d).hexdigest()") == repr(digest)
    assert (calls(server, "BlobPut"), calls(server, "BlobComplete")) == (
        (3, 1) if "part_bytes" in settings else (4, 0))


# What is refused


@pytest.mark.parametrize("target, words", [
    ("/etc/passwd", "out of what is shared"), ("../../../etc/passwd", "out of what is shared"),
    ("nowhere", "nowhere"), (".", "circle")])
def test_links_that_cannot_be_brought(server, launch, folder, target, words):
    """They are named, nothing is made, and the session is there again without them."""
    (folder / "sub").mkdir()
    (folder / "sub" / "link").symlink_to(target)
    client = launch()
    mount(client, folder)
    result = client.run("1 + 1")
    assert result.is_error and "sub/link" in result.text() and words in result.text(), result
    assert "root:" not in str(result) and "copy" in result.text()
    assert not server.state()["sandboxes"][-1:] or not calls(server, "SandboxCreateV2")
    assert uploads(server) == (0, 0)
    (folder / "sub" / "link").unlink()
    assert value(client, "1 + 1") == "2"


@pytest.mark.parametrize("make, words", [
    (lambda path: os.mkfifo(path / "pipe"), "pipe is neither"),
    (lambda path: (path / "its-own").unlink(), "holds no file"),
    (lambda path: (path / "its-own").chmod(0), "may not read its-own"),
    (lambda path: os.close(os.open(os.fsencode(path) + b"/\xff", os.O_CREAT)), "UTF-8")],
    ids=["fifo", "empty", "unreadable", "name"])
def test_what_is_no_mount(server, launch, folder, make, words):
    make(folder)
    client = launch()
    mount(client, folder)
    result = client.run("1 + 1")
    assert result.is_error and words in result.text(), result
    assert calls(server, "SandboxCreateV2") == 0


def test_a_mount_to_write_to(launch, folder):
    result = launch().tool("add_share", {"type": "mount", "source": str(folder),
                                         "dest": "/data/in", "read_only": False})
    assert result.is_error and "uploaded copy" in result.text() and "local" in result.text()


# What goes wrong


@pytest.mark.parametrize("rpc", ["MountBatchedCheckExistence", "MountPutFile", "BlobCreate",
                                 "MountGetOrCreate"])
def test_a_call_that_is_not_answered_is_made_again(server, launch, folder, rpc):
    (folder / "big").write_bytes(os.urandom(BIG))
    server.fault(rpc, "error", status="UNAVAILABLE")
    client = launch()
    mount(client, folder)
    assert value(client, "import os; os.path.getsize('/data/in/big')") == str(BIG)


@pytest.mark.parametrize("what, words", [("status", "503"), ("etag", "checksum")])
def test_a_store_that_takes_no_blob(server, launch, folder, what, words):
    """Tried three times; then the run says what failed, without the address, and nothing is left.
    The next run does it."""
    (folder / "big").write_bytes(os.urandom(BIG))
    server.fault("BlobPut", what, times=3)
    client = launch()
    mount(client, folder)
    result = client.run("1 + 1")
    assert result.is_error and words in result.text() and str(folder / "big") in result.text()
    assert "secret" not in str(result)
    assert calls(server, "BlobPut") == 3 and calls(server, "SandboxCreateV2") == 0
    assert value(client, "import os; os.path.getsize('/data/in/big')") == str(BIG)


@pytest.mark.parametrize("rpc, what", [("MountPutFile", {"status": "PERMISSION_DENIED"}),
                                       ("MountGetOrCreate", {"status": "INVALID_ARGUMENT"})])
def test_a_call_that_is_refused(server, launch, folder, rpc, what):
    server.fault(rpc, "error", message="because", **what)
    client = launch()
    mount(client, folder)
    result = client.run("1 + 1")
    assert result.is_error and "because" in result.text() and "/data/in" in result.text()
    assert calls(server, "SandboxCreateV2") == 0
    assert value(client, "1 + 1") == "2"


def test_a_mount_that_is_gone_is_made_again(server, launch, folder):
    """The service says so when the sandbox is made: what it had is asked for anew."""
    client = launch(mode="ephemeral")
    mount(client, folder)
    assert value(client, "1 + 1") == "2"
    server.fault("SandboxCreateV2", "error", status="NOT_FOUND", message="mount not found")
    assert value(client, "open('/data/in/its-own').read()") == repr(str(folder))
    assert calls(server, "MountGetOrCreate") == 2


@pytest.mark.parametrize("rpc", ["MountPutFile", "BlobCreate", "MountGetOrCreate"])
def test_a_reset_while_it_is_uploaded(server, launch, folder, rpc):
    """The run is answered, the upload is given up, and the next one has all."""
    (folder / "big").write_bytes(os.urandom(BIG))
    server.fault(rpc, "hang", seconds=3600)
    client = launch()
    mount(client, folder)
    id_ = client.begin_tool("run_code", {"code": "1"})
    wait_for(lambda: calls(server, rpc) >= 1, "it is not sent")
    assert not client.tool("reset_session", {}).is_error
    assert client.tool_result(id_).cause == "cancelled"
    assert value(client, "open('/data/in/its-own').read()") == repr(str(folder))
    assert calls(server, "SandboxCreateV2") == 1


def test_a_run_that_is_cancelled_while_it_is_uploaded(server, launch, folder):
    """It is not answered; the upload goes on, for the session's next run."""
    server.fault("MountPutFile", "hang", seconds=1)
    client = launch()
    mount(client, folder)
    id_ = client.begin_tool("run_code", {"code": "1"})
    wait_for(lambda: calls(server, "MountPutFile") == 1, "it is not sent")
    client.cancel(id_)
    assert value(client, "open('/data/in/its-own').read()") == repr(str(folder))
    assert client.answers(id_) == [] and calls(server, "MountPutFile") == 1


def test_a_cellblock_that_is_ended_while_it_uploads(server, launch, folder):
    """Nothing is made any more, and it does not wait for what hangs."""
    (folder / "big").write_bytes(os.urandom(BIG))
    server.fault("BlobCreate", "hang", seconds=3600)
    client = launch()
    mount(client, folder)
    client.begin_tool("run_code", {"code": "1"})
    wait_for(lambda: calls(server, "BlobCreate") == 1, "it is not sent")
    client.signal(signal.SIGTERM)
    client.wait_exit(20)
    assert calls(server, "SandboxCreateV2") == 0
