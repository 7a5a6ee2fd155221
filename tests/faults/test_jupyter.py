"""What goes wrong around a kernel: the server, the connection, the kernel itself, strangers.

Run against real servers (tests/engines), a proxy that cuts connections on command, and servers of
cellblock's own.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from engines.common import EngineError
from engines.jupyter import KERNELS, JupyterServer, KernelGateway
from support.client import Client, binary

pytestmark = pytest.mark.timeout(180)

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
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return self._end(near)
                    if key.fileobj is near and self.cut_at:
                        if self.cut_at in _unmasked(data):
                            self.cut_at = None
                            self.cut()
                            return None
                    if key.fileobj is far and self.slow:
                        time.sleep(self.slow)
                    key.data.sendall(data)
        return self._end(near)

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


def _unmasked(data):
    """The payload of a masked WebSocket frame that lies whole in `data`, or the data."""
    if len(data) < 8 or not data[1] & 0x80:
        return data
    size = data[1] & 0x7F
    start = 2 + {126: 2, 127: 8}.get(size, 0)
    mask, body = data[start:start + 4], data[start + 4:]
    return bytes(byte ^ mask[n % 4] for n, byte in enumerate(body))


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


@pytest.fixture(scope="module", params=[FaultsServer, FaultsGateway],
                ids=["jupyter-server", "kernel-gateway"])
def server(request):
    """A server without rate limits."""
    yield from started(request.param())


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Nothing of any session is there after a test."""
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    yield
    end = time.monotonic() + 10
    while server and (left := server.left()):
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.fixture
def proxy(server):
    """A proxy before the server."""
    one = Proxy(server.port)
    yield one
    one.close()


@pytest.fixture
def launch(tmp_path):
    """launch(backend, **settings) starts a cellblock; all are ended."""
    made = []

    def begin(backend="jupyter", args=(), env=None, **settings):
        config = tmp_path / f"config-{len(made)}.json"
        default = {"backend": backend, "network": "all", **settings}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        made.append(Client("--config", config, *args, era="modern", env=env or {}))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.close(30)


@pytest.fixture
def through(proxy, server, launch):
    """A cellblock that reaches the server through the proxy."""
    return launch(url=f"http://127.0.0.1:{proxy.port}", token=server.token)


def going(client, text, timeout=20):
    """Waits until a run has printed this."""
    client.wait_notification("notifications/progress", lambda p: text in p.get("message", ""),
                             timeout)


def begin(client, code, session, token="token", **more):
    """Starts a run and returns the request's id."""
    arguments = {"code": code, "session": session, **more}
    return client.begin_tool("run_code", arguments, token=token)


class TestCuts:
    """The WebSocket ends in each phase; the code runs once, and its output is whole."""

    def test_between_two_runs(self, through, proxy):
        session = through.run("n = 1").session
        assert proxy.cut() > 0
        assert through.run("n += 1; n", session=session).text("result") == "2"
        time.sleep(0.3)
        proxy.cut()
        time.sleep(0.3)
        assert through.run("n += 1; n", session=session).text("result") == "3"

    def test_while_code_runs(self, through, proxy):
        session = through.run("n = 0").session
        code = "import time\nn += 1\nprint('going', flush=True)\ntime.sleep(1.5)\nprint('end')\nn"
        run = begin(through, code, session)
        going(through, "going")
        assert proxy.cut() > 0
        result = through.tool_result(run, 60)
        assert result.cause == "ok", result
        assert (result.text("stdout"), result.text("result")) == ("going\nend\n", "1")

    def test_and_the_end_of_the_run_comes_while_nothing_is_connected(self, through, proxy):
        session = through.run("n = 0").session
        run = begin(through, "import time\nprint('going', flush=True)\ntime.sleep(0.5)\nn += 1\nn",
                    session)
        going(through, "going")
        proxy.refusing = True
        proxy.cut()
        time.sleep(2)
        proxy.refusing = False
        result = through.tool_result(run, 60)
        assert (result.cause, result.text("result")) == ("ok", "1"), result
        assert through.run("n", session=session).text("result") == "1"

    def test_when_the_run_is_sent(self, through, proxy):
        session = through.run("n = 0").session
        proxy.cut_at = b"n += 1 # cut here"
        result = through.run("n += 1 # cut here\nn", session=session)
        assert (result.cause, result.text("result")) == ("ok", "1"), result

    def test_while_the_helper_is_brought(self, through, proxy):
        proxy.cut_at = b"hello"
        result = through.run("6 * 7")
        assert (result.cause, result.text("result")) == ("ok", "42"), result

    def test_while_output_comes(self, through, proxy):
        session = through.run("1").session
        code = "import time\nfor n in range(40):\n    print('line', n); time.sleep(0.05)"
        run = begin(through, code, session)
        for n in (5, 15, 25):
            going(through, f"line {n}")
            proxy.cut()
        result = through.tool_result(run, 60)
        assert result.cause == "ok", result
        if "dropped" not in result.text("note"):
            assert result.text("stdout") == "".join(f"line {n}\n" for n in range(40))

    def test_while_a_copy_is_made(self, server, proxy, launch, tmp_path):
        source = tmp_path / "large"
        source.write_bytes(os.urandom(8_000_000))
        client = launch(url=f"http://127.0.0.1:{proxy.port}", token=server.token,
                        args=("--share-root", tmp_path))
        session = client.run("1").session
        share = client.begin_tool("add_share", {"type": "copy", "source": str(source),
                                                "dest": "/workspace/large", "session": session})
        time.sleep(0.15)
        proxy.cut()
        assert not client.tool_result(share, 60).is_error
        code = "import hashlib; hashlib.md5(open('large', 'rb').read()).hexdigest()"
        import hashlib

        wanted = hashlib.md5(source.read_bytes()).hexdigest()
        assert client.run(code, session=session).text("result") == repr(wanted)

    def test_for_good_is_lost(self, server, launch):
        own = Proxy(server.port)
        client = launch(url=f"http://127.0.0.1:{own.port}", token=server.token)
        session = client.run("1").session
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)", session)
        going(client, "going")
        own.close()
        result = client.tool_result(run, 60)
        assert result.cause == "lost" and result.is_error, result
        client.close(40)
        for kernel in server.kernels():  # out of our reach: the test cleans up
            server.ask("DELETE", f"kernels/{kernel}")
        for folder in server.temp.glob("cellblock-*"):
            shutil.rmtree(folder)


class TestKernels:
    def test_killed_from_outside(self, server, launch):
        client = launch(url=server.url, token=server.token)
        first = client.run("import os; open('kept', 'w').write('here'); os.getpid()")
        pid = int(first.text("result"))
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)",
                    first.session)
        going(client, "going")
        os.kill(pid, signal.SIGKILL)
        result = client.tool_result(run, 30)
        assert result.cause == "killed" and result.is_error, result
        assert client.run("open('kept').read()", session=first.session).text("result") == "'here'"

    def test_deleted_by_somebody_else(self, server, launch):
        before = server.kernels()
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        (kernel,) = server.kernels() - before
        server.ask("DELETE", f"kernels/{kernel}")
        result = client.run("kept", session=session)
        assert result.outcome["error"]["etype"] == "NameError", result

    def test_restarted_by_somebody_else(self, server, launch):
        before = server.kernels()
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        (kernel,) = server.kernels() - before
        server.ask("POST", f"kernels/{kernel}/restart")
        time.sleep(2)
        client.run("1", session=session)
        result = client.run("kept", session=session)
        assert result.outcome["error"]["etype"] == "NameError", result
        assert client.run("6 * 7", session=session).text("result") == "42"

    def test_a_given_one_is_used_and_left(self, server, launch):
        kernel = server.ask("POST", "kernels", {"name": "python3"})["id"]
        try:
            with launch(url=server.url, token=server.token, kernel_id=kernel) as client:
                assert client.run("mine = 5; print('x')\nmine").text("result") == "5"
            assert kernel in server.kernels()
            with launch(url=server.url, token=server.token, kernel_id=kernel) as client:
                assert client.run("mine").text("result") == "5"
            assert stranger(server, kernel, "print(mine, exit)")[0].startswith("5 <")
        finally:
            server.ask("DELETE", f"kernels/{kernel}")

    def test_a_given_one_that_is_not_there(self, server, launch):
        client = launch(url=server.url, token=server.token,
                        kernel_id="00000000-0000-0000-0000-000000000000")
        result = client.run("1")
        assert result.is_error and "404" in result.text() + str(result.raw), result

    def test_a_stranger_on_the_same_kernel(self, server, launch):
        kernel = server.ask("POST", "kernels", {"name": "python3"})["id"]
        try:
            client = launch(url=server.url, token=server.token, kernel_id=kernel)
            session = client.run("1").session
            heard = []
            other = threading.Thread(target=lambda: heard.extend(stranger(
                server, kernel, "for n in range(200): print('strange', n)", 10)))
            other.start()
            for n in range(20):
                result = client.run(f"print('mine', {n})\n{n}", session=session)
                assert (result.text("stdout"), result.text("result")) == (f"mine {n}\n", str(n))
            other.join()
            assert "mine" not in "".join(heard) and "strange 199" in "".join(heard)
        finally:
            server.ask("DELETE", f"kernels/{kernel}")


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


class TestVolume:
    def test_a_hundred_megabytes_and_a_slow_connection(self, through, proxy):
        session = through.run("1").session
        proxy.slow = 0.0005
        code = "for n in range(1000): print('y' * 99_999)\nprint('the end')"
        result = through.run(code, session=session, timeout=120, timeout_seconds=100)
        assert result.cause == "ok" and "the end" in result.text("stdout"), result
        assert "dropped" not in result.text("note")
        assert result.outcome["truncated"] is True
        status = Path(f"/proc/{through.process.pid}/status").read_text(encoding="ascii")
        peak = next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)
        assert peak < 200_000, peak  # KiB


@pytest.fixture(scope="module")
def limited():
    """A server that holds output back."""
    yield from started(LimitedServer())


def test_output_that_a_server_drops_is_told(limited, launch):
    client = launch(url=limited.url, token=limited.token)
    result = client.run("import sys\nfor n in range(100): print('y' * 99_999)", timeout=60)
    text = result.text("note")
    assert "dropped" in text and "10000000" in text and "rate_limit" in text, result
    assert "IOPub" not in result.text("stderr")
    assert client.run("print('fine')", session=result.session).cause == "ok"


class TestAddresses:
    def test_a_wrong_token(self, server, launch):
        result = launch(url=server.url, token="wrong").run("1")
        assert result.is_error and "token" in result.text(), result

    def test_a_token_in_the_url(self, server, launch):
        result = launch(url=f"{server.url}/lab?token={server.token}").run("6 * 7")
        assert result.text("result") == "42"

    def test_a_token_in_a_header(self, server, launch):
        headers = {"Authorization": f"token {server.token}"}
        assert launch(url=server.url, headers=headers).run("6 * 7").text("result") == "42"

    def test_nobody_there(self, launch):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        result = launch(url=f"http://127.0.0.1:{port}", token="x").run("1")
        assert result.is_error and str(port) in result.text(), result

    def test_something_else_there(self, launch, tmp_path):
        files = subprocess.Popen([PYTHON, "-m", "http.server", "0", "--bind", "127.0.0.1", "-d",
                                  tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 env={"PYTHONUNBUFFERED": "1"})
        try:
            port = files.stdout.readline().decode().split()[5]
            result = launch(url=f"http://127.0.0.1:{port}", token="x").run("1")
            assert result.is_error and "404" in result.text(), result
        finally:
            files.kill()
            files.wait()
            files.stdout.close()


def fake_python(folder, text):
    """A program in the place of an interpreter."""
    path = folder / "python-of-the-test"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def named(text):
    """The processes whose command line has this text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.add(int(path.parent.name))
    return found


@pytest.mark.skipif(not PYTHON.exists(), reason=f"no {KERNELS}: tests/run.sh --install makes it")
class TestOwnServer:
    def test_dead_at_its_start_is_quoted_at_once(self, launch, tmp_path):
        python = fake_python(tmp_path, "echo 'boom: no such thing' >&2; exit 3")
        began = time.monotonic()
        result = launch("local-jupyter", python=python).run("1")
        assert result.is_error and "boom: no such thing" in result.text(), result
        assert "3" in result.text() and time.monotonic() - began < 5

    def test_a_python_without_a_server_says_what_to_install(self, launch, tmp_path):
        result = launch("local-jupyter", python="/usr/bin/python3").run("1")
        if result.is_error:  # Debian's has neither, as a rule
            assert "jupyter_server" in result.text() and "install" in result.text(), result

    def test_slow_to_start(self, launch, tmp_path):
        python = fake_python(tmp_path, f'sleep 3; exec {PYTHON} "$@"')
        assert launch("local-jupyter", python=python).run("6 * 7").text("result") == "42"

    def test_killed_under_a_run(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        session = client.run("import os; server = os.getppid(); server").session
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)", session)
        going(client, "going")
        server = next(pid for pid, _ in client.tree() if _is_server(pid))
        os.kill(server, signal.SIGKILL)
        result = client.tool_result(run, 60)
        assert result.cause in ("lost", "killed") and result.is_error, result

    def test_the_token_is_in_no_command_line(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        client.run("1")
        for pid, _ in client.tree():
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for entry in environ:
                if entry.startswith(b"JUPYTER_TOKEN="):
                    token = entry.split(b"=", 1)[1]
                    assert len(token) > 30 and not named(token.decode())

    def test_nothing_of_our_environment(self, launch):
        client = launch("local-jupyter", python=str(PYTHON),
                        env={"SECRET_OF_THE_SERVER": "token123"})
        result = client.run("import os; print(dict(os.environ), open('/proc/self/environ').read())")
        assert "token123" not in str(result.raw)

    def test_nothing_stays_after_a_kill_of_ours(self, launch):
        client = launch("local-jupyter", python=str(PYTHON))
        folder = client.run("import os; os.environ['IPYTHONDIR']").text("result").strip("'")
        before = client.tree()
        client.kill()
        end = time.monotonic() + 20
        while alive(before) or os.path.exists(os.path.dirname(folder)):
            assert time.monotonic() < end, (alive(before), folder)
            time.sleep(0.2)

    def test_nothing_stays_after_a_close(self, launch):
        with launch("local-jupyter", python=str(PYTHON)) as client:
            folder = client.run("import os; os.environ['IPYTHONDIR']").text("result").strip("'")
            before = client.tree()
            assert len(before) >= 3
        assert not alive(before) and not os.path.exists(os.path.dirname(folder))


def alive(processes):
    """Those of (pid, start) that are there still."""
    found = set()
    for pid, _ in processes:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            if state.rsplit(")", 1)[1].split()[0] != "Z":
                found.add(pid)
    return found


def _is_server(pid):
    with contextlib.suppress(OSError):
        return b"own_server" in Path(f"/proc/{pid}/cmdline").read_bytes() or \
            b"die_with_parent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def refused(*args, **settings):
    """What cellblock says when it is started with these settings."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump({"environments": {"default": settings}}, config)
        config.flush()
        done = subprocess.run([binary(), "run", "--config", config.name, *args, "-"], input="1",
                              capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    return done.stdout + done.stderr


class TestSettings:
    def test_no_server_is_named(self):
        text = refused(backend="jupyter", network="all")
        assert "url" in text and "local-jupyter" in text

    def test_a_network_that_cannot_be_cut(self):
        text = refused(backend="jupyter", url="http://127.0.0.1:1")
        assert "network" in text and "all" in text

    @pytest.mark.parametrize("url", ["ftp://x", "localhost:8888", "http://"])
    def test_no_address(self, url):
        assert "url" in refused(backend="jupyter", url=url, network="all")
