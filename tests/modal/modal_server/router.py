"""The task command router: execs with streams by offset, snapshots, the entrypoint's streams."""

import asyncio
import time

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from .execs import Exec
from .rpc import fail, missing
from .sandbox import ENTRYPOINT, GONE

LARGEST_ARGV = 1 << 16  # bytes of all arguments


class Router:
    """Its methods; every token is for one task."""

    def __init__(self, world):
        self.world = world
        self._connections = set()

    def hang_up(self):
        """Ends all connections without a word."""
        for transport in self._connections:
            transport.abort()
        self._connections.clear()

    def authorize(self, call):
        """Only with a token of the router's."""
        self._connections.add(call.stream._stream._transport)
        scheme, _, token = call.header("authorization").partition(" ")
        call.claims = self.world.tokens.check("router", token) if scheme == "Bearer" else None
        if call.claims is None:
            fail(Status.UNAUTHENTICATED, "the router's token is missing, wrong or expired")

    def _sandbox(self, request, call, ended=False):
        sandbox = self.world.sandboxes.of_task(request.task_id)
        if call.claims["task_id"] != request.task_id:
            fail(Status.PERMISSION_DENIED, "the token is another task's")
        if sandbox.result is not None and not ended:
            fail(Status.NOT_FOUND, GONE)
        return sandbox

    def _exec(self, request, call):
        sandbox = self._sandbox(request, call)
        return sandbox, sandbox.execs.get(request.exec_id) or missing("exec", request.exec_id)

    async def TaskExecStart(self, request, call):
        """Starts a process; the same id again is the same process."""
        sandbox = self._sandbox(request, call)
        if request.exec_id in sandbox.execs:
            return router_pb2.TaskExecStartResponse()
        if not request.command_args or not request.exec_id:
            fail(Status.INVALID_ARGUMENT, "command_args and exec_id are needed")
        if sum(len(word.encode()) for word in request.command_args) > LARGEST_ARGV:
            fail(Status.INVALID_ARGUMENT, f"more than {LARGEST_ARGV} bytes of arguments")
        if request.workdir and not request.workdir.startswith("/"):
            fail(Status.INVALID_ARGUMENT, "workdir must be absolute")
        kinds = router_pb2.TaskExecStderrConfig
        stderr = {kinds.TASK_EXEC_STDERR_CONFIG_PIPE: "pipe",
                  kinds.TASK_EXEC_STDERR_CONFIG_STDOUT: "stdout"}.get(request.stderr_config)
        pty = request.pty_info
        await sandbox.exec(
            request.exec_id, request.command_args, self._env(request), request.workdir,
            stdout=request.stdout_config == router_pb2.TASK_EXEC_STDOUT_CONFIG_PIPE, stderr=stderr,
            terminal=(pty.winsz_rows, pty.winsz_cols) if pty.enabled else None,
            timeout=request.timeout_secs)
        return router_pb2.TaskExecStartResponse()

    def _env(self, request):
        env, sandboxes = {}, self.world.sandboxes
        for name in request.secret_ids:
            env.update(sandboxes.secret(name))
        for source in request.secret_sources:
            env.update(sandboxes.secret(source.secret_id)
                       if source.WhichOneof("source") == "secret_id"
                       else dict(source.env.contents))
        env.update(request.env)
        return env

    async def TaskExecStdioRead(self, request, call):
        """A stream from an offset to its end."""
        _, process = self._exec(request, call)
        errors = request.file_descriptor == router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        stream = process.stderr if errors else process.stdout
        async for _, piece in stream.read(request.offset, self.world.faults.chunk):
            yield router_pb2.TaskExecStdioReadResponse(data=piece)

    async def TaskExecStdinWrite(self, request, call):
        """Bytes for a process, at an offset."""
        sandbox, process = self._exec(request, call)
        sandbox.touch()
        await process.stdin.write(request.offset, request.data, request.eof)
        return router_pb2.TaskExecStdinWriteResponse()

    async def TaskExecStdinWriteStream(self, requests, call):
        """The same as a stream: a start, data, an end."""
        process, offset = None, 0
        async for request in requests:
            kind = request.WhichOneof("payload")
            if kind == "start" and process is None:
                _, process = self._exec(request.start, call)
                offset = request.start.offset
            elif process is None:
                fail(Status.INVALID_ARGUMENT, "the stream does not begin with a start")
            elif kind == "data":
                await process.stdin.write(offset, request.data, False)
                offset += len(request.data)
            elif kind == "end":
                await process.stdin.write(offset, b"", True)
        return router_pb2.TaskExecStdinWriteStreamResponse()

    async def TaskExecStdinStatus(self, request, call):
        """How far stdin was written."""
        _, process = self._exec(request, call)
        return router_pb2.TaskExecStdinStatusResponse(num_bytes_written=process.stdin.offset,
                                                      closed=process.stdin.closed)

    async def TaskExecWait(self, request, call):
        """How it ended, when it has."""
        _, process = self._exec(request, call)
        await process.done.wait()
        return _ended(process, router_pb2.TaskExecWaitResponse())

    async def TaskExecPoll(self, request, call):
        """How it ended, or nothing."""
        _, process = self._exec(request, call)
        return _ended(process, router_pb2.TaskExecPollResponse())

    async def SandboxStdioReadV2(self, request, call):
        """The entrypoint's stream; also when all is over."""
        sandbox = self._sandbox(request, call, ended=True)
        entry = sandbox.execs.get(ENTRYPOINT)
        if entry is None:
            await sandbox.finished.wait()
            return
        errors = request.file_descriptor == router_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR
        stream = entry.stderr if errors else entry.stdout
        async for offset, piece in stream.read(request.offset, self.world.faults.chunk):
            yield router_pb2.SandboxStdioReadV2Response(data=piece, starting_offset=offset)

    async def SandboxStdinWriteV2(self, request, call):
        """Bytes for the entrypoint."""
        sandbox = self._sandbox(request, call)
        entry = sandbox.execs.get(ENTRYPOINT) or Exec(ENTRYPOINT, ())
        sandbox.touch()
        await entry.stdin.write(request.offset, request.data, request.eof)
        return router_pb2.SandboxStdinWriteV2Response()

    async def SandboxWaitUntilReady(self, request, call):
        """When its probe succeeds: a port that is listened on, or a command that ends with 0."""
        from .cells import CellError
        sandbox = self._sandbox(request, call)
        probe, number = sandbox.definition.readiness_probe, 0
        end = time.monotonic() + (request.timeout or 300)
        while not sandbox.result:
            if time.monotonic() > end:
                fail(Status.DEADLINE_EXCEEDED, "the sandbox is not ready")
            number += 1
            kind = probe.WhichOneof("probe_oneof")
            if kind == "tcp_port":
                try:
                    (await sandbox.cell.connect(probe.tcp_port)).close()
                    break
                except CellError:
                    pass
            elif kind == "exec_command":
                process = await sandbox.exec(f"probe-{number}", probe.exec_command.argv, {}, "")
                await process.done.wait()
                if process.status == 0:
                    break
            else:
                break
            await asyncio.sleep((probe.interval_ms or 100) / 1000)
        if sandbox.result:
            fail(Status.NOT_FOUND, GONE)
        return router_pb2.SandboxWaitUntilReadyTcrResponse(ready_at=sandbox.made)

    # Snapshots

    async def TaskSnapshotFilesystem(self, request, call):
        """An image of its files."""
        sandbox = self._sandbox(request, call)
        image = await self._copy(sandbox, request.snapshot_id, "/")
        return router_pb2.TaskSnapshotFilesystemResponse(image_id=image.id)

    async def TaskSnapshotDirectory(self, request, call):
        """An image of the files below a path."""
        sandbox = self._sandbox(request, call)
        image = await self._copy(sandbox, request.snapshot_id, request.path.decode())
        return router_pb2.TaskSnapshotDirectoryResponse(image_id=image.id)

    async def _copy(self, sandbox, snapshot, path):
        known = sandbox.__dict__.setdefault("copies", {})
        if snapshot not in known:
            known[snapshot] = await asyncio.to_thread(
                self.world.images.copy, sandbox.image,
                lambda folder: sandbox.copy_files(folder, path))
        return known[snapshot]

    async def TaskMountDirectory(self, request, call):
        """An image's files at a path: here a copy."""
        import shutil
        sandbox = self._sandbox(request, call)
        image = self.world.images.get(request.image_id)
        target = sandbox.root / request.path.decode().lstrip("/")
        if image.root:
            await asyncio.to_thread(shutil.copytree, image.root, target, symlinks=True,
                                    dirs_exist_ok=True)
        return router_pb2.TaskMountDirectoryResponse()

    async def TaskSnapshotMemory(self, request, call):
        """Of its memory and files; it is over then. The same key again is the same snapshot."""
        known = self.world.__dict__.setdefault("memory_keys", {})
        key = (request.task_id, request.idempotency_key)
        if key not in known:
            known[key] = await self.world.sandboxes.snapshot(self._sandbox(request, call))
        return router_pb2.TaskSnapshotMemoryResponse(snapshot_id=known[key])

    async def TaskSetNetworkAccess(self, request, call):
        """Noted: `network` of the state. What runs keeps what it has."""
        self._sandbox(request, call).network = request.network_access
        return router_pb2.TaskSetNetworkAccessResponse()

    async def TaskReloadVolumes(self, request, call):
        """All is there already."""
        self._sandbox(request, call)
        return router_pb2.TaskReloadVolumesResponse()


def _ended(process, reply):
    if process.lost:
        fail(Status.NOT_FOUND, process.lost)
    if process.status is not None:
        if process.status >= 0:
            reply.code = process.status
        else:
            reply.signal = -process.status
    return reply
