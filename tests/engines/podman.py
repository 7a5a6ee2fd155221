"""Podman's API service with a store, a run folder and a network of its own."""

import contextlib
import json
import re
import resource
import shlex
import subprocess

from . import images
from .api import Api
from .common import Engine, run, which
from .docker import remove_cgroups

BRIDGE, GATEWAY, SUBNET = "cellblock1", "10.213.78.1", "10.213.78.0/24"
NETWORK = {
    "name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
    "driver": "bridge", "network_interface": BRIDGE, "created": "2026-01-01T00:00:00Z",
    "subnets": [{"subnet": SUBNET, "gateway": GATEWAY}], "ipv6_enabled": False, "internal": False,
    "dns_enabled": False, "ipam_options": {"driver": "host-local"},
}
CHAINS = "NETAVARK"  # of Podman's network program; they stay when the last container is gone


class Podman(Engine):
    """start() answers {"host": "unix://…", "command": the prefix of a podman on the same store}."""

    name = "podman"
    packages = ("podman", "runc", "netavark", "iptables", "iproute2", "mmdebstrap")
    commands = ("podman", "runc", "iptables", "ip", "mmdebstrap")
    root_only = True

    def command(self):
        """podman with everything of its own."""
        here = self.folder
        return ["env", f"CONTAINERS_CONF={here}/containers.conf", which("podman"),
                "--root", f"{here}/store", "--runroot", f"{here}/run",
                "--tmpdir", f"{here}/tmp", "--network-config-dir", f"{here}/networks",
                "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
                "--events-backend", "file", "--runtime", which("runc")]

    def launch(self):
        self._configure()
        for name, archive in images.archives().items():
            self._load(archive, images.TAGS[name])
        socket = self.folder / "podman.sock"
        process = self.spawn([*self.command(), "system", "service", "--time=0", f"unix://{socket}"])
        api = Api(socket)
        self.wait("podman did not answer", api.ping, process)
        return {"host": f"unix://{socket}", "command": self.command(), "gateway": GATEWAY}

    def _configure(self):
        """No limit above this process's own: where it may not be raised nothing would start."""
        most = {"nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1]}
        with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
            most["nproc"] = min(int(file.read()), most["nproc"] % (1 << 31))
        limits = ", ".join(f'"{name}={hard}:{hard}"' for name, hard in most.items() if hard > 0)
        self._write("containers.conf", f"[containers]\ndefault_ulimits = [{limits}]\n")
        (self.folder / "networks").mkdir()
        self._write("networks/podman.json", json.dumps(NETWORK))
        if CHAINS in self._rules("filter"):
            self._write("others", "")

    def _write(self, name, text):
        (self.folder / name).write_text(text, encoding="ascii")

    def _load(self, archive, names):
        # A name without a registry is looked up at the default one by Podman's compatible API.
        wanted = [f"docker.io/{'library/' if '/' not in name else ''}{name}" for name in names]
        run(*self.command(), "import", "--change", 'CMD ["python3"]', archive, wanted[0],
            timeout=300)
        if wanted[1:]:
            run(*self.command(), "tag", wanted[0], *wanted[1:], timeout=60)

    def leftovers(self):
        return Api(self.running()["host"]).ownerless()

    def cleanup(self):
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run([*self.command(), "rm", "--all", "--force", "--time", "0", "--volumes"],
                           capture_output=True, timeout=60)

    def swept(self):
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)
        remove_cgroups("libpod_parent")
        if self.folder.exists() and not (self.folder / "others").exists():
            for table in ("filter", "nat"):
                self._forget_chains(table)

    def _rules(self, table):
        program = which("iptables-save")
        return run(program, "-t", table) if program else ""

    def _forget_chains(self, table):
        """Takes away the chains, unless somebody else's Podman had them before."""
        ours = [line for line in self._rules(table).splitlines() if f" {CHAINS}" in line]
        jumps = [shlex.split(line)[1:] for line in ours if not line.startswith(f"-A {CHAINS}")]
        chains = re.findall(rf"^:({CHAINS}\S*)", self._rules(table), re.M)
        for words in ([["-D", *jump] for jump in jumps] + [["-F", chain] for chain in chains]
                      + [["-X", chain] for chain in chains]):
            run(which("iptables"), "-w", "-t", table, *words)
