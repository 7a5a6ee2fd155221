"""What all calls have in common: the methods' table, who may call, idempotency, faults, counts."""

import asyncio
import contextlib
import inspect
import traceback

from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_pb2


class Details(StatusDetailsCodecBase):
    """grpc-status-details-bin with the service's own messages."""

    def encode(self, status, message, details):
        """A modal.client.RPCStatus."""
        reply = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            reply.details.add().Pack(detail, type_url_prefix="type.modal.com/")
        return reply.SerializeToString()

    def decode(self, status, message, data):
        """Nobody sends any to a server."""
        return None


def fail(status, message, *details):
    """Answers a call with a status."""
    raise GRPCError(status, message, list(details) or None)


def missing(what, name):
    """Answers that there is no such thing."""
    fail(Status.NOT_FOUND, f"{what} {name!r} not found")


class Call:
    """One attempt of a call: its name, metadata and connection."""

    def __init__(self, name, stream):
        self.name = name
        self.stream = stream
        self.metadata = stream.metadata
        self.sent = 0  # bytes of messages

    def header(self, name):
        """A header's text, or ""."""
        return self.metadata.get(name) or ""


class Service:
    """The methods of a gRPC service, from objects that have methods of their names.

    A method takes the request and the Call; it returns the reply or, when it streams, yields them.
    `authorize(call)` is asked first. Methods that nobody has answer UNIMPLEMENTED.
    """

    def __init__(self, descriptor, objects, faults, authorize):
        self.descriptor = descriptor
        self.objects = objects
        self.faults = faults
        self.authorize = authorize
        self._done = {}  # replies by idempotency key

    def __mapping__(self):
        return {f"/{self.descriptor.full_name}/{method.name}": self._handler(method)
                for method in self.descriptor.methods}

    def _handler(self, method):
        kind = {(False, False): Cardinality.UNARY_UNARY, (False, True): Cardinality.UNARY_STREAM,
                (True, False): Cardinality.STREAM_UNARY, (True, True): Cardinality.STREAM_STREAM}
        found = next((getattr(one, method.name) for one in self.objects
                      if hasattr(one, method.name)), None)

        async def handle(stream):
            await self._serve(method, found, Call(method.name, stream))

        return Handler(handle, kind[method.client_streaming, method.server_streaming],
                       GetMessageClass(method.input_type), GetMessageClass(method.output_type))

    async def _serve(self, method, found, call):
        self.faults.count(call)
        try:
            if found is None:
                fail(Status.UNIMPLEMENTED, f"{method.name} is not played by this server")
            self.authorize(call)
            await self.faults.before(call)
            if method.client_streaming:
                reply = await found(_requests(call), call)
                await self.faults.after(call)
                await call.stream.send_message(reply)
            elif method.server_streaming:
                await self._stream(found, call)
            else:
                await self._unary(found, call)
        except (GRPCError, asyncio.CancelledError, ConnectionError):
            raise
        except Exception as problem:
            traceback.print_exc()
            raise GRPCError(Status.INTERNAL, f"{method.name}: {problem!r}") from problem

    async def _unary(self, found, call):
        request = await call.stream.recv_message()
        key = (call.name, call.header("x-idempotency-key"))
        known = self._done.get(key) if key[1] and self.faults.idempotency else None
        if known is None:
            # The effect happens whole, also when the caller goes away meanwhile.
            known = asyncio.ensure_future(found(request, call))
            if key[1] and not call.name.startswith(PASSING):
                self._done[key] = known
        try:
            reply = await (known if call.name.startswith(PASSING) else asyncio.shield(known))
        except GRPCError:
            self._done.pop(key, None)
            raise
        await self.faults.after(call)
        call.sent += reply.ByteSize()
        await call.stream.send_message(reply)

    async def _stream(self, found, call):
        request = await call.stream.recv_message()
        async with contextlib.aclosing(found(request, call)) as replies:
            async for reply in replies:
                await self.faults.during(call, reply)
                call.sent += reply.ByteSize()
                await call.stream.send_message(reply)
        await self.faults.after(call)


# Calls without an effect, or that are safe to repeat: what they answer changes.
PASSING = ("SandboxWait", "SandboxGet", "SandboxList", "TaskExecWait", "TaskExecPoll", "ImageJoin",
           "AuthToken", "TaskGet", "SandboxTagsGet", "TaskExecStdin", "SandboxStdin", "BlobGet")


async def _requests(call):
    while (request := await call.stream.recv_message()) is not None:
        yield request


def methods_of(*objects):
    """The RPCs that these objects play; for the state's report."""
    return sorted({name for one in objects for name, _ in inspect.getmembers(one, callable)
                   if name[0].isupper()})
