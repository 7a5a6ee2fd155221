"""The engines' side of the attacks: servers whose place is elsewhere, and containers without walls.

`bare()` runs an attack in a container that was made through the engine's API without the guard in
question: there it has to escape, so that what held it is the guard.
"""

import contextlib
import json
import os
import socket
import struct
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attack import DISK_MIB, IS_ROOT, MARKER, MEMORY_MIB, PROCESSES, Cell, fill
from engines import ENGINES
from engines.api import Api, ApiError
from support import processes
from support.client import Client

IMAGE = "cellblock-test/python"
WATCHED = {"memory_mib": MEMORY_MIB, "disk_mib": DISK_MIB, "processes": PROCESSES, "pool": 0}
LIMITS = {"docker": WATCHED, "command": WATCHED}  # a Jupyter server has its own
AT_ONCE = 16
NOBODY = "65534:65534"
LABEL = "cellblock.test.security"
CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
WAKE_ALARM BLOCK_SUSPEND AUDIT_READ""".split()
_bare = {}


def unwalled():
    """What a container is made with to have nothing held back: all capabilities that there are
    on this machine to be given, no filter, the devices."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
    have = [name for number, name in enumerate(CAPABILITIES) if bits >> number & 1]
    devices = [{"PathOnHost": f"/dev/{name}", "PathInContainer": f"/dev/{name}",
                "CgroupPermissions": "rwm"} for name in ("kmsg",) if Path(f"/dev/{name}").exists()]
    return {"CapAdd": have, "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "Devices": devices, "NetworkMode": "bridge", "MaskedPaths": [], "ReadonlyPaths": []}


class Far:
    """A server whose sandboxes are elsewhere. It is used as attack.Server is."""

    variant = "far"

    def __init__(self, folder, backend, *args, environment=None, env=None, era="modern"):
        self.folder = Path(folder)
        self.folder.chmod(0o755)
        self.shares = self.folder / "shares"
        self.shares.mkdir(exist_ok=True)
        config = self.folder / "config.json"
        config.write_text(json.dumps({"environments": {"default": {
            "backend": backend, "timeout_seconds": 40, **LIMITS.get(backend, {}),
            **(environment or {})}}}),
            encoding="utf-8")
        self.client = Client("--config", config, "--share-root", self.shares, *args, era=era,
                             env={"CELLBLOCK_SECURITY_MARKER": MARKER, **(env or {})})

    def cell(self):
        """A session that nobody else uses."""
        return Cell(self)


@contextlib.contextmanager
def far(backend, *args, **options):
    """A server for one test or one file; closing it checks that nothing is left here."""
    with tempfile.TemporaryDirectory(prefix="cellblock-security-") as folder:
        one = Far(folder, backend, *args, **options)
        with one.client:
            yield one


@contextlib.contextmanager
def running(name):
    """An engine of tests/engines and what it needs; ended if it did not run before."""
    engine = ENGINES[name]()
    before = engine.running()
    info = engine.start()
    try:
        yield engine, info
    finally:
        if not before:
            engine.stop()


def available(name):
    """Can this engine be had here? None, or why not."""
    return ENGINES[name]().missing()


def _text(data):
    """What a container printed: the frames of the log taken apart."""
    out = b""
    while len(data) >= 8:
        (size,) = struct.unpack(">I", data[4:8])
        out, data = out + data[8 : 8 + size], data[8 + size :]
    return out.decode("utf-8", "replace")


class Engine(Api):
    """The API, and what the attacks do with it."""

    def logs(self, container):
        """All that it has printed."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(30)
            wire.connect(str(self.path))
            wire.sendall(f"GET /containers/{container}/logs?stdout=1&stderr=1 HTTP/1.0\r\n\r\n"
                         .encode("ascii"))
            with wire.makefile("rb") as answer:
                return _text(answer.read().partition(b"\r\n\r\n")[2])

    def begin(self, code, values=None, user="0", env=(), **host):
        """A container of its own for an attack, which is not its first process; its id."""
        config = {"NetworkMode": "none", **host}
        made = self.call("POST", "/containers/create", {
            "Image": IMAGE, "User": user, "Env": list(env), "Labels": {LABEL: "1"}, "Tty": False,
            "WorkingDir": "/tmp", "HostConfig": config,
            "Cmd": ["sh", "-c", 'python3 -c "$0"; true', fill(code, values or {})]},
            {"name": f"cellblock-attack-{uuid.uuid4().hex[:12]}"})
        try:
            self.call("POST", f"/containers/{made['Id']}/start")
        except ApiError:
            self.remove(made["Id"])
            raise
        return made["Id"]

    def bare(self, code, values=None, **options):
        """What an attack prints in a container where the guard is absent. Once for each."""
        key = json.dumps([str(self.path), code, values, options], default=str, sort_keys=True)
        if key not in _bare:
            container = self.begin(code, values, **options)
            try:
                self.call("POST", f"/containers/{container}/wait", timeout=60)
                _bare[key] = self.logs(container)
            finally:
                self.remove(container)
        return _bare[key]

    def ours(self, pid):
        """The containers of the server with this pid."""
        return [c for c in self.containers()
                if (c["Labels"] or {}).get("cellblock.pid") == str(pid)]


def far_held(cell, engine, code, values=None, guard_off=None, **arguments):
    """The attack fails in the cell, and succeeds in a container without the guard."""
    result = cell.run(fill(code, values or {}), **arguments)
    text = result.text("stdout")
    assert "ESCAPED" not in text, f"the attack succeeded: {result}"
    assert "HELD" in text, f"the attack did not run to its end: {result}"
    if guard_off is not None:
        control = engine.bare(code, values, **guard_off)
        assert "ESCAPED" in control, f"vacuous: without the guard: {control}"
    return result


def wait_for(condition, seconds=10, what="what was expected"):
    """Waits until it is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return value


def at_once(names, attack):
    """Attacks that wait for one of the server's limits, beside each other, each on a server of its
    own. All of them have to be held."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = {name: pool.submit(attack, name) for name in names}
    failed = {name: repr(one.exception())[:2000] for name, one in tried.items() if one.exception()}
    assert not failed, failed


def peak_kib(pid):
    """The most memory that a process has ever had."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return processes.pss_kib(pid)


def other_user():
    """Words before a command that make it somebody else's: root reads everything."""
    return (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if IS_ROOT else ["env"])


def left_of(word):
    """Processes of this machine with the word in their command line, but our own."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and word in processes.command(name):
            found.append(f"{name}: {processes.command(name)}")
    return found
