"""A story told to the official Python SDK: what a client does from a first call to a last one.

Run by test_python_sdk.py in a process of its own; prints the names of the steps that went well.
The server is MODAL_SERVER_URL's; CA is the file of its certificate authority.
"""

import hashlib
import os
import re
import socket
import ssl
import sys
import time
import uuid

import modal

STEPS = []
APP = f"story-{os.environ['MODAL_SANDBOX_V2']}"


def step(function):
    """A part of the story."""
    STEPS.append(function)
    return function


class Stage:
    """What the steps share."""

    def __init__(self):
        self.app = modal.App.lookup(APP, create_if_missing=True)
        self.name = f"story-{uuid.uuid4().hex[:8]}"
        self.image = modal.Image.debian_slim(python_version="3.11").pip_install("numpy").env(
            {"OF_THE_IMAGE": "1"})
        self.sandbox = None

    def run(self, *argv, **options):
        """(status, stdout, stderr) of a command."""
        process = self.sandbox.exec(*argv, **options)
        out, err = process.stdout.read(), process.stderr.read()
        return process.wait(), out, err


@step
def create(stage):
    secret = modal.Secret.from_dict({"OF_A_SECRET": "2"})
    stage.sandbox = modal.Sandbox.create(
        app=stage.app, image=stage.image, name=stage.name, timeout=120, secrets=[secret],
        tags={"who": "story"}, encrypted_ports=[8888], workdir="/workspace")
    assert stage.sandbox.object_id.startswith("sb-")
    v1 = re.fullmatch("sb-[0-9A-Za-z]{22}", stage.sandbox.object_id)
    assert bool(v1) == (os.environ.get("MODAL_SANDBOX_V2") == "0")
    assert stage.sandbox.poll() is None


@step
def execute(stage):
    code = "import os, numpy; print(os.environ['OF_THE_IMAGE'] + os.environ['OF_A_SECRET'])"
    assert stage.run("python", "-c", code) == (0, "12\n", "")
    assert stage.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert stage.run("sh", "-c", "kill -9 $$")[0] == 137
    assert stage.run("sh", "-c", "pwd; echo $MORE", workdir="/tmp", env={"MORE": "x"})[1] == (
        "/tmp\nx\n")
    assert stage.run("no-such-program")[0] == 127


@step
def stdin_and_streams(stage):
    process = stage.sandbox.exec("cat", text=False)
    data = bytes(range(256)) * 4096
    for start in range(0, len(data), 1 << 17):
        process.stdin.write(data[start:start + (1 << 17)])
        process.stdin.drain()
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.stdout.read() == data and process.wait() == 0
    process = stage.sandbox.exec("sh", "-c", "for i in 1 2 3; do echo $i; done", bufsize=1)
    assert list(process.stdout) == ["1\n", "2\n", "3\n"]


@step
def limits_of_an_exec(stage):
    process = stage.sandbox.exec("sleep", "60", timeout=1)
    assert process.wait() in (-1, 137)  # whoever is first, the client or the server
    process = stage.sandbox.exec("sh", "-c", "test -t 0 && echo a terminal", pty=True)
    assert process.stdout.read() == "a terminal\r\n" and process.wait() == 0


@step
def files(stage):
    files = stage.sandbox.filesystem
    files.write_text("hello\n", "/workspace/deep/file.txt")
    assert files.read_text("/workspace/deep/file.txt") == "hello\n"
    assert [entry.name for entry in files.list_files("/workspace")] == ["deep"]
    assert files.stat("/workspace/deep/file.txt").size == 6
    files.make_directory("/workspace/one/two")
    files.remove("/workspace/one", recursive=True)
    for act, error in ((lambda: files.read_text("/nowhere"), "NotFound"),
                       (lambda: files.read_bytes("/workspace"), "IsADirectory"),
                       (lambda: files.remove("/workspace/deep"), "NotEmpty")):
        try:
            act()
        except modal.exception.Error as problem:
            assert error in type(problem).__name__, problem
        else:
            raise AssertionError(error)


@step
def tags(stage):
    assert stage.sandbox.get_tags() == {"who": "story"}
    stage.sandbox.set_tags({"who": "story", "more": "yes"})
    found = list(modal.Sandbox.list(app_id=stage.app.app_id, tags={"more": "yes"}))
    assert [one.object_id for one in found] == [stage.sandbox.object_id]


@step
def lookup(stage):
    again = modal.Sandbox.from_name(APP, stage.name)
    assert again.object_id == stage.sandbox.object_id
    assert again.exec("echo", "again").stdout.read() == "again\n"
    by_id = modal.Sandbox.from_id(stage.sandbox.object_id)
    assert by_id.exec("echo", "once more").stdout.read() == "once more\n"
    for act in (lambda: modal.Sandbox.from_name(APP, "nobody"),
                lambda: modal.Sandbox.create(app=stage.app, image=stage.image, name=stage.name)):
        try:
            act()
        except (modal.exception.NotFoundError, modal.exception.AlreadyExistsError):
            continue
        raise AssertionError("neither missing nor there already")


@step
def tunnel(stage):
    server = stage.sandbox.exec("python", "-u", "-m", "http.server", "8888", "--bind", "127.0.0.1",
                                workdir="/workspace/deep")
    assert "Serving" in next(iter(server.stdout))
    found = stage.sandbox.tunnels()[8888]
    context = ssl.create_default_context(cafile=os.environ["CA"])
    with socket.create_connection(found.tls_socket, 10) as plain, context.wrap_socket(
            plain, server_hostname=found.host) as tls:
        tls.sendall(b"GET /file.txt HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := tls.recv(4096):
            answer += piece
    assert answer.endswith(b"\r\n\r\nhello\n"), answer


@step
def snapshot(stage):
    image = stage.sandbox.snapshot_filesystem()
    copy = modal.Sandbox.create("cat", "/workspace/deep/file.txt", app=stage.app, image=image)
    copy.wait()
    assert copy.returncode == 0 and copy.stdout.read() == "hello\n"
    modal.experimental.image_delete(image.object_id)
    try:
        modal.Sandbox.create(app=stage.app, image=image)
    except modal.exception.NotFoundError:
        pass
    else:
        raise AssertionError("the image is there still")


@step
def terminate(stage):
    stage.sandbox.terminate()
    stage.sandbox.wait(raise_on_termination=False)
    assert stage.sandbox.returncode == 137 and stage.sandbox.poll() == 137
    try:
        modal.Sandbox.from_id(stage.sandbox.object_id).exec("true")
    except modal.exception.Error:
        pass
    else:
        raise AssertionError("an exec in a sandbox that has ended")


@step
def entrypoint(stage):
    sandbox = modal.Sandbox.create("sh", "-c", "read x; cat; echo got $x; echo bad >&2; exit 5",
                                   app=stage.app, image=stage.image, block_network=True)
    sandbox.stdin.write("this\n")
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait(raise_on_termination=False)
    assert sandbox.returncode == 5
    assert (sandbox.stdout.read(), sandbox.stderr.read()) == ("got this\n", "bad\n")


@step
def memory_snapshot(stage):
    """The entrypoint goes on counting in another sandbox, and the old one is over."""
    count = 'i=0; while :; do i=$((i+1)); echo $i > /tmp/n; mv /tmp/n /tmp/count; sleep 0.02; done'
    old = modal.Sandbox.create("sh", "-c", count, app=stage.app, image=stage.image, timeout=120,
                               _experimental_enable_snapshot=True)

    def number(sandbox):
        process = sandbox.exec("sh", "-c", "cat /tmp/count 2>/dev/null || echo 0")
        process.wait()
        return int(process.stdout.read())

    while number(old) < 3:
        time.sleep(0.02)
    busy = old.exec("sleep", "60")
    try:
        old._experimental_snapshot()
    except modal.exception.Error as problem:
        assert "exec" in str(problem), problem
    else:
        raise AssertionError("an exec was running")
    old.exec("pkill", "-x", "-f", "sleep 60").wait()
    busy.wait()
    before = number(old)
    snapshot = old._experimental_snapshot()
    assert snapshot.object_id.startswith("sn-")
    old.wait(raise_on_termination=False)
    new = modal.Sandbox._experimental_from_snapshot(snapshot)
    assert new.object_id != old.object_id and number(new) >= before
    after = number(new)
    while number(new) <= after:
        time.sleep(0.02)
    try:
        modal.Sandbox._experimental_from_snapshot(snapshot)
    except Exception as problem:
        assert "only once" in str(problem), problem
    else:
        raise AssertionError("restored twice")
    new.terminate()


@step
def network(stage):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
        for blocked in (False, True):
            sandbox = modal.Sandbox.create("python", "-c", code, app=stage.app, image=stage.image,
                                           block_network=blocked)
            sandbox.wait()
            assert (sandbox.returncode == 0) != blocked, sandbox.stderr.read()


@step
def volumes(stage):
    with modal.Volume.ephemeral() as volume:
        for word in ("written", "again"):
            sandbox = modal.Sandbox.create(
                "sh", "-c", f"echo {word} >> /data/file; cat /data/file", app=stage.app,
                image=stage.image, volumes={"/data": volume})
            sandbox.wait()
        assert sandbox.stdout.read() == "written\nagain\n"
    named = modal.Volume.from_name("story-volume", create_if_missing=True)
    sandbox = modal.Sandbox.create("sh", "-c", "touch /data/x", app=stage.app, image=stage.image,
                                   volumes={"/data": named.with_mount_options(read_only=True)})
    sandbox.wait()
    assert sandbox.returncode == 1 and "Read-only" in sandbox.stderr.read()


@step
def readiness(stage):
    """Each way to ask; one that is never ready; one that has ended."""
    for argv, probe in (
            (("sh", "-c", "sleep 0.3; touch /tmp/ready; exec sleep 60"),
             modal.Probe.with_exec("test", "-e", "/tmp/ready", interval_ms=50)),
            (("python", "-m", "http.server", "8080"), modal.Probe.with_tcp(8080))):
        sandbox = modal.Sandbox.create(*argv, app=stage.app, image=stage.image,
                                       readiness_probe=probe, block_network=True)
        sandbox.wait_until_ready(timeout=30)
        sandbox.terminate()
    sandbox = modal.Sandbox.create("sleep", "2", app=stage.app, image=stage.image,
                                   readiness_probe=modal.Probe.with_exec("false"))
    for seconds, error in ((1, modal.exception.TimeoutError), (30, modal.exception.Error)):
        try:
            sandbox.wait_until_ready(timeout=seconds)
        except error:
            continue
        raise AssertionError("it was ready")


@step
def ways_in_and_out(stage):
    """Tunnels of three kinds, for those who are listed; what else a definition says."""
    for listed in ("127.0.0.0/8", "203.0.113.0/24"):
        sandbox = modal.Sandbox.create(
            "python", "-m", "http.server", "8000", app=stage.app, image=stage.image, cloud="aws",
            encrypted_ports=[8001], h2_ports=[8002], unencrypted_ports=[8000], runtime="gvisor",
            inbound_cidr_allowlist=[listed], proxy=modal.Proxy.from_name("a-proxy"),
            include_oidc_identity_token=True, readiness_probe=modal.Probe.with_tcp(8000))
        sandbox.wait_until_ready(timeout=30)
        found = sandbox.tunnels()
        assert sorted(found) == [8000, 8001, 8002]
        with socket.create_connection(found[8000].tcp_socket, 10) as plain:
            try:
                plain.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                answer = plain.recv(100)
            except ConnectionError:
                answer = b""
        assert (b"200" in answer) == (listed == "127.0.0.0/8"), (listed, answer)
        assert sandbox.exec("printenv", "MODAL_IDENTITY_TOKEN").wait() == 0
        sandbox.terminate()
    for more in ({"inbound_cidr_allowlist": ["10.0.0.0/8"]}, {"unencrypted_ports": [1]}):
        try:
            modal.Sandbox.create(app=stage.app, image=stage.image, block_network=True, **more)
        except modal.exception.InvalidError:
            continue
        raise AssertionError("a blocked network with a way in")


@step
def a_private_registry(stage):
    tag = f"private.example/it:{APP}"
    good = modal.Secret.from_dict({"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"})
    image = modal.Image.from_registry(tag, secret=good)
    modal.Sandbox.create("true", app=stage.app, image=image).wait()
    for wrong in (modal.Image.from_registry(tag),
                  modal.Image.from_gcp_artifact_registry(tag, secret=good)):
        try:
            modal.Sandbox.create("true", app=stage.app, image=wrong)
        except modal.exception.Error as problem:
            assert "unauthorized" in str(problem), problem
        else:
            raise AssertionError("it was fetched")


@step
def local_files(stage):
    with open("of-the-client.txt", "w", encoding="ascii") as file:
        file.write("brought\n")
    image = stage.image.add_local_file("of-the-client.txt", "/brought/file.txt")
    sandbox = modal.Sandbox.create("cat", "/brought/file.txt", app=stage.app, image=image)
    sandbox.wait()
    assert sandbox.stdout.read() == "brought\n", sandbox.stderr.read()


@step
def local_folders(stage):
    os.makedirs("folder/deep", exist_ok=True)
    large = bytes(range(256)) * (5 << 12)  # 5 MiB: it goes as a blob
    with open("folder/deep/large", "wb") as file:
        file.write(large)
    with open("folder/tool", "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho it ran\n")
    os.chmod("folder/tool", 0o755)
    image = stage.image.add_local_dir("folder", "/brought/folder")
    script = ("/brought/folder/tool; sha256sum < /brought/folder/deep/large; "
              "touch /brought/folder/new || echo refused; >> /brought/folder/tool || echo refused")
    for _ in range(2):
        sandbox = modal.Sandbox.create("bash", "-c", script, app=stage.app, image=image)
        sandbox.wait(raise_on_termination=False)
        digest = hashlib.sha256(large).hexdigest()
        assert sandbox.stdout.read() == f"it ran\n{digest}  -\nrefused\nrefused\n", (
            sandbox.stderr.read())


@step
def an_image_that_fails(stage):
    image = modal.Image.debian_slim(python_version="3.11").pip_install("no-such-package-at-all")
    try:
        modal.Sandbox.create(app=stage.app, image=image)
    except modal.exception.Error as problem:
        assert "failed" in str(problem), problem
    else:
        raise AssertionError("it was built")


@step
def time_outs(stage):
    sandbox = modal.Sandbox.create("sleep", "60", app=stage.app, image=stage.image, timeout=1)
    try:
        sandbox.wait()
    except modal.exception.SandboxTimeoutError:
        assert sandbox.returncode == 124
    else:
        raise AssertionError("no time-out")
    sandbox = modal.Sandbox.create("sleep", "60", app=stage.app, image=stage.image, idle_timeout=1)
    start = time.monotonic()
    sandbox.wait(raise_on_termination=False)
    assert time.monotonic() - start < 30


def main(names):
    """Tells the story, or only some of its steps."""
    stage = Stage()
    for function in STEPS:
        if not names or function.__name__ in names:
            function(stage)
            print(function.__name__, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
