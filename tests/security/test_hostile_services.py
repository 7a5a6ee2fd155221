"""A Jupyter server and a Docker engine that lie, played by a few lines each.

The server has to say what is wrong, in time, stay small, follow nobody elsewhere, and never tell a
token to anybody but the server that it is for.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import tempfile
import threading
import time

import pytest
from attack import MEMORY_MIB, PROCESSES
from engine import at_once, far, peak_kib

TOKEN = "token-of-the-test-71c3e9"
PEAK_KIB = 300 * 1024
KERNEL = "0123abcd-0000-4000-8000-0123456789ab"
SPECS = {"default": "python3", "kernelspecs": {"python3": {"name": "python3", "spec": {
    "language": "python", "display_name": "Python", "argv": []}}}}


def answer(body=b"", status="200 OK", kind="application/json", *headers):
    """A whole HTTP response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


class Service:
    """Serves each request by `play(method, path, headers, connection)`: bytes to answer with, or
    None when it has dealt with the connection itself."""

    def __init__(self, play, path=None):
        self.play, self.seen, self.ended = play, [], False
        family = socket.AF_UNIX if path else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen(64)
        self.url = f"unix://{path}" if path else "http://127.0.0.1:%d" % (
            self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while not self.ended:
                one, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(30)
            file = connection.makefile("rb")
            while line := file.readline(65536):
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while (line := file.readline(65536).strip()):
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                file.read(int(headers.get("content-length", 0)))
                self.seen.append((method, path, headers))
                told = self.play(method, path, headers, connection)
                if told is None:
                    return
                connection.sendall(told)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def for_ever(connection, head, piece):
    """Sends the head, and then pieces until nobody takes them."""
    def play(seconds=8):
        until = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            connection.sendall(head)
            while time.monotonic() < until:
                connection.sendall(piece)
    return play()


def attacked(backend, service, limit=100, **environment):
    """The result of a run with that service behind the place."""
    with far(backend, "--log-level", "debug", environment=environment) as one:
        started = time.monotonic()
        result = one.client.run("print(6 * 7)", timeout_seconds=3, timeout=limit)
        assert time.monotonic() - started < limit, result
        assert one.client.request("tools/list")["tools"]
        assert result.is_error and result.cause not in ("ok", "error"), result
        assert peak_kib(one.client.pid) < PEAK_KIB
        assert service.seen, "vacuous: it was never asked"
        assert TOKEN not in json.dumps(result.raw) and TOKEN not in one.client.errors()
        text = result.text()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text), repr(text)
        assert 20 < len(text) < 20_000, text
        return result


def jupyter(play, **more):
    """A run with this Jupyter server."""
    with Service(play) as service:
        return attacked("jupyter", service, url=service.url, token=TOKEN, network="all",
                        **more), service


def ordinary(method, path, *_):
    """What a Jupyter server answers as far as to the channels."""
    if path.startswith("/api/kernelspecs"):
        return answer(SPECS)
    if method == "POST" and path.split("?")[0] == "/api/kernels":
        return answer({"id": KERNEL, "name": "python3"}, "201 Created")
    if method == "DELETE":
        return answer(b"", "204 No Content")
    if path.startswith("/api/kernels"):
        return answer({"id": KERNEL, "name": "python3", "execution_state": "idle"})
    return answer({"version": "2.0.0", "started": "x", "kernels": 0})


def chunks(piece):
    """An answer of chunks that never ends."""
    return lambda m, p, h, c: for_ever(
        c, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
           b"\r\n\r\n", b"%x\r\n%s\r\n" % (len(piece), piece))


ANSWERS = {
    "nothing": lambda m, p, h, c: None,
    "no HTTP": lambda m, p, h, c: (c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), None)[1],
    "a length that is too long": lambda m, p, h, c: (
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{"), None)[1],
    "a length that is none": lambda m, p, h, c: (
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), None)[1],
    "endless chunks": chunks(b"[" * 65536),
    "a chunk without end": lambda m, p, h, c: for_ever(
        c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", b" " * 65536),
    "endless headers": lambda m, p, h, c: for_ever(
        c, b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"x" * 1000 + b"\r\n"),
    "one endless header": lambda m, p, h, c: for_ever(
        c, b"HTTP/1.1 200 OK\r\nX-Header: ", b"x" * 65536),
    "100 MB of a string": lambda m, p, h, c: for_ever(
        c, b"HTTP/1.1 200 OK\r\nContent-Length: 104857610\r\n\r\n{\"id\": \"", b"x" * 1048576),
    "deep JSON": lambda m, p, h, c: answer(b"[" * 900_000),
    "deep objects": lambda m, p, h, c: answer(b'{"a":' * 200_000),
    "a list": lambda m, p, h, c: answer([1, 2, 3]),
    "a page": lambda m, p, h, c: answer(b"<html>\x1b[2J\x07 login</html>", kind="text/html"),
    "an error with control characters": lambda m, p, h, c: answer(
        {"message": "\x1b[2J\x07 no " * 3000}, "500 Oh\x07"),
    "an error that tells the token": lambda m, p, h, c: answer(
        {"message": f"wrong token {TOKEN}"}, "403 Forbidden"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_jupyter_server_that_answers_wrongly(name):
    """To whatever is asked."""
    jupyter(ANSWERS[name])


IDS = {
    "a path": "../../x", "an address": "http://127.0.0.1:1/", "line ends": "a\r\nHost: evil\r\n",
    "a question": "a?token=x#", "a number": 7, "a list": ["a"], "nothing": None, "empty": "",
    "long": "a" * 100_000, "dots": "..", "NUL": "a\0b", "spaces": "a b c", "slash": "a/b",
}


@pytest.mark.parametrize("name", [name for name in IDS if name != "NUL"])
def test_a_kernel_id_that_is_none(name):
    """An id becomes part of a path; what is none is never put there."""
    def play(method, path, headers, connection):
        if method == "POST":
            return answer({"id": IDS[name], "name": "python3"}, "201 Created")
        return ordinary(method, path)

    _, service = jupyter(play)
    for _, path, headers in service.seen:
        assert re.fullmatch(r"/api[A-Za-z0-9/_.?=&%-]*", path) and "/../" not in path, path
        assert headers["host"] == service.url.removeprefix("http://"), headers


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_nobody_is_followed_elsewhere(status):
    """A redirect is an error; the token goes to no other host, nor port."""
    with Service(ordinary) as other:
        def play(method, path, headers, connection):
            return answer(b"", status, "text/html", f"Location: {other.url}{path}")

        _, service = jupyter(play)
        assert not other.seen, other.seen
        assert any(TOKEN in str(h) for _, _, h in service.seen), "vacuous: no token was sent"


def upgraded(connection, headers):
    """The WebSocket's handshake, done."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}"]
    if wanted := headers.get("sec-websocket-protocol"):
        head.append(f"Sec-WebSocket-Protocol: {wanted.split(',')[0].strip()}")
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")


def frame(data, opcode=2, size=None, last=True):
    """A WebSocket frame; `size` is what it says it is."""
    return bytes([opcode | 0x80 * last, 127]) + struct.pack(
        ">Q", len(data) if size is None else size) + data


def offsets(*numbers):
    """A message of kernel protocol v1: these offsets, and a little after them."""
    return frame(struct.pack(f"<{len(numbers) + 1}Q", len(numbers), *numbers) + b"shell{}{}{}{}")


FRAMES = {
    "a message of a gigabyte": (frame(b"", size=1 << 30), b"x" * 1048576),
    "a message of all there is": (frame(b"", size=(1 << 63) - 1), b"x" * 1048576),
    "pieces without end": (frame(b"x", last=False), frame(b"x" * 1048576, opcode=0, last=False)),
    "offsets past the end": (offsets(8, 1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 44), b""),
    "offsets before the start": (offsets(0, 0, 0, 0, 0, 0), b""),
    "offsets backwards": (offsets(90, 80, 70, 60, 50, 40), b""),
    "a huge number of offsets": (frame(struct.pack("<Q", (1 << 64) - 1) * 3), b""),
    "no offsets": (frame(b""), b""),
    "deep JSON": (frame(b"[" * 1_000_000, opcode=1), b""),
    "wrong UTF-8": (frame(b"\xff\xfe{}", opcode=1), b""),
    "wrong types": (frame(json.dumps({"header": [], "parent_header": 7, "content": "x",
                                      "channel": {}, "metadata": None}).encode(), opcode=1), b""),
    "an unknown opcode": (frame(b"x", opcode=11), b""),
    "a close with nonsense": (frame(b"\x00", opcode=8), b""),
    "endless pings": (b"", frame(b"p" * 100, opcode=9).replace(b"\x7f" + b"\0" * 7 + b"d", b"d")),
    "endless messages": (b"", frame(json.dumps({"header": {"msg_type": "status"}}).encode(),
                                    opcode=1) * 1000),
    "noise": (os.urandom(100_000), b""),
}


@pytest.mark.timeout(200)
def test_channels_that_lie():
    """What comes by the WebSocket. It is opened again and again, until the start's limit."""
    at_once(FRAMES, channels)


def channels(name):
    """One of FRAMES."""
    first, then = FRAMES[name]

    def play(method, path, headers, connection):
        if "upgrade" not in headers.get("connection", "").lower():
            return ordinary(method, path)
        upgraded(connection, headers)
        connection.sendall(first)
        if then:
            return for_ever(connection, b"", then)
        time.sleep(3)
        return None

    _, service = jupyter(play)
    assert any("channels" in path for _, path, _ in service.seen), "vacuous: no channels"


# ---- an engine ----


def engine(play, **more):
    """A run with this engine at a unix socket."""
    with tempfile.TemporaryDirectory() as folder, Service(play, f"{folder}/engine.sock") as service:
        return attacked("docker", service, host=service.url, image="python", **more), service


def engine_ordinary(method, path, *_):
    """What an engine answers as far as to the stream."""
    if "/containers/create" in path:
        return answer({"Id": "c" * 64, "Warnings": []}, "201 Created")
    if "/containers/json" in path or path.endswith("/networks"):
        return answer([])
    if path.endswith("c/json"):  # it holds the container to what was asked
        return answer({"Id": "c" * 64, "HostConfig": {
            "Memory": MEMORY_MIB << 20, "PidsLimit": PROCESSES + 1, "ReadonlyRootfs": True,
            "Privileged": False, "NetworkMode": "none"}})
    if "/images/" in path:
        return answer({"Id": "sha256:" + "a" * 64, "Config": {"User": "", "Volumes": None},
                       "Os": "linux", "Architecture": "amd64"})
    if "/_ping" in path:
        return answer(b"OK", "200 OK", "text/plain", "Api-Version: 1.41", "Ostype: linux")
    if path.endswith("/version"):
        return answer({"Version": "20.10", "ApiVersion": "1.41", "MinAPIVersion": "1.12",
                       "Os": "linux", "Components": []})
    return answer(b"", "204 No Content")


@pytest.mark.parametrize("name", [n for n in ANSWERS if "token" not in n])
def test_an_engine_that_answers_wrongly(name):
    """To whatever is asked."""
    engine(ANSWERS[name])


@pytest.mark.parametrize("name", IDS)
def test_a_container_id_that_is_none(name):
    """As a kernel's."""
    def play(method, path, headers, connection):
        if "/containers/create" in path:
            return answer({"Id": IDS[name]}, "201 Created")
        return engine_ordinary(method, path)

    _, service = engine(play)
    for _, path, _ in service.seen:
        assert re.fullmatch(r"/[A-Za-z0-9/_.?=&%:,{}\"+-]*", path) and "/../" not in path, path


def demux(kind, size, data=b""):
    """A header of the multiplexed stream."""
    return struct.pack(">BxxxI", kind, size) + data


STREAMS = {
    "a huge piece": (demux(1, 0xffffffff), b"x" * 65536),
    "a kind that is none": (demux(9, 10, b"0123456789"), b""),
    "padding that is not empty": (b"\x01\xff\xff\xff\0\0\0\x05hello", b""),
    "a plain text": (b"Cannot connect to the container\n", b""),
    "empty pieces": (b"", demux(1, 0) * 10_000),
    "half a header": (b"\x01\0", b""),
    "errors without end": (b"", demux(2, 60_000, b"e" * 60_000)),
    "output without end": (b"", demux(1, 60_000, b"o" * 60_000)),
    "noise": (os.urandom(100_000), b""),
}


def test_streams_that_lie():
    """What comes by the connection that was made a stream."""
    at_once(STREAMS, stream)


def stream(name):
    """One of STREAMS."""
    first, then = STREAMS[name]

    def play(method, path, headers, connection):
        if "/attach" not in path:
            return engine_ordinary(method, path)
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-"
                           b"stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + first)
        if then:
            return for_ever(connection, b"", then)
        time.sleep(1)
        return None

    _, service = engine(play)
    assert any("/attach" in path for _, path, _ in service.seen), "vacuous: no stream"
