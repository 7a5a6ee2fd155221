"""dockerd and a containerd of its own on a private socket, with a bridge of its own.

A person's own engine is not touched: no chain of theirs is changed (`--iptables=false`), the bridge
has its own name, and one rule, which stop() takes away again, lets the bridge's containers out.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from . import images
from .api import Api, ApiError
from .common import Engine, which

BRIDGE, GATEWAY, SUBNET = "cellblock0", "10.213.77.1", "10.213.77.0/24"
CGROUP = "cellblock-test-docker"
RULES = (
    ("nat", "POSTROUTING", ("-s", SUBNET, "!", "-o", BRIDGE, "-j", "MASQUERADE")),
    ("filter", "FORWARD", ("-i", BRIDGE, "-j", "ACCEPT")),
    ("filter", "FORWARD", ("-o", BRIDGE, "-j", "ACCEPT")),
)
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


class Docker(Engine):
    """start() answers {"host": "unix://…", "gateway": the host as a container sees it}."""

    name = "docker"
    packages = ("docker.io", "iptables", "iproute2", "mmdebstrap")
    commands = ("dockerd", "containerd", "runc", "iptables", "ip", "mmdebstrap")
    root_only = True

    def launch(self):
        self._network()
        socket = self.folder / "docker.sock"
        process = self.spawn([
            which("dockerd"), "-H", f"unix://{socket}", "--data-root", self.folder / "data",
            "--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid",
            "--config-file", self._config(), "--bridge", BRIDGE, "--iptables=false",
            "--ip6tables=false", "--ip-masq=false", "--cgroup-parent", f"/{CGROUP}"])
        api = Api(socket)
        self.wait("dockerd did not answer", api.ping, process)
        for name, archive in images.archives().items():
            api.load(archive, images.TAGS[name])
        return {"host": f"unix://{socket}", "gateway": GATEWAY}

    def _config(self):
        """An empty configuration: the machine's own is not ours."""
        path = self.folder / "daemon.json"
        path.write_text("{}\n", encoding="ascii")
        return path

    def _network(self):
        if subprocess.run(["ip", "link", "show", BRIDGE], capture_output=True).returncode != 0:
            self._must("ip", "link", "add", BRIDGE, "type", "bridge")
            self._must("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        self._must("ip", "link", "set", BRIDGE, "up")
        self._forward(True)
        for table, chain, rule in RULES:
            self._must("iptables", "-w", "-t", table, "-I", chain, *rule)

    def _forward(self, on):
        """Packets are forwarded while it runs; afterwards as before."""
        before = self.folder / "ip_forward"
        if on:
            before.write_text(FORWARD.read_text(encoding="ascii"), encoding="ascii")
            FORWARD.write_text("1\n", encoding="ascii")
        elif before.exists():
            FORWARD.write_text(before.read_text(encoding="ascii"), encoding="ascii")

    def _must(self, command, *arguments):
        subprocess.run([which(command), *arguments], check=True, capture_output=True)

    def leftovers(self):
        return Api(self.running()["host"]).ownerless()

    def cleanup(self):
        api = Api(self.folder / "docker.sock")
        for container in api.containers():
            with contextlib.suppress(ApiError):
                api.remove(container["Id"])

    def swept(self):
        if os.getuid() != 0:
            return
        self._forward(False)
        for table, chain, rule in RULES:
            while which("iptables") and subprocess.run(
                    [which("iptables"), "-w", "-t", table, "-D", chain, *rule],
                    capture_output=True).returncode == 0:
                pass
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)
        remove_cgroups(CGROUP)


def remove_cgroups(name):
    """The empty control groups that an engine leaves behind, in every hierarchy."""
    for top in Path("/sys/fs/cgroup").glob("**/" + name):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


