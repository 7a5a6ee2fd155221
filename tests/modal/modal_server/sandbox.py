"""One sandbox from its creation to its result: a cell, its entrypoint, time-outs, tunnels."""

import asyncio
import os
import shutil
import time
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from grpclib import Status
from modal_proto import api_pb2

from . import cells, ids, memory
from .execs import Exec
from .rpc import fail, missing
from .tunnels import HOST, Relays, Tunnels

Result = api_pb2.GenericResult
Network = api_pb2.NetworkAccess
ENTRYPOINT = "entrypoint"
KEPT_SECONDS = 5  # output of a process for those who are reading it at the sandbox's end
GONE = "the sandbox has ended"
OUT_OF_MEMORY = "the kernel has killed it: out of memory"


class Sandbox:
    """A sandbox; `task` is what the router knows it by."""

    def __init__(self, world, generation, app, definition, tags, env):
        self.world = world
        self.generation = generation
        self.app = app
        self.definition = definition
        self.tags = dict(tags)
        self.name = definition.name
        self.env = env
        self.id, self.task = ids.sandbox(generation), ids.task(generation)
        self.made = time.time()
        self.folder = world.base / "sandboxes" / self.id
        self.root = self.folder / "root"
        self.image = world.images.get(definition.image_id)
        self.network = definition.network_access
        self.execs = {}
        self.result = None
        self.finished = asyncio.Event()
        self.scheduled = asyncio.Event()
        self.cell = None
        self.tunnels = None
        self.frozen = False  # its cell is a snapshot's
        self._timers = []
        self._touched = time.monotonic()

    def touch(self):
        """Something was done with it."""
        self._touched = time.monotonic()

    # Its start

    async def start(self):
        """Starts everything; on failure it has a result that says why."""
        try:
            await asyncio.to_thread(self._make_folders)
            definition = self.definition
            self.cell = cells.Cell(
                self.root, self.world.tools, binds=self._binds(), network=self._open(),
                memory=definition.resources.memory_mb_max << 20, name=self.id)
            await self.cell.start()
            await self._attend()
            if command := list(definition.entrypoint_args) or self.image.cmd:
                await self.exec(ENTRYPOINT, command, {}, definition.workdir,
                                on_exit=self._entry_ended)
            self._timers.append(self.world.spawn(self._time_out()))
        except (OSError, shutil.Error, cells.CellError) as problem:
            await self.finish(Result.GENERIC_STATUS_INIT_FAILURE, 1, str(problem))
        self.scheduled.set()

    async def _attend(self):
        """Watches the cell, which runs, and opens its tunnels."""
        self._timers.append(self.world.spawn(self._watch()))
        if self.cell.limit.watched:
            self._timers.append(self.world.spawn(self._watch_memory()))
        definition = self.definition
        self.tunnels = Tunnels(self.cell, self.world.authority, self.touch,
                               definition.inbound_cidr_allowlist)
        if definition.open_ports.ports and self._reaches():
            own = [port.port for port in definition.open_ports.ports]
            self._timers.append(self.world.spawn(Relays(self.cell, own).follow()))
        for port in definition.open_ports.ports:
            await self.tunnels.listen(port.port, not port.unencrypted,
                                      port.tunnel_type == api_pb2.TUNNEL_TYPE_H2)

    # Memory snapshots

    async def freeze(self):
        """Its entrypoint's processes stop where they are, and it is over; see memory.py."""
        if self.result is not None:
            fail(Status.FAILED_PRECONDITION, GONE)
        if not self.definition.enable_snapshot:
            fail(Status.FAILED_PRECONDITION, "the sandbox was made without enable_snapshot")
        if busy := [one.id for one in self.execs.values()
                    if one.id != ENTRYPOINT and not one.done.is_set()]:
            fail(Status.FAILED_PRECONDITION, f"{len(busy)} execs are running in the sandbox")
        entry = self.execs.get(ENTRYPOINT)
        self.frozen = True
        await memory.freeze(self.cell, entry.pid if entry else None)
        await self.finish(Result.GENERIC_STATUS_TERMINATED, 137, "a memory snapshot was taken")

    async def thaw(self, old):
        """In place of start: goes on where another one was frozen."""
        self.folder, self.root, self.cell = old.folder, old.root, old.cell
        entry = old.execs.pop(ENTRYPOINT, None)
        if entry:
            self.execs[ENTRYPOINT] = entry
            entry.on_exit = self._entry_ended
        await self._attend()
        self._timers.append(self.world.spawn(self._time_out()))
        memory.thaw(self.cell)
        self.scheduled.set()

    def _make_folders(self):
        self.folder.mkdir(parents=True)
        cells.make_root(self.root, self.image.root)

    def _open(self):
        """Does it see this machine's network? One with tunnels has loopback ports of its own."""
        return self._reaches() and not self.definition.open_ports.ports

    def _reaches(self):
        """May it reach this machine?"""
        access = self.network
        if access.network_access_type == Network.BLOCKED:
            return False
        if access.network_access_type == Network.ALLOWLIST:
            return any(cidr.startswith(("127.", "0.0.0.0/0")) for cidr in access.allowed_cidrs)
        return True

    def _binds(self):
        world, found = self.world, []
        for mount in self.definition.volume_mounts:
            volume = world.volumes.get(mount.volume_id) or missing("volume", mount.volume_id)
            below = os.path.normpath("/" + mount.sub_path).lstrip("/")
            (volume.content / below).mkdir(parents=True, exist_ok=True)
            found.append((volume.content / below, mount.mount_path, mount.read_only))
        for mount in self.definition.nfs_mounts:
            share = world.shares.get(mount.shared_volume_id)
            found.append(((share or missing("share", mount.shared_volume_id)).content,
                          mount.mount_path, False))
        for mount in self.definition.cloud_bucket_mounts:
            folder = world.base / "buckets" / mount.bucket_name / mount.key_prefix.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            found.append((folder, mount.mount_path, mount.read_only))
        for number, mount in enumerate(self.definition.mount_ids):
            found += self._mounted(mount, self.folder / f"mount-{number}")
        return sorted(found, key=lambda bind: str(bind[1]).count("/"))

    def _mounted(self, mount, folder):
        """A mount's files read-only: as one folder where that is theirs alone."""
        self.world.mounts.write(mount, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        above = Path(os.path.commonpath([path.parent for path in files] or [folder]))
        target = "/" + str(above.relative_to(folder))
        shared = ("/.", *(f"/{name}" for name in cells.OWN))
        if len(files) == 1 or target in shared:
            return [(path, f"/{path.relative_to(folder)}", True) for path in files]
        return [(above, target, True)]

    # Processes

    def environment(self, more):
        """The variables of a process."""
        return {"PATH": cells.PATH, "HOME": "/root", "LANG": "C.UTF-8", "SHELL": "/bin/bash",
                "MODAL_SANDBOX_ID": self.id, "MODAL_TASK_ID": self.task, **self.image.env,
                **self._identity(), **self.env, **more}

    def _identity(self):
        if not self.definition.include_oidc_identity_token:
            return {}
        return {"MODAL_IDENTITY_TOKEN": self.world.tokens.make("identity", sandbox_id=self.id)}

    async def exec(self, name, argv, env, cwd, **options):
        """Starts a process in it."""
        self.touch()
        one = self.execs[name] = Exec(name, argv)
        on_exit = options.pop("on_exit", None)

        def exited(process):
            self.touch()
            if on_exit and not self.cell.limit.kills():
                on_exit(process)

        await one.start(self.cell, self.environment(env), cwd or self.image.workdir or "/root",
                        on_exit=exited, **options)
        return one

    def _entry_ended(self, process):
        if self.result is None and process.status is not None:
            good = process.status == 0
            status = process.status if process.status >= 0 else 128 - process.status
            self.world.spawn(self.finish(
                Result.GENERIC_STATUS_SUCCESS if good else Result.GENERIC_STATUS_FAILURE, status))

    # Its end

    async def _watch(self):
        await asyncio.shield(self.cell.ended)
        killed = self.cell.limit.kills()
        await self.finish(Result.GENERIC_STATUS_KERNEL_OOM_KILL if killed
                          else Result.GENERIC_STATUS_INTERNAL_FAILURE, 137,
                          OUT_OF_MEMORY if killed else "the sandbox's first process has died")

    async def _watch_memory(self):
        """Where the kernel kills one process, the service ends the whole sandbox."""
        while not self.cell.limit.kills():
            await asyncio.sleep(0.02)
        await self.finish(Result.GENERIC_STATUS_KERNEL_OOM_KILL, 137, OUT_OF_MEMORY)

    async def _time_out(self):
        """Ends it when its life is over, or when nothing is done with it."""
        life = self.definition.timeout_secs or 300
        idle = self.definition.idle_timeout_secs
        end = time.monotonic() + life
        while (left := end - time.monotonic()) > 0:
            if idle:
                if self.tunnels.busy or any(one.status is None for one in self.execs.values()
                                            if one.id != ENTRYPOINT):
                    self.touch()
                quiet = self._touched + idle - time.monotonic()
                if quiet <= 0:
                    await self.finish(Result.GENERIC_STATUS_IDLE_TIMEOUT, 0, "idle")
                    return
                left = min(left, quiet, 0.25)
            await asyncio.sleep(left)
        await self.finish(Result.GENERIC_STATUS_TIMEOUT, 124, f"timeout of {life} s")

    async def finish(self, status, exitcode=0, exception=""):
        """Its result; the first one stays. Everything of it but its files ends."""
        if self.result is not None:
            await self.finished.wait()
            return
        self.result = Result(status=status, exitcode=exitcode, exception=exception)
        entry = self.execs.get(ENTRYPOINT)
        for one in self.execs.values():
            if one is not entry:
                one.lose(GONE)
        if self.tunnels:
            self.tunnels.close()
        if self.cell and not self.frozen:
            await self.cell.stop()
        self.finished.set()
        self.scheduled.set()
        for timer in self._timers:
            if timer is not asyncio.current_task():
                timer.cancel()
        self.world.spawn(self._tidy())

    async def _tidy(self):
        """Its files, and what nobody can read any more."""
        if not self.frozen:
            await asyncio.to_thread(shutil.rmtree, self.folder, True)
        await asyncio.sleep(KEPT_SECONDS)
        for one in self.execs.values():
            if one.id != ENTRYPOINT:
                one.forget()

    # What is asked of it

    def access(self):
        """Where its router is and a token for it."""
        if self.result is not None:
            fail(Status.FAILED_PRECONDITION, f"sandbox {self.id} has ended")
        return api_pb2.CommandRouterAccess(
            url=self.world.router_url, jwt=self.world.tokens.make("router", task_id=self.task))

    def tunnel_data(self):
        """Its tunnels as the service lists them, or what is to be said of them."""
        if self.world.faults.tunnels:
            return [api_pb2.TunnelData(**one) for one in self.world.faults.tunnels]
        found = []
        for inner, (port, encrypted) in (self.tunnels.open if self.tunnels else {}).items():
            one = api_pb2.TunnelData(host=HOST, port=port, container_port=inner)
            if not encrypted:
                one.unencrypted_host, one.unencrypted_port = HOST, port
            found.append(one)
        return found

    def copy_files(self, folder, below="/"):
        """Copies its files, or those below a path, into a new folder."""
        source = self.root / below.lstrip("/")
        if not source.is_dir():
            missing("folder", below)
        inside = {str(bind[1]).rstrip("/") for bind in self.cell.extra}

        def left_out(where, names):
            at = "/" + str(Path(where).relative_to(self.root)).lstrip(".")
            return [name for name in names if os.path.join(at, name) in inside
                    or not stat_is_plain(os.path.join(where, name))]

        shutil.copytree(source, folder, symlinks=True, ignore=left_out)

    def info(self):
        """Its line in a list."""
        result = self.result
        return api_pb2.SandboxInfo(
            id=self.id, created_at=self.made, app_id=self.app, name=self.name,
            tags=tag_protos(self.tags), image_id=self.image.id, tunnels=self.tunnel_data(),
            timeout_secs=self.definition.timeout_secs,
            metadata=api_pb2.SandboxHandleMetadata(result=result, app_id=self.app),
            task_info=api_pb2.TaskInfo(id=self.task, started_at=self.made, result=result,
                                       sandbox_id=self.id))

    def describe(self):
        """For the state."""
        return {"id": self.id, "task": self.task, "name": self.name, "app": self.app,
                "tags": self.tags, "status": self.result.status if self.result else 0,
                "env": self.env, "generation": self.generation,
                "definition": MessageToDict(self.definition, preserving_proto_field_name=True),
                "network": MessageToDict(self.network, preserving_proto_field_name=True),
                "tunnels": self.tunnels.open if self.tunnels else {},
                "root": str(self.root), "execs": [e.describe() for e in self.execs.values()],
                "processes": memory.descendants(self.cell.process.pid) if self.cell and
                self.cell.process and self.result is None else []}


def tag_protos(tags):
    """Tags as the service sends them."""
    return [api_pb2.SandboxTag(tag_name=key, tag_value=value) for key, value in tags.items()]


def stat_is_plain(path):
    """A file, a folder or a link: what an image can hold."""
    return os.path.islink(path) or os.path.isdir(path) or os.path.isfile(path)
