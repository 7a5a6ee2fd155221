"""A small MCP client that speaks raw JSON-RPC to a server over its stdin and stdout.

It hides nothing: any bytes can be sent, every message that came is kept, and closing it checks that
the server printed only JSON-RPC and left no process behind.

    with Client() as client:                            # 2025-11-25 handshake done
        result = client.tool("run_code", {"code": "1 + 1"})
        assert result.text("result") == "2" and result.outcome["cause"] == "ok"

    with Client("--structured", era="modern") as client:  # 2026-07-28, no handshake
    with Client(version=None) as client:                  # nothing sent yet

The binary is $CELLBLOCK, else build/cellblock; $CELLBLOCK_ARGS (shell words) are added to every
start.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from . import processes

ROOT = Path(__file__).resolve().parents[2]
LATEST_LEGACY = "2025-11-25"
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
DEFAULT_TIMEOUT = float(os.environ.get("CELLBLOCK_TEST_TIMEOUT", "60"))


def binary():
    """The program under test."""
    return os.environ.get("CELLBLOCK") or str(ROOT / "build" / "cellblock")


def default_args():
    """Arguments that every start of the server gets."""
    return shlex.split(os.environ.get("CELLBLOCK_ARGS", ""))


class RpcError(Exception):
    """The server answered with a JSON-RPC error."""

    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code = error.get("code")
        self.message = error.get("message", "")
        self.data = error.get("data")


class ServerGone(Exception):
    """The server closed its stdout before it answered."""


class ToolResult:
    """A CallToolResult, taken apart."""

    def __init__(self, raw):
        self.raw = raw
        self.content = raw["content"]
        self.is_error = raw.get("isError", False)
        self.meta = raw.get("_meta", {})
        self.outcome = self.meta.get("cellblock/outcome")
        self.session = self.meta.get("cellblock/session")
        self.structured = raw.get("structuredContent")

    @property
    def cause(self):
        """How the run ended; None when there was no run."""
        return self.outcome and self.outcome["cause"]

    def parts(self, part=None):
        """The blocks of one part (`stdout`, `result`, `display`, …), or all."""
        if part is None:
            return self.content
        return [b for b in self.content if b.get("_meta", {}).get("cellblock/part") == part]

    def text(self, part=None):
        """The text blocks of one part (or of all) joined; "" when there is none."""
        return "".join(b["text"] for b in self.parts(part) if b["type"] == "text")

    def images(self):
        """The image blocks."""
        return [b for b in self.content if b["type"] == "image"]

    def __repr__(self):
        return f"ToolResult({json.dumps(self.raw)[:4000]})"


class Client:
    """One server process and the conversation with it. See the top of the file."""

    def __init__(self, *args, version=LATEST_LEGACY, era="legacy", roots=None, capabilities=None,
                 elicit=None, env=None, cwd=None, program=None, read=True, check=True, **popen):
        processes.become_subreaper()
        self.era, self.roots, self.check = era, roots, check
        self.capabilities = dict(capabilities or {})
        if roots is not None:
            self.capabilities.setdefault("roots", {"listChanged": True})
        self.elicit = elicit
        if elicit is not None:
            self.capabilities.setdefault("elicitation", {})
        self.messages, self.garbage, self.server_requests = [], [], []
        self._answers, self._changed = {}, threading.Condition()
        self._eof, self._next_id, self._reader = False, 0, None
        self._write_lock = threading.Lock()
        self.stderr = bytearray()
        self.command = [*(program or [binary()]), *default_args(), *map(str, args)]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})}, cwd=cwd, bufsize=0, **popen)
        self._err = threading.Thread(target=self._read_stderr, daemon=True)
        self._err.start()
        if read:
            self.start_reading()
        if era == "legacy" and version is not None:
            try:
                self.initialized = self.initialize(version)
            except BaseException:
                self.kill()
                raise

    # What comes in

    def start_reading(self):
        """Begins to read the server's stdout (after Client(read=False))."""
        self._reader = threading.Thread(target=self._read_stdout, daemon=True)
        self._reader.start()

    def _read_stdout(self):
        rest = bytearray()
        fd = self.process.stdout.fileno()
        while True:
            try:
                chunk = os.read(fd, 1 << 20)
            except OSError:
                chunk = b""
            if not chunk:
                break
            rest += chunk
            if b"\n" in chunk:
                *lines, tail = bytes(rest).split(b"\n")
                rest = bytearray(tail)
                for line in lines:
                    self._take_line(line)
        with self._changed:
            if rest:
                self.garbage.append(bytes(rest))
            self._eof = True
            self._changed.notify_all()

    def _take_line(self, line):
        try:
            message = json.loads(line.decode("utf-8"))
        except ValueError:
            message = None
        with self._changed:
            if not isinstance(message, (dict, list)):
                self.garbage.append(line)
            else:
                self.messages.append(message)
                for one in message if isinstance(message, list) else [message]:
                    self._take(one)
            self._changed.notify_all()

    def _take(self, message):
        if "method" not in message:
            self._answers.setdefault(_key(message.get("id")), []).append(message)
        elif "id" in message:
            self.server_requests.append(message)
            threading.Thread(target=self._answer, args=(message,), daemon=True).start()

    def _answer(self, request):
        """Answers what the server asks: roots/list, elicitation/create and ping."""
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "roots/list" and self.roots is not None:
            roots = self.roots() if callable(self.roots) else self.roots
            if roots is NotImplemented:
                return  # a client that never answers
            reply["result"] = {"roots": [_root(r) for r in roots]}
        elif request["method"] == "elicitation/create" and self.elicit:
            reply = self.elicit(reply, request["params"])  # None: it does not answer
            if reply is None:
                return
        elif request["method"] == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": -32601, "message": "not offered by this client"}
        with contextlib.suppress(OSError):
            self.send(reply)

    def _read_stderr(self):
        while chunk := self.process.stderr.read(1 << 16):
            self.stderr += chunk

    # What goes out

    def send_raw(self, data):
        """Sends bytes as they are."""
        with self._write_lock:
            view = memoryview(data)
            while view:
                view = view[self.process.stdin.write(view):]

    def send(self, message):
        """Sends one message (or a batch) as one line."""
        self.send_raw(json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
                      + b"\n")

    def next_id(self):
        """A request id that was not used before."""
        with self._changed:
            self._next_id += 1
            return self._next_id

    def modern_meta(self, **more):
        """The `_meta` that a modern request needs."""
        return {META + "protocolVersion": MODERN, META + "clientInfo":
                {"name": "raw-client", "version": "1"},
                META + "clientCapabilities": self.capabilities, **more}

    def build(self, method, params=None, id_=None, meta=None):
        """A request as an object, with the era's `_meta`."""
        params = dict(params or {})
        meta = {**params.pop("_meta", {}), **(meta or {})}
        if self.era == "modern":
            meta = {**self.modern_meta(), **meta}
        if meta:
            params["_meta"] = meta
        return {"jsonrpc": "2.0", "id": self.next_id() if id_ is None else id_, "method": method,
                "params": params}

    def begin(self, method, params=None, id_=None, meta=None):
        """Sends a request and returns its id at once; see `wait`."""
        request = self.build(method, params, id_, meta)
        self.send(request)
        return request["id"]

    def notify(self, method, params=None):
        """Sends a notification."""
        self.send({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def cancel(self, id_, reason="the test changed its mind"):
        """Takes a request back."""
        self.notify("notifications/cancelled", {"requestId": id_, "reason": reason})

    # Questions and answers

    def wait_until(self, condition, timeout=DEFAULT_TIMEOUT, what="what was expected"):
        """Waits until `condition()` is true; it is called with the client's lock held."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (value := condition()):
                if self._eof:
                    raise ServerGone(f"end of output instead of {what}; exit status "
                                     f"{self._status()}; stderr: {self.errors()[-2000:]}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what}: nothing in {timeout} s; stderr: "
                                       f"{self.errors()[-2000:]}")
                self._changed.wait(left)
            return value

    def _status(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(1)
        return "(still running)"

    def wait(self, id_, timeout=DEFAULT_TIMEOUT):
        """The whole response to a request."""
        key = _key(id_)
        return self.wait_until(lambda: self._answers.get(key), timeout, f"answer {id_!r}")[0]

    def answers(self, id_):
        """All responses to this id so far."""
        with self._changed:
            return list(self._answers.get(_key(id_), ()))

    def result(self, id_, timeout=DEFAULT_TIMEOUT):
        """The result of a request, or RpcError."""
        response = self.wait(id_, timeout)
        if "error" in response:
            raise RpcError(response["error"])
        return response["result"]

    def request(self, method, params=None, timeout=DEFAULT_TIMEOUT, meta=None):
        """Sends a request and waits for its result."""
        return self.result(self.begin(method, params, meta=meta), timeout)

    def exchange(self, data, timeout=10):
        """Sends raw bytes and returns the next message that comes."""
        with self._changed:
            seen = len(self.messages)
        self.send_raw(data)
        self.wait_until(lambda: len(self.messages) > seen, timeout, f"an answer to {data[:80]!r}")
        return self.messages[seen]

    def initialize(self, version=LATEST_LEGACY, **params):
        """The legacy handshake; returns the server's result."""
        result = self.request("initialize", {
            "protocolVersion": version, "capabilities": self.capabilities,
            "clientInfo": {"name": "raw-client", "version": "1"}, **params})
        self.notify("notifications/initialized")
        return result

    def begin_tool(self, name, arguments=None, token=None, meta=None, id_=None):
        """Starts a tools/call; returns its id."""
        meta = dict(meta or {})
        if token is not None:
            meta["progressToken"] = token
        return self.begin("tools/call", {"name": name, "arguments": arguments or {}}, id_, meta)

    def tool(self, name, arguments=None, timeout=DEFAULT_TIMEOUT, token=None, meta=None):
        """Calls a tool and returns its ToolResult (tool errors too); RpcError is raised."""
        return ToolResult(self.result(self.begin_tool(name, arguments, token, meta), timeout))

    def tool_result(self, id_, timeout=DEFAULT_TIMEOUT):
        """The ToolResult of a call that was begun."""
        return ToolResult(self.result(id_, timeout))

    def run(self, code, timeout=DEFAULT_TIMEOUT, **arguments):
        """run_code."""
        return self.tool("run_code", {"code": code, **arguments}, timeout)

    def notifications(self, method=None):
        """The notifications that came so far, in order."""
        with self._changed:
            flat = [m for got in self.messages for m in (got if isinstance(got, list) else [got])]
        return [m for m in flat if "method" in m and "id" not in m
                and method in (None, m["method"])]

    def progress(self, token):
        """The params of the progress notifications for a token."""
        return [n["params"] for n in self.notifications("notifications/progress")
                if n["params"]["progressToken"] == token]

    def wait_notification(self, method, accept=lambda params: True, timeout=DEFAULT_TIMEOUT):
        """Waits for a notification whose params are accepted; returns the params."""
        def found():
            return next((n for n in self.messages if isinstance(n, dict) and "id" not in n
                         and n.get("method") == method and accept(n.get("params", {}))), None)
        return self.wait_until(found, timeout, method).get("params", {})

    def errors(self):
        """What the server wrote on stderr so far."""
        return bytes(self.stderr).decode("utf-8", "replace")

    # The end

    @property
    def pid(self):
        """The server's process id."""
        return self.process.pid

    def tree(self):
        """Every process below the server now, and the server."""
        found = processes.stat(self.pid)
        own = {(self.pid, found[2])} if found and found[0] not in "ZX" else set()
        return own | processes.descendants(self.pid)

    def end_input(self):
        """Closes the server's stdin."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def signal(self, number):
        """Sends the server a signal."""
        self.process.send_signal(number)

    def wait_exit(self, timeout=10):
        """The server's exit status."""
        return self.process.wait(timeout)

    def close(self, timeout=15):
        """Ends the conversation and checks: exit status 0, clean stdout, nothing left running."""
        before = self.tree()
        self.end_input()
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no exit {timeout} s after the end of stdin; stderr: "
                                 f"{self.errors()[-2000:]}") from None
        self._join()
        left = processes.wait_gone(before)
        processes.reap()
        assert not left, f"left running: {left}"
        assert not self.garbage, f"not JSON-RPC on stdout: {self.garbage[:3]!r}"
        assert status == 0, f"exit status {status}; stderr: {self.errors()[-4000:]}"

    def kill(self):
        """SIGKILL, no questions; returns what was running and still is after 3 s."""
        before = self.tree()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._join()
        left = processes.wait_gone(before)
        processes.reap()
        return left

    def _join(self):
        for thread in (self._reader, self._err):
            if thread:
                thread.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind or not self.check or self.process.poll() is not None:
            self.kill()
        else:
            self.close()


def _key(id_):
    """Ids as dictionary keys: 1 and "1" differ, and 1 and True too."""
    return json.dumps(id_)


def _root(root):
    return root if isinstance(root, dict) else {"uri": Path(root).resolve().as_uri()}
