"""The control plane's plain objects: environments, apps, secrets, volumes, mounts, blobs."""

import asyncio
import shutil
import time
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from . import ids
from .images import VERSION
from .rpc import fail, missing

PROXY_ID = "pr-Tests0123456789abcdefg"
MAIN = "main"  # the environment whose name may be left out
TOKEN_ID, TOKEN_SECRET = "ak-cellblocktests", "as-cellblocktests"
# What asks for the token that AuthTokenGet gives out; the first generation's calls don't.
GUARDED = ("V2", "SandboxGetCommandRouterAccess", "SandboxSetName")


@dataclass
class Thing:
    """An object that may have a name."""

    id: str
    name: str = ""
    environment: str = MAIN
    content: object = None
    app: str = ""
    ephemeral: bool = False
    made: float = field(default_factory=time.time)
    beats: int = 0


class World:
    """What the server's parts share: the faults, and tasks that run until the end."""

    def __init__(self, base, faults, tokens):
        self.base = base
        self.faults = faults
        self.tokens = tokens
        self.environments = {MAIN}
        self.apps, self.secrets, self.volumes, self.shares = {}, {}, {}, {}
        # Made by hand at the service, so there is one.
        self.proxies = {PROXY_ID: Thing(PROXY_ID, "a-proxy")}
        self.mounts = None
        self._tasks = set()

    def spawn(self, coroutine):
        """Runs something beside the calls."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def authorize(self, call):
        """Who calls, by the token's two halves and, for the second generation, its JWT."""
        given = (call.header("x-modal-token-id"), call.header("x-modal-token-secret"))
        if given != (TOKEN_ID, TOKEN_SECRET):
            fail(Status.UNAUTHENTICATED, "Token ID and secret do not match")
        for name in ("x-modal-client-type", "x-modal-client-version"):
            if not call.header(name):
                fail(Status.INVALID_ARGUMENT, f"{name} is missing")
        token = call.header("x-modal-auth-token")
        if token or call.name.endswith(GUARDED):
            if self.tokens.check("auth", token) is None:
                fail(Status.UNAUTHENTICATED, "the auth token is missing, wrong or expired")

    def environment(self, name):
        """The name of an environment that is there."""
        if (name or MAIN) not in self.environments:
            missing("environment", name)
        return name or MAIN


def find(things, name, environment):
    """The named one of an environment, or None."""
    return next((one for one in things.values()
                 if name and (one.name, one.environment) == (name, environment)), None)


class Control:
    """Methods of the control plane; see rpc.py for how they are called."""

    def __init__(self, world):
        self.world = world

    async def ClientHello(self, _request, _call):
        """Nothing to warn of."""
        return api_pb2.ClientHelloResponse(image_builder_version=VERSION)

    async def AuthTokenGet(self, _request, _call):
        """A token for a while."""
        return api_pb2.AuthTokenGetResponse(token=self.world.tokens.make("auth", sub="ac-tests"))

    async def EnvironmentGetOrCreate(self, request, _call):
        """An environment; "" is the main one."""
        name = request.deployment_name
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
            self.world.environments.add(name or MAIN)
        name = self.world.environment(name)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=f"en-{name}", metadata=api_pb2.EnvironmentMetadata(
                name=name, settings=api_pb2.EnvironmentSettings(image_builder_version=VERSION)))

    async def AppGetOrCreate(self, request, _call):
        """An app that stays."""
        thing = self._named(self.world.apps, "ap", request.app_name, request.environment_name,
                            request.object_creation_type)
        return api_pb2.AppGetOrCreateResponse(app_id=thing.id)

    async def AppCreate(self, request, _call):
        """An app that goes when its client does."""
        thing = Thing(ids.short("ap"), environment=self.world.environment(request.environment_name),
                      content=request.description, ephemeral=True)
        self.world.apps[thing.id] = thing
        return api_pb2.AppCreateResponse(app_id=thing.id, app_page_url="http://localhost/app",
                                         app_logs_url="http://localhost/logs")

    async def AppHeartbeat(self, request, _call):
        """It is still wanted."""
        self._get("app", self.world.apps, request.app_id).beats += 1
        return Empty()

    async def AppClientDisconnect(self, request, _call):
        """Ends the app's sandboxes."""
        await self._stop(request.app_id)
        return Empty()

    async def AppStop(self, request, _call):
        """Ends the app's sandboxes."""
        await self._stop(request.app_id)
        return Empty()

    async def _stop(self, app):
        self._get("app", self.world.apps, app)
        await self.world.sandboxes.end_all(app)

    @staticmethod
    def _get(what, things, name):
        return things.get(name) or missing(what, name)

    def _named(self, things, prefix, name, environment, creation, content=None):
        """As GetOrCreate does: found by its name, or made."""
        environment = self.world.environment(environment)
        kinds = api_pb2.ObjectCreationType
        found = find(things, name, environment)
        if creation in (kinds.OBJECT_CREATION_TYPE_EPHEMERAL,
                        kinds.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP):
            found = None
        elif found and creation == kinds.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            fail(Status.ALREADY_EXISTS, f"{name!r} is there already")
        elif found and creation == kinds.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            found.content = content
        elif not found and creation == kinds.OBJECT_CREATION_TYPE_UNSPECIFIED:
            missing({"ap": "app", "st": "secret", "vo": "volume"}.get(prefix, prefix), name)
        if not found:
            found = Thing(ids.short(prefix), name, environment, content, ephemeral=not name)
            things[found.id] = found
        return found

    async def SecretGetOrCreate(self, request, _call):
        """A secret by its name, or one without a name."""
        thing = self._named(self.world.secrets, "st", request.deployment_name,
                            request.environment_name, request.object_creation_type,
                            dict(request.env_dict))
        if lacking := [key for key in request.required_keys if key not in thing.content]:
            fail(Status.FAILED_PRECONDITION, f"the secret lacks {', '.join(lacking)}")
        return api_pb2.SecretGetOrCreateResponse(
            secret_id=thing.id, metadata=api_pb2.SecretMetadata(name=thing.name,
                                                                keys=list(thing.content)))

    async def SecretGetInfo(self, request, _call):
        """Its keys, never its values."""
        thing = self._get("secret", self.world.secrets, request.secret_id)
        return api_pb2.SecretGetInfoResponse(
            metadata=api_pb2.SecretMetadata(name=thing.name, keys=list(thing.content)))

    async def ProxyGet(self, request, _call):
        """A proxy by its name."""
        thing = find(self.world.proxies, request.name,
                     self.world.environment(request.environment_name))
        return api_pb2.ProxyGetResponse(proxy=api_pb2.Proxy(
            name=request.name, proxy_id=thing.id if thing else missing("proxy", request.name)))

    async def SecretDelete(self, request, _call):
        """Takes it away."""
        self._get("secret", self.world.secrets, request.secret_id)
        del self.world.secrets[request.secret_id]
        return Empty()

    async def VolumeGetOrCreate(self, request, _call):
        """A folder of the server's."""
        thing = self._folder(self.world.volumes, "vo", request)
        version = request.version or api_pb2.VOLUME_FS_VERSION_V2
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=thing.id, version=version,
            metadata=api_pb2.VolumeMetadata(version=version, name=thing.name))

    def _folder(self, things, prefix, request):
        thing = self._named(things, prefix, request.deployment_name, request.environment_name,
                            request.object_creation_type)
        thing.content = self.world.base / "volumes" / thing.id
        thing.content.mkdir(parents=True, exist_ok=True)
        return thing

    async def VolumeHeartbeat(self, request, _call):
        """An ephemeral one is still wanted."""
        self._get("volume", self.world.volumes, request.volume_id).beats += 1
        return Empty()

    async def VolumeCommit(self, request, _call):
        """All is there already."""
        self._get("volume", self.world.volumes, request.volume_id)
        return api_pb2.VolumeCommitResponse()

    async def VolumeReload(self, request, _call):
        """All is there already."""
        self._get("volume", self.world.volumes, request.volume_id)
        return Empty()

    async def VolumeDelete(self, request, _call):
        """Takes it away."""
        thing = self._get("volume", self.world.volumes, request.volume_id)
        shutil.rmtree(thing.content)
        del self.world.volumes[thing.id]
        return Empty()

    async def SharedVolumeGetOrCreate(self, request, _call):
        """A network file system is a folder, too."""
        thing = self._folder(self.world.shares, "sv", request)
        return api_pb2.SharedVolumeGetOrCreateResponse(shared_volume_id=thing.id)

    async def SharedVolumeHeartbeat(self, request, _call):
        """An ephemeral one is still wanted."""
        self._get("network file system", self.world.shares, request.shared_volume_id).beats += 1
        return Empty()

    async def SharedVolumeDelete(self, request, _call):
        """Takes it away."""
        thing = self._get("network file system", self.world.shares, request.shared_volume_id)
        shutil.rmtree(thing.content)
        del self.world.shares[thing.id]
        return Empty()
