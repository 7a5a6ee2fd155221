"""The door for tests (see faults.py) and the place where blobs are put and got, over HTTP."""

import contextlib
import hashlib

from aiohttp import web

from .rpc import GRPCError
from .sandbox import Result

LARGEST = 1 << 30
ENDS = {"terminated": Result.GENERIC_STATUS_TERMINATED, "oom":
        Result.GENERIC_STATUS_KERNEL_OOM_KILL, "gone": Result.GENERIC_STATUS_INTERNAL_FAILURE,
        "timeout": Result.GENERIC_STATUS_TIMEOUT, "idle": Result.GENERIC_STATUS_IDLE_TIMEOUT,
        "evicted": Result.GENERIC_STATUS_MEMORY_MANAGER_EVICTION}


class Door:
    """The HTTP server; `url` is where it listens."""

    def __init__(self, world):
        self.world = world
        self.url = ""
        self.changed = None  # called after the settings have been changed
        self._runner = None

    async def listen(self):
        """Starts it on a free port of the loopback."""
        app = web.Application(client_max_size=LARGEST)
        app.add_routes([
            web.get("/state", self.state), web.post("/fault", self.fault),
            web.post("/set", self.set), web.post("/reset", self.reset), web.post("/end", self.end),
            web.put("/blob/{name}", self.put), web.get("/blob/{name}", self.get),
            web.put("/blob/{name}/part/{number}", self.part),
            web.post("/blob/{name}/complete", self.complete)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def close(self):
        """Ends it."""
        await self._runner.cleanup()

    async def state(self, _request):
        """All there is."""
        world, faults = self.world, self.world.faults
        return web.json_response({
            "sandboxes": [one.describe() for one in world.sandboxes.all.values()],
            "images": world.images.describe(), "calls": faults.calls, "log": faults.log,
            "connections": len(faults.connections), "settings": faults.settings,
            "faults": faults.waiting, "apps": [vars(one) for one in world.apps.values()],
            "volumes": [{"id": one.id, "name": one.name, "beats": one.beats,
                         "folder": str(one.content)} for one in world.volumes.values()],
            "mounts": world.mounts.describe(),
            "secrets": [{"id": one.id, "name": one.name, "keys": list(one.content)}
                        for one in world.secrets.values()]})

    async def fault(self, request):
        """One more."""
        with contextlib.suppress(KeyError):
            self.world.faults.add(await request.json())
            return web.json_response({})
        raise web.HTTPBadRequest(text="no such fault")

    async def set(self, request):
        """Settings."""
        with contextlib.suppress(KeyError):
            self.world.faults.set(await request.json())
            await self.changed()
            return web.json_response({})
        raise web.HTTPBadRequest(text="no such setting")

    async def reset(self, _request):
        """All as at the start, but for what runs."""
        self.world.faults.reset()
        await self.changed()
        return web.json_response({})

    async def end(self, request):
        """A sandbox's end from outside."""
        words = await request.json()
        for sandbox in list(self.world.sandboxes.all.values()):
            if words["sandbox"] in (sandbox.id, sandbox.name) and sandbox.result is None:
                await sandbox.finish(ENDS[words.get("how", "terminated")], 137, "ended by a test")
                return web.json_response({"id": sandbox.id})
        raise web.HTTPNotFound

    def _blob(self, request):
        try:
            return self.world.mounts.blob(request.match_info["name"])
        except GRPCError as problem:
            raise web.HTTPNotFound from problem

    async def _come(self, name, request, needs_type):
        """What came over HTTP, and what is to go wrong with its answer."""
        fault = self.world.faults.over_http(name)
        if request.content_length is None:  # as S3: no chunks of any length
            raise web.HTTPLengthRequired
        if needs_type != (request.headers.get("Content-Type") == "application/octet-stream"):
            raise web.HTTPForbidden(text="SignatureDoesNotMatch: Content-Type")
        data = await request.read()
        if fault.get("what") == "status":
            return data, web.Response(status=fault.get("status", 503), text="SlowDown")
        return data, web.Response(headers={"ETag": '"0"'}) if fault else None

    async def put(self, request):
        """A blob."""
        self._blob(request)
        data, wrong = await self._come("BlobPut", request, True)
        return wrong or self._answer(lambda: self.world.mounts.take(request.match_info["name"],
                                                                    data))

    async def part(self, request):
        """A part of one."""
        self._blob(request)
        data, wrong = await self._come("BlobPut", request, False)
        self.world.mounts.parts[request.match_info["name"]][
            int(request.match_info["number"])] = data
        return wrong or web.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    async def complete(self, request):
        """All of its parts."""
        self._blob(request)
        text, wrong = await self._come("BlobComplete", request, False)
        return wrong or self._answer(lambda: self.world.mounts.complete(
            request.match_info["name"], text.decode()), "<Result><ETag>{}</ETag></Result>")

    @staticmethod
    def _answer(take, text=""):
        try:
            etag = take()
        except ValueError as problem:
            raise web.HTTPBadRequest(text=str(problem)) from problem
        return web.Response(headers={"ETag": f'"{etag}"'}, text=text.format(etag))

    async def get(self, request):
        """A blob."""
        path = self._blob(request)
        if not path.exists():
            raise web.HTTPNotFound
        return web.FileResponse(path)
