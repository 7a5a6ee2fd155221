"""Starts the server:  python -m modal_server --base DIR [--port 0] [--tls] [--stay] [--info FILE]

Prints one line of JSON, also into FILE: url, router, door, ca, token_id, token_secret, base. Ends
all that it started when its stdin is closed (not with --stay) or on SIGTERM. With --tls it is at
127.0.0.2: to the SDKs, what is at 127.0.0.1 is a toy, and certificates are not looked at.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from grpclib.server import Server
from modal_proto import api_pb2, task_command_router_pb2

from .cells import PYTHON, Tools
from .control import TOKEN_ID, TOKEN_SECRET, Control, World
from .door import Door
from .faults import Faults
from .images import Images
from .mounts import Mounts
from .router import Router
from .rpc import Details, Service
from .sandboxes import Sandboxes
from .tokens import Tokens
from .tunnels import TLS_ADDRESS, Authority

VENV = Path(os.environ.get("CELLBLOCK_JUPYTER_VENV") or Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellblock-tests" / "jupyter")


class Modal:
    """The control plane, the router and the door."""

    def __init__(self, base, tls):
        base.mkdir(parents=True, exist_ok=True)
        tokens = Tokens()
        self.faults = Faults(tokens)
        self.world = world = World(base, self.faults, tokens)
        world.tools = Tools(base, VENV)
        world.authority = Authority(base)
        pythons = [PYTHON] + ([VENV / "bin" / "python"] if world.tools.venv else [])
        world.images = Images(base, world, pythons)
        world.sandboxes = Sandboxes(world)
        self.door = Door(world)
        self.tls = world.authority.context("h2") if tls else None
        self.address = TLS_ADDRESS if tls else "127.0.0.1"
        self.servers = []
        self.router, self._listens = None, True

    async def _listen(self, descriptor, objects, authorize, port):
        service = Service(descriptor, objects, self.faults, authorize)
        server = Server([service], status_details_codec=Details())
        await server.start(self.address, port, ssl=self.tls)
        self.servers.append(server)
        return server, server._server.sockets[0].getsockname()[1]

    async def start(self, port):
        """Listens; returns the line that is printed."""
        world, scheme = self.world, "https" if self.tls else "http"
        await self.door.listen()
        world.mounts = Mounts(world, self.door.url)
        self._plane = Router(world)
        inner = await self._listen_router(0)
        world.router_url = f"{scheme}://{self.address}:{inner}"
        _, outer = await self._listen(
            api_pb2.DESCRIPTOR.services_by_name["ModalClient"],
            [Control(world), world.mounts, world.images, world.sandboxes], world.authorize, port)
        self.door.changed = self._follow
        return {"url": f"{scheme}://{self.address}:{outer}", "router": world.router_url,
                "door": self.door.url, "ca": str(world.authority.file), "token_id": TOKEN_ID,
                "token_secret": TOKEN_SECRET, "base": str(world.base)}

    async def _follow(self):
        """The router listens as the settings say."""
        if self._listens and not self.faults.router:
            self.router.close()
            self._plane.hang_up()
        elif not self._listens and self.faults.router:
            port = int(self.world.router_url.rpartition(":")[2])
            await self._listen_router(port)
        self._listens = self.faults.router

    async def _listen_router(self, port):
        self.router, port = await self._listen(
            task_command_router_pb2.DESCRIPTOR.services_by_name["TaskCommandRouter"],
            [self._plane], self._plane.authorize, port)
        return port

    async def stop(self):
        """Ends all sandboxes, then itself."""
        await self.world.sandboxes.end_all()
        for server in self.servers:
            server.close()
        await self.door.close()


async def main(words):
    """Until stdin is closed or a signal comes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if not words.stay:
        loop.add_reader(0, lambda: os.read(0, 4096) or (loop.remove_reader(0), ended.set()))
    base = Path(words.base).resolve()
    fresh = not base.exists()
    if not fresh and any(base.iterdir()):
        sys.exit(f"{base} is not empty")
    server = Modal(base, words.tls)
    line = json.dumps(await server.start(words.port))
    if words.info:
        Path(words.info).write_text(line, encoding="utf-8")
    print(line, flush=True)
    await ended.wait()
    await server.stop()
    for path in [base] if fresh else base.iterdir():
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="modal_server")
    parser.add_argument("--base", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--info")
    sys.exit(asyncio.run(main(parser.parse_args())))
