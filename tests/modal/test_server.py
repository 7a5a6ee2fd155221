"""The server's own promises: what goes wrong on purpose does, and nothing of it stays behind."""

import asyncio
import contextlib
import hashlib
import os
import signal
import time
import urllib.error
import urllib.request
import uuid
from urllib.parse import urlparse

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2
from modal_proto.api_grpc import ModalClientStub
from modal_proto.task_command_router_grpc import TaskCommandRouterStub
from support_modal import ModalServer

Result = api_pb2.GenericResult
OUTPUT = "import sys; [sys.stdout.write('%09d\\n' % i) for i in range(30000)]"  # 300 000 bytes


@pytest.fixture(scope="module")
def shared():
    with ModalServer() as one:
        yield one


@pytest.fixture
def server(shared):
    yield shared
    shared.ask("reset", {})


class Client:
    """Calls as a client makes them, each one once: no retries."""

    def __init__(self, info):
        self.info = info
        self.channels = [Channel(url.hostname, url.port, status_details_codec=custom_detail_codec)
                         for url in (urlparse(info["url"]), urlparse(info["router"]))]
        self.plane = ModalClientStub(self.channels[0])
        self.router = TaskCommandRouterStub(self.channels[1])
        self.auth = self.jwt = self.app = self.image = ""

    async def __aenter__(self):
        self.auth = (await self.call("AuthTokenGet")).token
        self.app = (await self.call("AppGetOrCreate", api_pb2.AppGetOrCreateRequest(
            app_name="tests", object_creation_type=1))).app_id
        self.image = (await self.build("RUN pip install numpy")).image_id
        return self

    async def __aexit__(self, *_):
        for channel in self.channels:
            channel.close()

    def metadata(self, key=None):
        """What the official clients send."""
        token = {"x-modal-auth-token": self.auth} if self.auth else {}
        return {"x-modal-client-type": "1", "x-modal-client-version": "1.6.4",
                "x-modal-token-id": self.info["token_id"],
                "x-modal-token-secret": self.info["token_secret"],
                "x-idempotency-key": key or str(uuid.uuid4()), **token}

    async def call(self, name, request=None, key=None):
        """A unary call of the control plane."""
        method = getattr(self.plane, name)
        return await method(request or method.request_type(), metadata=self.metadata(key),
                            timeout=20)

    async def route(self, name, request):
        """A unary call of the router."""
        return await getattr(self.router, name)(
            request, metadata={"authorization": f"Bearer {self.jwt}"}, timeout=20)

    async def build(self, *commands):
        """An image, and the result of its build."""
        image = api_pb2.Image(dockerfile_commands=["FROM python:3.11-slim", *commands])
        image = await self.call("ImageGetOrCreate", api_pb2.ImageGetOrCreateRequest(
            app_id=self.app, image=image, builder_version="2025.06"))
        async with self.plane.ImageJoinStreaming.open(metadata=self.metadata()) as stream:
            await stream.send_message(api_pb2.ImageJoinStreamingRequest(
                image_id=image.image_id, timeout=20), end=True)
            async for reply in stream:
                image.result.CopyFrom(reply.result)
        return image

    def definition(self, **more):
        """A sandbox that waits."""
        return api_pb2.Sandbox(image_id=self.image, timeout_secs=100,
                               entrypoint_args=["sleep", "100"], **more)

    async def create(self, key=None, **more):
        """A sandbox; its router's token is the client's from now on."""
        made = await self.call("SandboxCreateV2", api_pb2.SandboxCreateV2Request(
            app_id=self.app, definition=self.definition(**more)), key)
        self.jwt = made.command_router_access.jwt
        return made

    async def start(self, made, *argv):
        """An exec's id."""
        name = str(uuid.uuid4())
        await self.route("TaskExecStart", router_pb2.TaskExecStartRequest(
            task_id=made.task_id, exec_id=name, command_args=argv, stdout_config=1,
            stderr_config=1))
        return {"task_id": made.task_id, "exec_id": name}

    async def read(self, process, into):
        """What comes of stdout behind what is there, until the stream ends or breaks."""
        async with self.router.TaskExecStdioRead.open(
                metadata={"authorization": f"Bearer {self.jwt}"}, timeout=20) as stream:
            await stream.send_message(router_pb2.TaskExecStdioReadRequest(
                **process, offset=len(into)), end=True)
            async for reply in stream:
                into += reply.data


def told(server, story):
    """Runs a test's coroutine with a client."""
    async def tell():
        async with Client(server.info) as client:
            await story(client)

    asyncio.run(asyncio.wait_for(tell(), 90))


@contextlib.contextmanager
def fails(status):
    """The call inside ends with this status."""
    with pytest.raises(GRPCError) as caught:
        yield caught
    assert caught.value.status == status, caught.value


def running(server):
    """The sandboxes that run."""
    return [one for one in server.state()["sandboxes"] if not one["status"]]


def test_an_error_before_the_effect_and_after_it(server):
    async def story(client):
        before = len(running(server))
        server.fault("SandboxCreateV2", "error", status="UNAVAILABLE")
        with fails(Status.UNAVAILABLE):
            await client.create()
        assert len(running(server)) == before
        server.fault("SandboxCreateV2", "error", status="DEADLINE_EXCEEDED", when="after")
        with fails(Status.DEADLINE_EXCEEDED):
            await client.create("one key", name="lost")
        assert len(running(server)) == before + 1
        again = await client.create("one key", name="lost")
        with fails(Status.ALREADY_EXISTS):
            await client.create(name="lost")
        found = await client.call("SandboxGetFromNameV2", api_pb2.SandboxGetFromNameRequest(
            sandbox_name="lost", app_name="tests"))
        assert found.sandbox_id == again.sandbox_id
        server.ask("set", {"idempotency": False})
        with fails(Status.ALREADY_EXISTS):
            await client.create("one key", name="lost")

    told(server, story)


def test_throttled(server):
    async def story(client):
        server.fault("SandboxListV2", "error", status="RESOURCE_EXHAUSTED", retry_after=2.5,
                     times=2, skip=1)
        await client.call("SandboxListV2")
        for _ in range(2):
            with fails(Status.RESOURCE_EXHAUSTED) as caught:
                await client.call("SandboxListV2")
            assert caught.value.details == [api_pb2.RPCRetryPolicy(retry_after_secs=2.5)]
        await client.call("SandboxListV2")

    told(server, story)


def test_a_token_that_expires_in_a_stream(server):
    async def story(client):
        made = await client.create()
        process = await client.start(made, "python3", "-c", OUTPUT)
        server.fault("TaskExecStdioRead", "expired", bytes=100_000)
        data = bytearray()
        with fails(Status.UNAUTHENTICATED):
            await client.read(process, data)
        assert 0 < len(data) < 100_000
        with fails(Status.UNAUTHENTICATED):
            await client.read(process, data)
        client.jwt = (await client.call("SandboxGetCommandRouterAccess",
                                        api_pb2.SandboxGetCommandRouterAccessRequest(
                                            sandbox_id=made.sandbox_id))).jwt
        await client.read(process, data)
        assert data == b"".join(b"%09d\n" % i for i in range(30000))

    told(server, story)


@pytest.mark.parametrize("what", ["reset", "goaway", "close", "half", "trailers", "garbage"])
@pytest.mark.parametrize("rpc", ["SandboxListV2", "TaskExecStdioRead"])
def test_a_broken_answer(server, what, rpc):
    async def story(client):
        made = await client.create()
        process = await client.start(made, "python3", "-c", OUTPUT)
        words = {"bytes": 150_000} if rpc == "TaskExecStdioRead" else {}
        words |= {"status": "none"} if what == "trailers" else {}  # without one this client waits
        server.fault(rpc, what, **words)
        data = bytearray()
        with pytest.raises(Exception) as caught:
            if rpc == "SandboxListV2":
                await client.call(rpc)
            else:
                await client.read(process, data)
        assert not isinstance(caught.value, asyncio.TimeoutError)
        await client.call("SandboxListV2")
        await client.read(process, data)
        assert len(data) == 300_000

    told(server, story)


def test_no_answer_for_a_while(server):
    async def story(client):
        server.fault("SandboxListV2", "hang", seconds=1)
        start = time.monotonic()
        await client.call("SandboxListV2")
        assert time.monotonic() - start >= 1

    told(server, story)


def test_the_router_is_gone_and_comes_back(server):
    async def story(client):
        made = await client.create()
        process = await client.start(made, "cat")
        server.ask("set", {"router": False})
        with pytest.raises((OSError, GRPCError, StreamTerminatedError)):
            await client.start(made, "true")
        server.ask("set", {"router": True})
        await client.route("TaskExecPoll", router_pb2.TaskExecPollRequest(**process))

    told(server, story)


def test_images_quota_and_clock(server):
    async def story(client):
        server.ask("set", {"image": "the builder is ill"})
        image = await client.build("RUN echo never built before")
        assert image.result.status == Result.GENERIC_STATUS_FAILURE
        assert image.result.exception == "the builder is ill"
        image = await client.build("RUN pip install 'no-such-package-here>=1'")
        assert image.result.status == Result.GENERIC_STATUS_FAILURE
        server.ask("set", {"image": "", "quota": 0})
        with fails(Status.RESOURCE_EXHAUSTED):
            await client.create()
        server.ask("set", {"quota": -1, "skew": 7200})
        with fails(Status.UNAUTHENTICATED):
            await client.create()

    told(server, story)


def test_stdin_that_is_sent_twice_arrives_once(server):
    async def story(client):
        made = await client.create()
        process = await client.start(made, "cat")
        for offset, data, eof in ((0, b"hello ", False), (0, b"hello ", False),
                                  (3, b"lo world", False), (11, b"", True), (11, b"", True)):
            await client.route("TaskExecStdinWrite", router_pb2.TaskExecStdinWriteRequest(
                **process, offset=offset, data=data, eof=eof))
        data = bytearray()
        await client.read(process, data)
        assert data == b"hello world"

    told(server, story)


def test_a_process_that_takes_too_much_memory(server):
    async def story(client):
        made = await client.create(resources=api_pb2.Resources(memory_mb_max=128))
        process = await client.start(made, "python3", "-c", "x = b'x' * (1 << 29)")
        wait = router_pb2.TaskExecWaitRequest(**process)
        try:
            ended = await client.route("TaskExecWait", wait)
        except GRPCError as problem:
            assert problem.status == Status.NOT_FOUND
        else:
            assert ended.code == 1 or ended.signal == signal.SIGKILL
            if ended.code == 1:
                return  # no cgroup here: it was told so by an rlimit
        result = (await client.call("SandboxWaitV2", api_pb2.SandboxWaitRequest(
            sandbox_id=made.sandbox_id, timeout=10))).result
        assert result.status == Result.GENERIC_STATUS_KERNEL_OOM_KILL

    told(server, story)


def test_mounts_and_blobs_that_are_none(server):
    """Unknown ids, another hash, a file that is not here, and too much for a message."""
    digest = hashlib.sha256(b"x").hexdigest()
    put = api_pb2.MountPutFileRequest

    async def story(client):
        with fails(Status.NOT_FOUND):
            await client.create(mount_ids=["mo-nobody"])
        with fails(Status.INVALID_ARGUMENT):
            await client.call("MountPutFile", put(sha256_hex=digest, data=b"y"))
        with fails(Status.INVALID_ARGUMENT):
            await client.call("MountPutFile", put(sha256_hex=digest, data=bytes((4 << 20) + 1)))
        with fails(Status.NOT_FOUND):
            await client.call("MountPutFile", put(sha256_hex=digest, data_blob_id="bl-nobody"))
        file = api_pb2.MountFile(filename="/data/x", sha256_hex=digest, mode=0o640)
        request = api_pb2.MountGetOrCreateRequest(files=[file], app_id=client.app,
                                                  object_creation_type=4)
        with fails(Status.NOT_FOUND):
            await client.call("MountGetOrCreate", request)
        assert (await client.call("MountPutFile", put(sha256_hex=digest, data=b"x"))).exists
        made = await client.call("MountGetOrCreate", request)
        await client.create(mount_ids=[made.mount_id])
        blob = await client.call("BlobCreate", api_pb2.BlobCreateRequest(
            content_md5="AAAA", content_sha256_base64="AAAA", content_length=1))
        for data, headers in ((b"x", {}), (b"x", {"Content-Type": "application/octet-stream"})):
            with pytest.raises(urllib.error.HTTPError):
                await asyncio.to_thread(urllib.request.urlopen, urllib.request.Request(
                    blob.upload_urls.items[0], data=data, headers=headers, method="PUT"))

    told(server, story)


def test_a_sandbox_that_goes(server):
    async def story(client):
        for how, status in (("oom", 10), ("gone", 6), ("terminated", 3)):
            made = await client.create(name=how)
            process = await client.start(made, "sleep", "100")
            wait = asyncio.ensure_future(client.route(
                "TaskExecWait", router_pb2.TaskExecWaitRequest(**process)))
            await asyncio.sleep(0)
            server.ask("end", {"sandbox": how, "how": how})
            with fails(Status.NOT_FOUND):
                await wait
            result = await client.call("SandboxWaitV2", api_pb2.SandboxWaitRequest(
                sandbox_id=made.sandbox_id))
            assert result.result.status == status

    told(server, story)


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGKILL"])
def test_nothing_stays_behind(how):
    with contextlib.ExitStack() as stack:
        server = ModalServer()
        if how != "SIGKILL":
            stack.callback(server.close)

        async def story(client):
            made = await client.create()
            await client.start(made, "sh", "-c", "setsid sleep 100 & sleep 100")

        told(server, story)
        deadline = time.monotonic() + 10
        while len(pids := running(server)[0]["processes"]) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(pids) >= 5
        if how != "stdin":
            server.process.send_signal(getattr(signal, how))
        else:
            server.process.stdin.close()
        server.process.wait(20)
        while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline + 10:
            time.sleep(0.02)
        assert not left
        if how == "SIGKILL":
            server.process.stdout.close()
            server.process.stdin.close()
            server.folder.cleanup()
        else:
            assert not os.path.exists(server.info["base"])


def alive(pid):
    """Is it there, and no zombie?"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
