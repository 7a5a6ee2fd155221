"""What goes wrong on purpose, and what the tests can ask.

The server's line names a `door`, an HTTP address:

    POST /fault    {"rpc": NAME, "what": WHAT, …}     GET  /state
    POST /set      {NAME: VALUE, …}                   POST /reset     forgets faults and settings
    POST /end      {"sandbox": ID or name, "how": "terminated" | "oom" | "gone" | "timeout" |
                    "idle" | "evicted"}

A fault is for the next call of an RPC (of the control plane or the router; "*" is any) and is used
up by it. `times` (1; 0 is for ever) and `skip` (0: so many calls pass first) say for which calls.
`when` is "before" the call's effect (default) or "after" it. WHAT is one of

    "error"         status `status` (a name of gRPC's, "UNAVAILABLE"), `message`; `retry_after`
                    adds an RPCRetryPolicy of so many seconds
    "expired"       UNAUTHENTICATED, and all tokens made until now are of no use; in a stream after
                    `bytes` bytes of messages
    "hang"          no answer for `seconds`, then it goes on
    "reset"         the stream is reset (RST_STREAM `code`, 2); in a stream after `bytes` bytes
    "goaway"        GOAWAY and the connection's end; in a stream after `bytes` bytes
    "close"         the connection's end without a word; in a stream after `bytes` bytes
    "half"          half of a message's frame, then the connection's end
    "huge"          a message that says it has 4 GB
    "trailers"      the stream's end without a grpc-status, or with `status` as its text
    "garbage"       a message that is no protobuf

and, for "BlobPut" (and "BlobComplete"), which come over HTTP,

    "status"        the answer has `status` (503)
    "etag"          the answer's checksum is another

Settings: `auth_seconds`, `router_seconds` (how long tokens live), `skew` (seconds added to the
server's clock), `idempotency` (true: a key's second call gets the first one's reply), `quota` (how
many sandboxes may run; -1 any), `image` ("" or the text that the next builds fail with),
`image_seconds` (how long a build takes), `create_seconds`, `router` (false: it listens no more),
`schedule_seconds` (a V1 sandbox has no task id before), `chunk` (bytes of a stream's messages),
`stores` (addresses for each blob), `part_bytes` (0, or a blob goes in parts of so many), `tunnels`
(TunnelData, as JSON, that every sandbox is said to have instead of its own).

State: {"sandboxes": […], "images": […], "volumes": […], "secrets": […], "mounts": {ID: [files]},
"calls": {RPC: count}, "log": [{"rpc", "metadata"}…], "connections": n}. A sandbox has id, name,
task, tags, app, status, definition (as JSON), env, execs ([{id, argv, pid, status}]), tunnels
({port: [port of this machine, encrypted]}), processes (host pids).
"""

import asyncio
import struct

from grpclib import GRPCError, Status
from h2.errors import ErrorCodes
from modal_proto import api_pb2

DEFAULTS = {"auth_seconds": 1200, "router_seconds": 600, "skew": 0.0, "idempotency": True,
            "quota": -1, "image": "", "image_seconds": 0.0, "create_seconds": 0.0, "router": True,
            "schedule_seconds": 0.0, "chunk": 65536, "stores": 1, "part_bytes": 0, "tunnels": []}
KEPT = ("x-modal", "x-idempotency", "x-retry", "x-throttle", "user-agent", "authorization")
LOGGED = 2000  # calls


class Faults:
    """The faults that wait for their calls, the settings, and the calls' counts."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.reset()

    def reset(self):
        """As at the start."""
        self.waiting = []
        self.calls = {}
        self.log = []
        self.connections = set()
        self.settings = dict(DEFAULTS)
        self._apply()

    def __getattr__(self, name):
        if name in DEFAULTS:
            return self.__dict__["settings"][name]
        raise AttributeError(name)

    def set(self, words):
        """Settings; KeyError for one that isn't."""
        for name, value in words.items():
            if name not in DEFAULTS:
                raise KeyError(name)
            self.settings[name] = value
        self._apply()

    def _apply(self):
        self.tokens.seconds = {"auth": self.auth_seconds, "router": self.router_seconds}
        self.tokens.skew = self.skew

    def add(self, words):
        """A fault, as the door got it."""
        if words["what"] not in WHATS and words["what"] not in OVER_HTTP:
            raise KeyError(words["what"])
        self.waiting.append({"times": 1, "skip": 0, "when": "before", "bytes": 0, **words})

    def count(self, call):
        """Notes a call."""
        self.calls[call.name] = self.calls.get(call.name, 0) + 1
        peer = call.stream.peer
        self.connections.add(str(peer.addr()) if peer else "")
        kept = {key: value for key, value in call.metadata.items()
                if isinstance(value, str) and key.startswith(KEPT)}
        self.log.append({"rpc": call.name, "metadata": kept})
        del self.log[:-LOGGED]

    def over_http(self, name):
        """Notes a request of the blobs' store: what is to go wrong with it, or {}."""
        self.calls[name] = self.calls.get(name, 0) + 1
        return self._take(name, "before") or {}

    def _take(self, name, when, streamed=None):
        for fault in self.waiting:
            if fault["rpc"] not in ("*", name) or fault["when"] != when:
                continue
            if (streamed is None) != (not fault["bytes"]):
                continue
            if streamed is not None and streamed < fault["bytes"]:
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                continue
            if fault["times"] == 1:
                self.waiting.remove(fault)
            fault["times"] -= 1 if fault["times"] else 0
            return fault
        return None

    async def before(self, call):
        """What happens to a call before its effect."""
        if fault := self._take(call.name, "before"):
            await self._do(fault, call)

    async def after(self, call):
        """What happens to it instead of its answer."""
        if fault := self._take(call.name, "after"):
            await self._do(fault, call)

    async def during(self, call, reply):
        """What happens to a stream before this message is sent."""
        if fault := self._take(call.name, "before", call.sent + reply.ByteSize()):
            await self._do(fault, call)

    async def _do(self, fault, call):
        await WHATS[fault["what"]](self, fault, call)

    # What there is

    async def _error(self, fault, _call):
        details = None
        if "retry_after" in fault:
            details = [api_pb2.RPCRetryPolicy(retry_after_secs=fault["retry_after"])]
        status = Status[fault.get("status", "UNAVAILABLE")]
        raise GRPCError(status, fault.get("message", "a fault was asked for"), details)

    async def _expired(self, _fault, call):
        kind = "router" if call.header("authorization") else "auth"
        self.tokens.revoke(kind)
        raise GRPCError(Status.UNAUTHENTICATED, f"the {kind} token has expired")

    async def _hang(self, fault, _call):
        await asyncio.sleep(fault.get("seconds", 3600))

    async def _reset(self, fault, call):
        await call.stream._stream.reset(ErrorCodes(fault.get("code", 2)))
        raise asyncio.CancelledError

    async def _goaway(self, fault, call):
        call.stream._stream._h2_connection.close_connection(ErrorCodes.NO_ERROR)
        call.stream._stream.connection.flush()
        await self._close(fault, call)

    async def _close(self, _fault, call):
        call.stream._stream._transport.close()
        raise asyncio.CancelledError

    async def _raw(self, call, data):
        """Message bytes as they are, after the headers of a good answer."""
        if not call.stream._send_initial_metadata_done:
            await call.stream.send_initial_metadata()
        await call.stream._stream.send_data(data)

    async def _half(self, fault, call):
        await self._raw(call, struct.pack("!BI", 0, 1000) + b"\x0a\x80")
        call.stream._stream.connection.flush()
        await self._close(fault, call)

    async def _huge(self, _fault, call):
        await self._raw(call, struct.pack("!BI", 0, 0xFFFFFFFF) + b"\0" * 1000)
        await asyncio.sleep(3600)

    async def _trailers(self, fault, call):
        if not call.stream._send_initial_metadata_done:
            await call.stream.send_initial_metadata()
        if "status" in fault:
            await call.stream._stream.send_headers([("grpc-status", fault["status"])],
                                                   end_stream=True)
        else:
            await call.stream._stream.end()
        raise asyncio.CancelledError

    async def _garbage(self, _fault, call):
        await self._raw(call, struct.pack("!BI", 0, 8) + b"\xff" * 8)
        await call.stream._stream.send_headers([("grpc-status", "0")], end_stream=True)
        raise asyncio.CancelledError


OVER_HTTP = ("status", "etag")
WHATS = {"error": Faults._error, "expired": Faults._expired, "hang": Faults._hang,
         "reset": Faults._reset, "goaway": Faults._goaway, "close": Faults._close,
         "half": Faults._half, "huge": Faults._huge, "trailers": Faults._trailers,
         "garbage": Faults._garbage}
