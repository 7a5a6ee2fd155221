"""Images: layers that are known by what they are made of, and builds whose log is streamed.

Nothing is installed: a layer that installs packages is built when this machine's interpreter has
them (or apt does the installing), and fails as pip does when it has not.
"""

import asyncio
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field

from grpclib import Status
from modal_proto import api_pb2

from . import ids
from .rpc import fail, missing

VERSION = "2025.06"
# What a package is imported as where that is something else.
MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "jupyter-kernel-gateway": "kernel_gateway",
           "jupyter-server": "jupyter_server", "pyyaml": "yaml", "bash-kernel": "bash_kernel",
           "ipython": "IPython"}
PRIVATE = "private.example/"  # images of this registry are there for those with its secret
REGISTRY_AUTH = {
    api_pb2.REGISTRY_AUTH_TYPE_AWS: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"),
    api_pb2.REGISTRY_AUTH_TYPE_GCP: ("SERVICE_ACCOUNT_JSON",),
    api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS: ("REGISTRY_USERNAME", "REGISTRY_PASSWORD"),
}
UNAUTHORIZED = "pull access denied for {name}: unauthorized: authentication required"
PIP_FAILS = """\
ERROR: Could not find a version that satisfies the requirement {name} (from versions: none)
ERROR: No matching distribution found for {name}
"""
Result = api_pb2.GenericResult


@dataclass
class Image:
    """One layer with all below it."""

    id: str
    commands: list
    env: dict
    workdir: str
    cmd: list  # what a sandbox without arguments runs
    root: object = None  # a folder that its sandboxes' roots are copies of
    log: list = field(default_factory=list)
    result: object = None
    base: str = ""
    secrets: list = field(default_factory=list)
    registry: object = None
    built: asyncio.Event = field(default_factory=asyncio.Event)

    def metadata(self):
        """What the SDK keeps of it."""
        return api_pb2.ImageMetadata(python_version_info="3.11.2", workdir=self.workdir or "/root",
                                     image_builder_version=VERSION)


def packages_of(command):
    """What a command installs with pip or uv."""
    found = re.search(r"\b(?:pip3?|uv pip) install (.*)", command)
    if not found:
        return []
    words = [word for word in shlex.split(found.group(1)) if not word.startswith("-")]
    return [re.split(r"[\[<>=!~; ]", word)[0] for word in words if word not in ("pip", "uv")]


class Images:
    """All images of the server."""

    def __init__(self, base, world, pythons):
        self.folder = base / "images"
        self.folder.mkdir()
        self.world = world
        self.pythons = pythons
        self.all = {}
        self._by_content = {}
        self._importable = {}

    def get(self, name):
        """An image that has been built, or the call fails."""
        image = self.all.get(name) or missing("image", name)
        if image.result is None or image.result.status != Result.GENERIC_STATUS_SUCCESS:
            fail(Status.FAILED_PRECONDITION, f"image {name} is not built")
        return image

    def copy(self, like, make):
        """An image of a sandbox's files: `make(folder)` copies them."""
        image = Image(ids.short("im"), list(like.commands), dict(like.env), like.workdir,
                      list(like.cmd))
        image.root = self.folder / image.id
        make(image.root)
        return self._finish(image, Result(status=Result.GENERIC_STATUS_SUCCESS))

    def _finish(self, image, result):
        image.result = result
        image.built.set()
        self.all[image.id] = image
        return image

    async def ImageGetOrCreate(self, request, _call):
        """A layer by what it is made of; one that is new is built meanwhile."""
        if request.app_id not in self.world.apps:
            missing("app", request.app_id)
        if not request.builder_version:
            fail(Status.INVALID_ARGUMENT, "builder_version is missing")
        content = request.image.SerializeToString(deterministic=True)
        key = hashlib.sha256(content + request.builder_version.encode()).hexdigest()
        image = self._by_content.get(key)
        failed = image and image.result and image.result.status != Result.GENERIC_STATUS_SUCCESS
        if image is None or failed or request.force_build:
            image = self._by_content[key] = self._define(request.image)
            self.world.spawn(self._build(image, request.image))
        reply = api_pb2.ImageGetOrCreateResponse(image_id=image.id)
        if image.result:
            reply.result.CopyFrom(image.result)
            reply.metadata.CopyFrom(image.metadata())
        return reply

    def _define(self, definition):
        below = [self.get(one.image_id) for one in definition.base_images]
        known = set(self.world.secrets)
        if unknown := set(definition.secret_ids) - known:
            missing("secret", sorted(unknown)[0])
        image = Image(ids.short("im"), list(definition.dockerfile_commands),
                      dict(below[0].env) if below else {}, below[0].workdir if below else "",
                      list(below[0].cmd) if below else [],
                      root=below[0].root if below else None,
                      secrets=list(definition.secret_ids),
                      registry=definition.image_registry_config)
        for command in image.commands:
            word, _, rest = command.partition(" ")
            if word == "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    image.env[name] = value
            elif word == "WORKDIR":
                image.workdir = rest.strip()
            elif word == "CMD" and rest.startswith("["):
                image.cmd = json.loads(rest)
        self.all[image.id] = image
        return image

    async def _build(self, image, definition):
        faults = self.world.faults
        await asyncio.sleep(faults.image_seconds)
        reason = faults.image
        for number, command in enumerate(image.commands, 1):
            self._say(image, f"Step {number}/{len(image.commands)} : {command}\n")
            missing_one = await self._lacks(command)
            if not self._may_fetch(image, command):
                reason = UNAUTHORIZED.format(name=command.split()[1])
                break
            if missing_one:
                self._say(image, PIP_FAILS.format(name=missing_one))
                reason = reason or f"Image build terminated with exit code 1 in: {command}"
                break
            if command.startswith("COPY ") and definition.context_mount_id:
                self._copy(image, definition.context_mount_id, command.split()[-1])
        if reason:
            self._say(image, f"{reason}\n")
            result = Result(status=Result.GENERIC_STATUS_FAILURE, exception=reason, exitcode=1)
        else:
            self._say(image, f"Built image {image.id}\n")
            result = Result(status=Result.GENERIC_STATUS_SUCCESS)
        self._finish(image, result)

    def _may_fetch(self, image, command):
        """With the secret's variables for the kind that was said."""
        if not command.startswith(f"FROM {PRIVATE}"):
            return True
        secret = self.world.secrets.get(image.registry.secret_id)
        wanted = REGISTRY_AUTH.get(image.registry.registry_auth_type)
        return bool(secret and wanted and set(wanted) <= set(secret.content))

    def _copy(self, image, mount, target):
        root = self.folder / image.id
        if image.root:
            shutil.copytree(image.root, root, symlinks=True, dirs_exist_ok=True)
        self.world.mounts.write(mount, root / target.strip("/"))
        image.root = root

    def _say(self, image, text):
        image.log.append(api_pb2.TaskLogs(data=text, timestamp=time.time(),
                                          file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT))

    async def _lacks(self, command):
        for package in packages_of(command):
            if not await asyncio.to_thread(self._has, package):
                return package
        return None

    def _has(self, package):
        if package not in self._importable:
            module = MODULES.get(package.lower().replace("_", "-"),
                                 package.replace("-", "_").replace(".", "_"))
            code = ("import importlib.util, sys\n"
                    "sys.exit(importlib.util.find_spec(sys.argv[1]) is None)")
            self._importable[package] = any(
                subprocess.run([python, "-c", code, module], capture_output=True,
                               check=False).returncode == 0 for python in self.pythons)
        return self._importable[package]

    async def ImageJoinStreaming(self, request, _call):
        """The log from an entry on, and the result at its end."""
        image = self.all.get(request.image_id) or missing("image", request.image_id)
        at = ids.place(request.last_entry_id)
        deadline = time.monotonic() + (request.timeout or 55)
        while True:
            if at < len(image.log):
                fresh = image.log[at:at + 8]
                at += len(fresh)
                yield api_pb2.ImageJoinStreamingResponse(task_logs=fresh, entry_id=ids.entry(at))
            elif image.result:
                yield api_pb2.ImageJoinStreamingResponse(
                    result=image.result, entry_id=ids.entry(at), eof=True,
                    metadata=image.metadata())
                return
            elif time.monotonic() > deadline:
                return
            else:
                await asyncio.sleep(0.02)

    async def ImageFromId(self, request, _call):
        """An image that is there."""
        image = self.get(request.image_id)
        return api_pb2.ImageFromIdResponse(image_id=image.id, metadata=image.metadata())

    async def ImageDelete(self, request, _call):
        """Takes an image away."""
        from google.protobuf.empty_pb2 import Empty
        if self.all.pop(request.image_id, None) is None:
            missing("image", request.image_id)
        self._by_content = {k: v for k, v in self._by_content.items() if v.id != request.image_id}
        return Empty()

    def describe(self):
        """For the state."""
        return [{"id": image.id, "commands": image.commands, "env": image.env,
                 "secrets": image.secrets, "status": image.result.status if image.result else 0}
                for image in self.all.values()]
