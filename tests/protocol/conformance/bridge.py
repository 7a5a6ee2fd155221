"""Puts a stdio server behind Streamable HTTP, for the conformance suite, which speaks nothing else.

    python3 bridge.py PORT COMMAND [ARGS…]        prints "ready" when it listens on 127.0.0.1

Legacy: one server process for each Mcp-Session-Id. Modern (2026-07-28): one for each request. It
answers what HTTP asks for (status codes, headers) and leaves all else to the server.
"""

import contextlib
import http.server
import json
import queue
import secrets
import subprocess
import sys
import threading

META = "io.modelcontextprotocol/"
STATUS = {-32601: 404, -32602: 400, -32020: 400, -32021: 400, -32022: 400}


class Process:
    """One server, and the streams that wait for its messages."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.waiting, self.lock = [], threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        """Hands each message to all that wait."""
        for line in self.child.stdout:
            with self.lock:
                for one in self.waiting:
                    one.put(line)
        with self.lock:
            for one in self.waiting:
                one.put(None)

    def send(self, message):
        """Writes one message."""
        with self.lock, contextlib.suppress(OSError):
            self.child.stdin.write(json.dumps(message).encode() + b"\n")
            self.child.stdin.flush()

    @contextlib.contextmanager
    def listening(self):
        """A queue of all messages from now on."""
        mine = queue.Queue()
        with self.lock:
            self.waiting.append(mine)
        try:
            yield mine
        finally:
            with self.lock:
                self.waiting.remove(mine)

    def close(self):
        """Ends the server."""
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        self.child.wait(10)


class Handler(http.server.BaseHTTPRequestHandler):
    """POST of messages; no standalone stream."""

    protocol_version = "HTTP/1.1"
    command_line, sessions = (), {}

    def log_message(self, *_):
        """Nothing is logged."""

    def answer(self, status, body=None, **headers):
        """A whole response."""
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message, code, text):
        """A JSON-RPC error that the transport itself decides on."""
        id_ = message.get("id") if isinstance(message, dict) else None
        self.answer(status, {"jsonrpc": "2.0", "id": id_, "error": {"code": code,
                                                                    "message": text}})

    def do_GET(self):  # noqa: N802
        """There is no standalone stream."""
        self.answer(405, Allow="POST, DELETE")

    def do_DELETE(self):  # noqa: N802
        """Ends a session."""
        process = self.sessions.pop(self.headers.get("Mcp-Session-Id"), None)
        if process:
            process.close()
        self.answer(200 if process else 404)

    def do_POST(self):  # noqa: N802
        """One message."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for header in ("Host", "Origin"):
            name = self.headers.get(header, "localhost").split("//")[-1].rsplit(":", 1)[0]
            if name not in ("localhost", "127.0.0.1", "[::1]"):
                return self.refuse(403, None, -32600, f"{header} is not this machine")
        try:
            message = json.loads(body)
        except ValueError:
            return self.refuse(400, None, -32700, "not JSON")
        params = message.get("params") or {}
        stated = params.get("_meta", {}).get(META + "protocolVersion")
        header = self.headers.get("MCP-Protocol-Version")
        if stated or (header or "") >= "2026":
            return self.modern(message, params, stated, header)
        return self.legacy(message)

    def modern(self, message, params, stated, header):
        """A process of its own for each request."""
        named = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
        key = named.get(message.get("method"))
        if stated and header != stated:
            return self.refuse(400, message, -32020, "MCP-Protocol-Version differs from _meta")
        if self.headers.get("Mcp-Method", message["method"]).strip() != message["method"]:
            return self.refuse(400, message, -32020, "Mcp-Method differs from the method")
        if key and self.headers.get("Mcp-Name", params.get(key)) != params.get(key):
            return self.refuse(400, message, -32020, "Mcp-Name differs from params")
        process = Process(self.command_line)
        try:
            self.forward(process, message)
        finally:
            process.close()

    def legacy(self, message):
        """A process for each session."""
        session = self.headers.get("Mcp-Session-Id")
        if message.get("method") == "initialize":
            session = secrets.token_hex(16)
            self.sessions[session] = Process(self.command_line)
        elif session is None:
            return self.refuse(400, message, -32600, "Mcp-Session-Id is missing")
        process = self.sessions.get(session)
        if process is None:
            return self.refuse(404, message, -32600, "no such session")
        return self.forward(process, message, Mcp_Session_Id=session)

    def forward(self, process, message, **headers):
        """Sends a message; a request's answer comes as a stream, an early error as plain JSON."""
        if "id" not in message or "method" not in message:
            process.send(message)
            return self.answer(202, **headers)
        with process.listening() as messages:
            process.send(message)
            first = json.loads(messages.get(timeout=60) or b"{}")
            if "error" in first and first.get("id") == message["id"]:
                status = STATUS.get(first["error"]["code"], 200) if not headers else 200
                return self.answer(status, first, **headers)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError, queue.Empty):
                while True:
                    self.wfile.write(b"data: " + json.dumps(first).encode() + b"\n\n")
                    self.wfile.flush()
                    if first.get("id") == message["id"] and "method" not in first:
                        return None
                    line = messages.get(timeout=60)
                    if line is None:
                        return None
                    first = json.loads(line)
        return None


def main(port, *command):
    """Serves until stdin ends."""
    Handler.command_line = command
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", server.server_port, flush=True)
    sys.stdin.read()
    for process in Handler.sessions.values():
        process.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
