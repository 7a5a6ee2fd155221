"""An engine that takes a container's limits and leaves some out without a word.

Rootless Podman with cgroups v1 is one. Here a proxy before the real engine takes them out of the
create, so the container that is made really has less.
"""

import contextlib
import json
import re
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from engine import IMAGE, far

pytestmark = pytest.mark.engine("docker")

LESS = {"Memory": {"Memory": 0, "MemorySwap": 0}, "PidsLimit": {"PidsLimit": None},
        "NanoCpus": {"NanoCpus": 0}, "ReadonlyRootfs": {"ReadonlyRootfs": False},
        "NetworkMode": {"NetworkMode": "bridge"}, "Privileged": {"Privileged": True}}
CREATE = re.compile(rb"POST /\S*containers/create\S* HTTP")
LENGTH = re.compile(rb"(?i)(content-length: *)(\d+)")


def without(request, receive, less):
    """A create as it goes on to the engine: with `less` laid over its HostConfig."""
    while b"\r\n\r\n" not in request:
        request += receive()
    head, _, body = request.partition(b"\r\n\r\n")
    while len(body) < int(LENGTH.search(head)[2]):
        body += receive()
    asked = json.loads(body)
    asked["HostConfig"].update(less)
    body = json.dumps(asked).encode("ascii")
    return LENGTH.sub(rb"\g<1>%d" % len(body), head) + b"\r\n\r\n" + body


def pump(source, target, change=None):
    """Bytes from one to the other until the first ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(change(data) if change else data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forgetful(path, less):
    """The engine at `path`, behind a socket on which it forgets `less`; the socket's path."""

    def serve(client):
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(path))

            def change(data):
                if CREATE.match(data):
                    return without(data, lambda: client.recv(65536), less)
                return data

            back = threading.Thread(target=pump, args=(engine, client), daemon=True)
            back.start()
            pump(client, engine, change)
            back.join()

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with tempfile.TemporaryDirectory(prefix="cellblock-security-") as folder, socket.socket(
            socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/engine.sock")
        listener.listen(16)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield Path(folder) / "engine.sock"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("key", LESS)
def test_a_limit_that_the_engine_leaves_out(docker, key):
    """Nothing is run with less, the refusal names what is gone, and the container is removed."""
    with forgetful(docker.path, LESS[key]) as path, far(
            "docker", environment={"image": IMAGE, "host": f"unix://{path}", "cpu": 1}) as one:
        result = one.client.run("print('run')", timeout=100)
        pid = one.client.pid
    assert result.cause == "unsupported", result
    assert key in result.text("note") and "run\n" not in str(result)
    assert not docker.ours(pid)


def test_the_same_engine_that_forgets_nothing(docker):
    """The control: the proxy is not what is refused."""
    with forgetful(docker.path, {}) as path, far(
            "docker", environment={"image": IMAGE, "host": f"unix://{path}", "cpu": 1}) as one:
        assert one.client.run("6 * 7", timeout=100).text("result") == "42"
