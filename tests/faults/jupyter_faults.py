"""A Jupyter server as the tests of faults see it, and a proxy before it that cuts connections."""

import contextlib
import json
import selectors
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from engines.common import EngineError
from engines.jupyter import KERNELS, JupyterServer, KernelGateway

PYTHON = KERNELS / "bin" / "python"


class Proxy:
    """Carries TCP connections to a server; cut() ends all that are open, at once."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = {}
        self.lock = threading.Lock()
        self.refusing = False
        self.cut_at = None  # a text: the first message to the server that has it ends it all
        self.cut_after = None  # likewise, when it has been passed on
        self.swallow = ()  # texts: cut_after ends our side, the server's when it has sent all these
        self.slow = 0.0  # seconds between two reads from the server
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if self.refusing:
                    near.close()
                    continue
                far = socket.create_connection(self.target)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self.pairs[near] = far
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near, far):
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            sent = _Sent()
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return self._end(near)
                    frames = sent.take(data) if key.fileobj is near else ()
                    if frames and self.cut_at and _has(frames, self.cut_at):
                        self.cut_at = None
                        self.cut()
                        return None
                    if key.fileobj is far and self.slow:
                        time.sleep(self.slow)
                    key.data.sendall(data)
                    if frames and self.cut_after and _has(frames, self.cut_after):
                        return self._cut_after(near, far)
        return self._end(near)

    def _cut_after(self, near, far):
        """What the server sends before it notices goes nowhere; until then nobody comes again."""
        self.refusing, self.cut_after = bool(self.swallow), None
        try:
            near.shutdown(socket.SHUT_RDWR)
            sent = b""
            while not all(text in sent for text in self.swallow):
                data = far.recv(65536)
                if not data:
                    break
                sent += data
        finally:
            self.cut()
            self.refusing = False

    def _end(self, near):
        with self.lock:
            far = self.pairs.pop(near, None)
        for one in (near, far):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def cut(self):
        """Ends every connection."""
        with self.lock:
            found = list(self.pairs)
        for near in found:
            self._end(near)
        return len(found)

    def close(self):
        """Ends it all."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # accept() would go on with a closed one
        self.listener.close()
        self.cut()


class _Sent:
    """What a client sends on one connection: the messages in it, when that is a WebSocket."""

    def __init__(self):
        self.rest = b""
        self.framed = None  # not known before its head has come

    def take(self, data):
        """The frames that are whole now: [(mask, masked payload)]."""
        if self.framed is False:
            return []
        self.rest += data
        if self.framed is None:
            head, end, rest = self.rest.partition(b"\r\n\r\n")
            if not end:
                return []
            self.framed, self.rest = b"upgrade: websocket" in head.lower(), rest
        found = []
        while self.framed and (frame := self._frame()):
            found.append(frame)
        return found

    def _frame(self):
        if len(self.rest) < 2:
            return None
        size, start = self.rest[1] & 0x7F, 2
        if size > 125:
            start = {126: 4, 127: 10}[size]
            size = int.from_bytes(self.rest[2:start], "big")
        end = start + 4 + size
        if len(self.rest) < max(end, start + 4):
            return None
        frame = self.rest[start:start + 4], self.rest[start + 4:end]
        self.rest = self.rest[end:]
        return frame


def _has(frames, text):
    """Is the text in one of them?"""
    return any(text in bytes(byte ^ mask[n % 4] for n, byte in enumerate(body))
               for mask, body in frames)


class Private:
    """Of an engine: nobody else's, with temporary files of its own."""

    def _environment(self, secret):
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {**super()._environment(secret), "TMPDIR": str(self.folder / "tmp")}


class FaultsServer(Private, JupyterServer):
    """Without rate limits."""

    name = "jupyter-server-faults"


class FaultsGateway(Private, KernelGateway):
    """Likewise."""

    name = "kernel-gateway-faults"


class LimitedServer(Private, JupyterServer):
    """With the rate limits that a server has when nobody says otherwise."""

    name = "jupyter-server-limited"
    unlimited = ()


class Server:
    """A running Jupyter server as the tests see it."""

    def __init__(self, engine, info):
        self.url, self.token = info["url"], info["token"]
        self.temp = engine.folder / "tmp"
        self.port = int(self.url.rsplit(":", 1)[1])

    def ask(self, method, path, body=None):
        """One call of the REST API."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def kernels(self):
        """The ids of the kernels that there are."""
        for _ in range(40):
            with contextlib.suppress(urllib.error.HTTPError):  # while one is being ended
                return {kernel["id"] for kernel in self.ask("GET", "kernels")}
            time.sleep(0.25)
        raise AssertionError("the server does not list its kernels")


    def left(self):
        """What is there of sessions: kernels, folders and other files of theirs."""
        return self.kernels() | {path.name for path in self.temp.iterdir()
                                 if "cellblock" in path.name or path.name.startswith(".begun")}


def started(engine):
    """A server, ended at last."""
    if reason := engine.missing():
        pytest.skip(f"{reason} (or tests/run.sh --install)")
    try:
        yield Server(engine, engine.start())
    except EngineError as error:
        pytest.fail(str(error))
    engine.stop()


def going(client, text, timeout=20):
    """Waits until a run has printed this."""
    client.wait_notification("notifications/progress", lambda p: text in p.get("message", ""),
                             timeout)


def begin(client, code, session, token="token", **more):
    """Starts a run and returns the request's id."""
    arguments = {"code": code, "session": session, **more}
    return client.begin_tool("run_code", arguments, token=token)


STRANGER = """
import json, sys
from jupyter_server.utils import url_path_join
import asyncio, uuid
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

async def main(url, token, code, times):
    ws = await websocket_connect(HTTPRequest(url, headers={"Authorization": "token " + token}))
    for _ in range(times):
        mine, idle, reply = uuid.uuid4().hex, False, False
        await ws.write_message(json.dumps({
            "channel": "shell", "header": {"msg_id": mine, "msg_type": "execute_request",
            "session": "stranger", "username": "", "version": "5.3"}, "parent_header": {},
            "metadata": {}, "content": {"code": code, "silent": False}, "buffers": []}))
        while not (idle and reply):
            m = json.loads(await ws.read_message())
            if m["parent_header"].get("msg_id") != mine:
                continue
            if m["msg_type"] == "stream":
                sys.stdout.write(m["content"]["text"])
            idle |= m["content"].get("execution_state") == "idle"
            reply |= m["msg_type"] == "execute_reply"

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""


def stranger(server, kernel, code, times=1):
    """Another client of the kernel; what its own code printed."""
    url = f"ws{server.url[4:]}/api/kernels/{kernel}/channels?session_id=stranger"
    done = subprocess.run([PYTHON, "-c", STRANGER, url, server.token, code, str(times)],
                          capture_output=True, text=True, timeout=60, check=True)
    return [done.stdout]
