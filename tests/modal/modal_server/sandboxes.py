"""The control plane's sandboxes, of both generations: V2's methods are those of V1 and a little."""

import asyncio
import ipaddress
import shutil
import time

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from . import ids
from .rpc import fail, missing
from .sandbox import ENTRYPOINT, Network, Result, Sandbox, tag_protos

PAGE = 50
LONGEST = 86400  # seconds of a sandbox's life


class Sandboxes:
    """All sandboxes of the server."""

    def __init__(self, world):
        self.world = world
        self.all = {}
        self.snapshots = {}
        (world.base / "sandboxes").mkdir()

    # Creation

    async def SandboxCreate(self, request, _call):
        """It is scheduled later: SandboxGetTaskId tells when."""
        env = self._env(request.definition, ())
        sandbox = self._new(1, request.app_id, request.definition, request.tags, env)
        self.world.spawn(self._schedule(sandbox))
        return api_pb2.SandboxCreateResponse(
            sandbox_id=sandbox.id, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app))

    async def _schedule(self, sandbox):
        await asyncio.sleep(self.world.faults.schedule_seconds)
        await sandbox.start()

    async def SandboxCreateV2(self, request, _call):
        """It runs when this is answered."""
        definition = request.definition
        if definition.resources.gpu_config.gpu_type or definition.nfs_mounts:
            fail(Status.INVALID_ARGUMENT, "no GPUs and network file systems in V2 sandboxes")
        env = self._env(definition, request.secret_sources)
        sandbox = self._new(2, request.app_id, definition, request.tags, env)
        await self._started(sandbox)
        reply = api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.id, task_id=sandbox.task, tunnels=sandbox.tunnel_data(),
            metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app),
            sandbox_token=f"sbt-{sandbox.id}")
        reply.command_router_access.CopyFrom(sandbox.access())
        return reply

    async def _started(self, sandbox):
        await asyncio.sleep(self.world.faults.create_seconds)
        await sandbox.start()
        if sandbox.result and sandbox.result.status == Result.GENERIC_STATUS_INIT_FAILURE:
            fail(Status.FAILED_PRECONDITION, f"not started: {sandbox.result.exception}")

    def _new(self, generation, app, definition, tags, env):
        self._check(app, definition)
        copy = api_pb2.Sandbox()
        copy.CopyFrom(definition)
        sandbox = Sandbox(self.world, generation, app, copy,
                          {tag.tag_name: tag.tag_value for tag in tags}, env)
        self.all[sandbox.id] = sandbox
        return sandbox

    def _check(self, app, definition):
        faults = self.world.faults
        if app not in self.world.apps:
            missing("app", app)
        for mount in definition.mount_ids:
            if mount not in self.world.mounts.all:
                missing("mount", mount)
        access = definition.network_access
        if access.network_access_type == Network.BLOCKED and (
                definition.open_ports.ports or access.allowed_cidrs
                or definition.inbound_cidr_allowlist):
            fail(Status.INVALID_ARGUMENT, "ports or an allowlist with a blocked network")
        for cidr in definition.inbound_cidr_allowlist:
            try:
                ipaddress.ip_network(cidr)
            except ValueError:
                fail(Status.INVALID_ARGUMENT, f"{cidr!r} is no range of addresses")
        if definition.proxy_id and definition.proxy_id not in self.world.proxies:
            missing("proxy", definition.proxy_id)
        if definition.workdir and not definition.workdir.startswith("/"):
            fail(Status.INVALID_ARGUMENT, "workdir must be absolute")
        if not 0 < definition.timeout_secs <= LONGEST:
            fail(Status.INVALID_ARGUMENT, f"timeout must be 1 to {LONGEST} s")
        if definition.name and self._named(app, definition.name):
            fail(Status.ALREADY_EXISTS, f"a sandbox {definition.name!r} runs already")
        running = sum(one.result is None for one in self.all.values())
        if 0 <= faults.quota <= running:
            fail(Status.RESOURCE_EXHAUSTED, f"the workspace's limit of {faults.quota} sandboxes "
                                            "is reached")

    def _env(self, definition, sources):
        env = {}
        for name in definition.secret_ids:
            env.update(self.secret(name))
        for source in sources:
            env.update(self.secret(source.secret_id) if source.WhichOneof("source") == "secret_id"
                       else dict(source.env.contents))
        env.update(definition.environment_variables.contents)
        return env

    def secret(self, name):
        """A secret's variables."""
        return (self.world.secrets.get(name) or missing("secret", name)).content

    def _named(self, app, name, ended=False):
        found = [one for one in self.all.values() if (one.app, one.name) == (app, name)
                 and (ended or one.result is None)]
        return max(found, key=lambda one: (one.result is None, one.made)) if found else None

    def get(self, name):
        """A sandbox by its id, or the call fails."""
        return self.all.get(name) or missing("sandbox", name)

    def of_task(self, task):
        """A sandbox by its task's id, or the call fails."""
        found = next((one for one in self.all.values() if one.task == task), None)
        return found or missing("task", task)

    # Looking for them

    async def SandboxGetFromName(self, request, _call):
        """The one of an app that has a name."""
        app = next((one for one in self.world.apps.values()
                    if one.name == request.app_name and one.environment ==
                    self.world.environment(request.environment_name)), None)
        found = app and self._named(app.id, request.sandbox_name, request.include_terminated)
        if not found:
            missing("sandbox", request.sandbox_name)
        return api_pb2.SandboxGetFromNameResponse(
            sandbox_id=found.id, metadata=api_pb2.SandboxHandleMetadata(app_id=found.app,
                                                                       result=found.result))

    SandboxGetFromNameV2 = SandboxGetFromName

    async def SandboxList(self, request, _call):
        """Those of the first generation."""
        return self._page(request, {1})

    async def SandboxListV2(self, request, _call):
        """All."""
        return self._page(request, {1, 2})

    def _page(self, request, generations):
        wanted = {tag.tag_name: tag.tag_value for tag in request.tags}
        found = [one for one in self.all.values() if one.generation in generations
                 and (not request.app_id or one.app == request.app_id)
                 and (request.include_finished or one.result is None)
                 and (not request.before_timestamp or one.made < request.before_timestamp)
                 and wanted.items() <= one.tags.items()]
        found.sort(key=lambda one: -one.made)
        return api_pb2.SandboxListResponse(sandboxes=[one.info() for one in found[:PAGE]])

    async def SandboxGetTaskId(self, request, _call):
        """Its task, once it is scheduled."""
        sandbox = self.get(request.sandbox_id)
        if request.wait_until_ready:
            await _within(sandbox.scheduled, request.timeout or 55)
        reply = api_pb2.SandboxGetTaskIdResponse()
        if sandbox.scheduled.is_set() and sandbox.cell:
            reply.task_id = sandbox.task
        if sandbox.result:
            reply.task_result.CopyFrom(sandbox.result)
        return reply

    SandboxGetTaskIdV2 = SandboxGetTaskId

    async def SandboxGetCommandRouterAccess(self, request, _call):
        """A fresh token for the router, V2."""
        sandbox = (self.get(request.sandbox_id) if request.sandbox_id
                   else self.of_task(request.task_id))
        access = sandbox.access()
        return api_pb2.SandboxGetCommandRouterAccessResponse(jwt=access.jwt, url=access.url)

    async def TaskGetCommandRouterAccess(self, request, _call):
        """A fresh token for the router, V1."""
        access = self.of_task(request.task_id).access()
        return api_pb2.TaskGetCommandRouterAccessResponse(jwt=access.jwt, url=access.url)

    async def SandboxGetTunnels(self, request, _call):
        """Its tunnels, once it runs."""
        sandbox = self.get(request.sandbox_id)
        if not await _within(sandbox.scheduled, request.timeout):
            return api_pb2.SandboxGetTunnelsResponse(
                result=Result(status=Result.GENERIC_STATUS_TIMEOUT))
        return api_pb2.SandboxGetTunnelsResponse(
            result=Result(status=Result.GENERIC_STATUS_SUCCESS), tunnels=sandbox.tunnel_data())

    SandboxGetTunnelsV2 = SandboxGetTunnels

    async def SandboxTagsGet(self, request, _call):
        """Its tags."""
        return api_pb2.SandboxTagsGetResponse(tags=tag_protos(self.get(request.sandbox_id).tags))

    SandboxTagsGetV2 = SandboxTagsGet

    async def SandboxTagsSet(self, request, _call):
        """Other tags in place of those it has."""
        self.get(request.sandbox_id).tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        return Empty()

    SandboxTagsSetV2 = SandboxTagsSet

    async def SandboxSetName(self, request, _call):
        """Another name."""
        sandbox = self.get(request.sandbox_id)
        if self._named(sandbox.app, request.name):
            fail(Status.ALREADY_EXISTS, f"a sandbox {request.name!r} runs already")
        sandbox.name = request.name
        return api_pb2.SandboxSetNameResponse()

    # Its end

    async def SandboxWait(self, request, _call):
        """Its result, or none after so many seconds."""
        sandbox = self.get(request.sandbox_id)
        await _within(sandbox.finished, request.timeout)
        result = sandbox.result if sandbox.finished.is_set() else None
        return api_pb2.SandboxWaitResponse(
            result=result, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app))

    SandboxWaitV2 = SandboxWait

    async def SandboxTerminate(self, request, _call):
        """Ends it; the result that it had before is answered."""
        sandbox = self.get(request.sandbox_id)
        before = sandbox.result
        await sandbox.finish(Result.GENERIC_STATUS_TERMINATED, 137, "terminated")
        return api_pb2.SandboxTerminateResponse(existing_result=before)

    SandboxTerminateV2 = SandboxTerminate

    async def end_all(self, app=None):
        """Ends those of an app, or all."""
        await asyncio.gather(*(one.finish(Result.GENERIC_STATUS_TERMINATED, 137, "terminated")
                               for one in self.all.values() if app in (None, one.app)))
        await asyncio.gather(*(self.forget(name) for name, one in list(self.snapshots.items())
                               if app in (None, one.app)))

    async def forget(self, name):
        """A memory snapshot that nobody restores any more: its processes end."""
        sandbox = self.snapshots.pop(name)
        if sandbox.frozen:
            sandbox.frozen = False
            await sandbox.cell.stop()
            await asyncio.to_thread(shutil.rmtree, sandbox.folder, True)

    # The entrypoint's streams, V1

    async def SandboxGetLogs(self, request, _call):
        """What the entrypoint wrote, as text."""
        sandbox = self.get(request.sandbox_id)
        await sandbox.scheduled.wait()
        entry = sandbox.execs.get(ENTRYPOINT)
        stream = entry and (entry.stderr if request.file_descriptor ==
                            api_pb2.FILE_DESCRIPTOR_STDERR else entry.stdout)
        at = ids.place(request.last_entry_id)
        if stream:
            async for offset, piece in stream.read(at, self.world.faults.chunk):
                at = offset + len(piece)
                item = api_pb2.TaskLogs(data=piece.decode("utf-8", "replace"),
                                        timestamp=time.time(),
                                        file_descriptor=request.file_descriptor)
                yield api_pb2.TaskLogsBatch(task_id=sandbox.task, items=[item],
                                            entry_id=ids.entry(at))
        else:
            await sandbox.finished.wait()
        yield api_pb2.TaskLogsBatch(task_id=sandbox.task, entry_id=ids.entry(at), eof=True)

    async def SandboxStdinWrite(self, request, _call):
        """What the entrypoint reads; `index` counts from 1."""
        sandbox = self.get(request.sandbox_id)
        await sandbox.scheduled.wait()
        entry = sandbox.execs.get(ENTRYPOINT)
        if entry is None or sandbox.result:
            fail(Status.FAILED_PRECONDITION, "nothing reads there")
        seen = entry.__dict__.setdefault("indexes", set())
        if request.index not in seen:
            seen.add(request.index)
            await entry.stdin.write(entry.stdin.offset, request.input, request.eof)
        return api_pb2.SandboxStdinWriteResponse()

    # Snapshots

    async def SandboxSnapshotFs(self, request, _call):
        """An image of its files."""
        sandbox = self.get(request.sandbox_id)
        if sandbox.result:
            fail(Status.FAILED_PRECONDITION, "the sandbox has ended")
        image = await asyncio.to_thread(self.world.images.copy, sandbox.image, sandbox.copy_files)
        return api_pb2.SandboxSnapshotFsResponse(
            image_id=image.id, result=image.result, image_metadata=image.metadata())

    async def SandboxSnapshot(self, request, _call):
        """Of its memory and files; it is over then."""
        sandbox = self.get(request.sandbox_id)
        return api_pb2.SandboxSnapshotResponse(snapshot_id=await self.snapshot(sandbox))

    async def snapshot(self, sandbox):
        """Keeps what a sandbox can be restored from."""
        await sandbox.freeze()
        name = ids.short("sn")
        self.snapshots[name] = sandbox
        return name

    async def SandboxSnapshotWait(self, request, _call):
        """It is there at once."""
        if request.snapshot_id not in self.snapshots:
            missing("snapshot", request.snapshot_id)
        return api_pb2.SandboxSnapshotWaitResponse(
            result=Result(status=Result.GENERIC_STATUS_SUCCESS))

    async def SandboxSnapshotGet(self, request, _call):
        """Which generation it is of."""
        sandbox = self.snapshots.get(request.snapshot_id) or missing("snapshot",
                                                                     request.snapshot_id)
        metadata = api_pb2.SandboxSnapshotHandleMetadata(is_v2=sandbox.generation == 2)
        return api_pb2.SandboxSnapshotGetResponse(snapshot_id=request.snapshot_id,
                                                  handle_metadata=metadata)

    async def SandboxRestore(self, request, _call):
        """A new sandbox that goes on where the snapshot's was."""
        return api_pb2.SandboxRestoreResponse(sandbox_id=(await self._restore(request)).id)

    async def SandboxRestoreV2(self, request, _call):
        """A new sandbox that goes on where the snapshot's was."""
        sandbox = await self._restore(request)
        reply = api_pb2.SandboxRestoreV2Response(
            sandbox_id=sandbox.id, task_id=sandbox.task, tunnels=sandbox.tunnel_data(),
            metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app))
        reply.command_router_access.CopyFrom(sandbox.access())
        return reply

    async def _restore(self, request):
        old = self.snapshots.get(request.snapshot_id) or missing("snapshot", request.snapshot_id)
        definition = api_pb2.Sandbox()
        definition.CopyFrom(old.definition)
        kinds = api_pb2.SandboxRestoreRequest
        if request.sandbox_name_override_type == kinds.SANDBOX_NAME_OVERRIDE_TYPE_NONE:
            definition.ClearField("name")
        elif request.sandbox_name_override_type == kinds.SANDBOX_NAME_OVERRIDE_TYPE_STRING:
            definition.name = request.sandbox_name_override
        if not old.frozen:
            fail(Status.UNIMPLEMENTED, "the played Modal can restore a memory snapshot only once")
        # Nothing says that tags come with a snapshot, so none do.
        sandbox = self._new(old.generation, old.app, definition, (), old.env)
        old.frozen = False
        await asyncio.sleep(self.world.faults.create_seconds)
        await sandbox.thaw(old)
        return sandbox


async def _within(event, seconds):
    """Has it happened within so many seconds?"""
    if seconds and not event.is_set():
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except asyncio.TimeoutError:
            return False
    return event.is_set()
