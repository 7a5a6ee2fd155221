"""Podman's API service with a store and a run folder of its own."""

import contextlib
import subprocess

from . import images
from .api import Api
from .common import Engine, run, which
from .docker import remove_cgroups


class Podman(Engine):
    """start() answers {"host": "unix://…", "command": the prefix of a podman on the same store}."""

    name = "podman"
    packages = ("podman", "crun", "netavark", "aardvark-dns", "mmdebstrap")
    commands = ("podman", "crun", "mmdebstrap")
    root_only = True

    def command(self):
        """podman with everything of its own."""
        here = self.folder
        return [which("podman"), "--root", f"{here}/store", "--runroot", f"{here}/run",
                "--tmpdir", f"{here}/tmp", "--network-config-dir", f"{here}/networks",
                "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
                "--events-backend", "file", "--runtime", which("crun")]

    def launch(self):
        for name, archive in images.archives().items():
            self._load(archive, images.TAGS[name])
        socket = self.folder / "podman.sock"
        process = self.spawn([*self.command(), "system", "service", "--time=0", f"unix://{socket}"])
        api = Api(socket)
        self.wait("podman did not answer", api.ping, process)
        return {"host": f"unix://{socket}", "command": self.command()}

    def _load(self, archive, names):
        # A name without a registry is looked up at the default one by Podman's compatible API.
        wanted = [f"docker.io/{'library/' if '/' not in name else ''}{name}" for name in names]
        run(*self.command(), "import", "--change", 'CMD ["python3"]', archive, wanted[0],
            timeout=300)
        if wanted[1:]:
            run(*self.command(), "tag", wanted[0], *wanted[1:], timeout=60)

    def cleanup(self):
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run([*self.command(), "rm", "--all", "--force", "--time", "0", "--volumes"],
                           capture_output=True, timeout=60)

    def swept(self):
        remove_cgroups("libpod_parent")


