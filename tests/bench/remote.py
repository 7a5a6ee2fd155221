"""Measurements of the places that are elsewhere: containers, Jupyter kernels, commands.

Each needs an engine of tests/engines, which is started for it and left running (run.sh ends them).
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request
import uuid

import rivals
import wire
from engines import ENGINES

IMAGE = "python:3.11-slim"


@contextlib.contextmanager
def server(environment, *args, env=None):
    """A server whose default environment is this one."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"environments": {"default": environment}}, file)
        file.flush()
        with wire.Wire("--config", file.name, *args, env=env) as one:
            yield one


def warm(report, times, one, count=1000):
    """p50 of a warm `1+1`, and the times."""
    if one.run("1+1")["content"][0]["text"] != "2":
        raise RuntimeError("1+1 is not 2")
    line = wire.call(7, "1+1")
    found = times(lambda: one.ask(line), report.count(count))
    return statistics.median(found), found


def docker_environment(host, **more):
    """A container of the tests' image."""
    return {"backend": "docker", "host": host, "image": IMAGE, **more}


@contextlib.contextmanager
def docker_run(host):
    """`docker run`, which starts a container, waits for it and removes it."""
    docker = shutil.which("docker")
    if not docker:
        raise FileNotFoundError("no docker client is installed")
    words = [docker, "-H", host, "run", "--rm", "--network", "none", IMAGE, "python3", "-I", "-S",
             "-c", "print(1)"]
    with rivals.command(*words) as once:
        yield once


class GatewayClient:
    """A plain client: HTTP to make a kernel, the channels over a WebSocket, legacy frames."""

    def __init__(self, url, token):
        self.url, self.token = url.rstrip("/"), token
        self.kernel = json.load(self._http("POST", "/api/kernels", b"{}"))["id"]
        host, _, port = self.url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session, self.buffer = uuid.uuid4().hex, b""
        self._shake(f"{host}:{port}")

    def _http(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, body, method=method,
                                         headers={"Authorization": f"token {self.token}"})
        return urllib.request.urlopen(request, timeout=20)

    def _shake(self, host):
        self.socket.sendall(
            f"GET /api/kernels/{self.kernel}/channels?session_id={self.session} HTTP/1.1\r\n"
            f"Host: {host}\r\nAuthorization: token {self.token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        self.buffer = self.buffer.split(b"\r\n\r\n", 1)[1]

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the gateway closed the connection")
        self.buffer += data

    def _frame(self):
        while True:
            if len(self.buffer) >= 2:
                size, at = self.buffer[1] & 127, 2
                if size == 126 and len(self.buffer) >= 4:
                    size, at = struct.unpack(">H", self.buffer[2:4])[0], 4
                elif size == 127 and len(self.buffer) >= 10:
                    size, at = struct.unpack(">Q", self.buffer[2:10])[0], 10
                if size not in (126, 127) or at > 2:
                    if len(self.buffer) >= at + size:
                        payload = self.buffer[at:at + size]
                        kind = self.buffer[0] & 15
                        self.buffer = self.buffer[at + size:]
                        return kind, payload
            self._more()

    def execute(self, code):
        """One cell, until it is idle and has been replied to."""
        header = {"msg_id": uuid.uuid4().hex, "session": self.session, "username": "",
                  "msg_type": "execute_request", "version": "5.3", "date": ""}
        data = json.dumps({"header": header, "parent_header": {}, "metadata": {}, "buffers": [],
                           "channel": "shell", "content": {
                               "code": code, "silent": False, "store_history": True,
                               "user_expressions": {}, "allow_stdin": False}}).encode()
        head = struct.pack(">BBH", 0x81, 0x80 | 126, len(data)) if len(data) < 65536 else b""
        self.socket.sendall(head + b"\0\0\0\0" + data)
        waiting = {"idle", "reply"}
        while waiting:
            kind, payload = self._frame()
            message = json.loads(payload) if kind == 1 else {}
            if message.get("parent_header", {}).get("msg_id") != header["msg_id"]:
                continue
            if message["msg_type"] == "execute_reply":
                waiting.discard("reply")
            elif message["content"].get("execution_state") == "idle":
                waiting.discard("idle")

    def close(self):
        """Ends the kernel."""
        self.socket.close()
        self._http("DELETE", f"/api/kernels/{self.kernel}").close()


@contextlib.contextmanager
def plain_gateway(url, token):
    """A kernel through Kernel Gateway, by the plain client."""
    client = GatewayClient(url, token)
    try:
        yield lambda: client.execute("1+1")
    finally:
        client.close()


@contextlib.contextmanager
def kernel_client(url, token):
    """jupyter-kernel-client, which code-sandboxes and jupyter-mcp-server are built on."""
    from jupyter_kernel_client import JupyterKernelClient
    # Kernel Gateway takes no bearer token, which is what this client would send.
    with JupyterKernelClient(server_url=url, token=token,
                             headers={"Authorization": f"token {token}"}) as client:
        yield lambda: client.execute("1+1")


def bench_docker(report, times):
    """A container by the runner: warm, and fresh from the pool."""
    host = ENGINES["docker"]().start()["host"]
    gateway = ENGINES["kernel-gateway"]().start()
    with server(docker_environment(host)) as one:
        ours, found = warm(report, times, one)
    report.add("docker (runner): warm `1+1`, p50", ours, "ms", 1.5,
               f"p99 {sorted(found)[int(.99 * len(found))]:.2f}")
    plain = report.rival("Kernel Gateway by a plain WebSocket client, p50",
                         plain_gateway(gateway["url"], gateway["token"]), 100)
    if plain:
        report.add("… times faster than that", plain / ours, "×", 25)
    line = wire.call(7, "print(1)")
    with server(docker_environment(host, mode="ephemeral", pool=4)) as one:
        one.run("print(1)")
        found = []
        while len(found) < report.count(50):
            time.sleep(5)
            found += times(lambda: one.ask(line), 2)
    fresh = report.add("docker (runner): fresh `print(1)` from the pool, p50",
                       statistics.median(found), "ms")
    run = report.rival("`docker run --network none`, p50", docker_run(host), 50)
    if run:
        report.add("… times faster than `docker run`", run / fresh, "×", 10)


def bench_jupyter(report, times):
    """Our jupyter kernel and others' clients on the same gateway."""
    gateway = ENGINES["kernel-gateway"]().start()
    where = {"backend": "jupyter", "url": gateway["url"], "token": gateway["token"],
             "network": "all"}
    with server(where) as one:
        ours, found = warm(report, times, one, 300)
    report.add("jupyter: warm `1+1` on a Kernel Gateway, p50", ours, "ms", None,
               f"p99 {sorted(found)[int(.99 * len(found))]:.2f}")
    best = [report.rival(name, make(gateway["url"], gateway["token"]), 100)
            for name, make in (("the same by a plain WebSocket client, p50", plain_gateway),
                               ("the same by jupyter-kernel-client, p50", kernel_client))]
    best = [one for one in best if one]
    if best:
        report.add("… times faster than the quickest of them", min(best) / ours, "×", 4)


def bare_start(command, env):
    """A function that starts the bare command with a `print(1)` and waits for it."""
    words = [*command, "python3", "-c", "'print(1)'" if "ssh" in command[0] else "print(1)"]

    def once():
        done = subprocess.run(words, env=env, capture_output=True, check=True, timeout=60)
        if b"1" not in done.stdout:
            raise RuntimeError(f"{words[0]} did not print 1")
    return once


def in_turn(one, other, count):
    """Milliseconds of both, which take turns: whatever else goes on here, both have the same of it.
    What one leaves to be done when it has answered is not the other's."""
    found = [], []
    for number in range(count + 1):
        for once, times in zip((one, other), found, strict=True):
            started = time.perf_counter()
            once()
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(0.3)
        if number == 0:  # to warm up
            found = [], []
    return found


def bench_command(report, times):
    """ssh and srun: the start beside the bare command's, and a warm run."""
    for name in ("ssh", "slurm"):
        info = ENGINES[name]().start()
        env = info.get("env", {})
        command = [word.replace("{memory_mib}", "256") for word in info["command"]]
        where = {"backend": "command", "command": info["command"], "memory_mib": 256,
                 "network": "all"}
        tool = os.path.basename(command[0])
        bare = bare_start(command, {**os.environ, **env})
        with server({**where, "mode": "ephemeral"}, env=env) as one:
            ours = functools.partial(one.ask, wire.call(7, "print(1)"))
            if b'"1\\n"' not in ours():
                raise RuntimeError(f"{tool}: the run did not print 1")
            bares, starts = in_turn(bare, ours, report.count(50))
        bare = report.add(f"`{tool} python3 -c`, p50", statistics.median(bares), "ms")
        start = report.add(f"{tool}: start and run `print(1)`, p50", statistics.median(starts),
                           "ms")
        report.add("… of the bare command's time", start / bare, "of it", 1.3)
        with server(where, env=env) as one:
            ours, _ = warm(report, times, one)
        report.add(f"{tool}: warm `1+1`, p50", ours, "ms", 2)


BENCHES = {"docker": bench_docker, "jupyter": bench_jupyter, "command": bench_command}
