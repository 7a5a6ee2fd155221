"""One sandbox on this machine: a folder as its root, a bwrap around it, the agent as first process.

The system is there read-only; all else, /workspace, /tmp and /root first, is the folder's. An
exec is a real process, in a pid namespace and, unless the network is open, a network namespace too.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from pathlib import Path

from . import agent, limits

HERE = Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
FS_TOOLS = "/__modal/.bin/modal-sandbox-fs-tools"
SYSTEM = ("/bin", "/lib", "/lib64", "/sbin")
ETC = ("alternatives", "fonts", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
       "matplotlibrc", "mime.types", "nsswitch.conf", "protocols", "python3", "python3.11",
       "resolv.conf", "services", "ssl", "terminfo", "timezone")
OWN = ("workspace", "tmp", "root", "home", "mnt", "opt", "srv", "var/tmp", "etc", "run",
       "__modal/.bin")
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


class CellError(Exception):
    """What could not be started, as the sandbox's own machine says it."""


class Tools:
    """What /usr/local/bin is in every sandbox, and which Python has the libraries."""

    def __init__(self, base, venv):
        self.folder = base / "bin"
        self.venv = venv if venv and (venv / "bin" / "python").exists() else None
        self.folder.mkdir()
        python = f"{self.venv}/bin/python" if self.venv else PYTHON
        for name in ("python", "python3"):
            self._script(name, f'#!/bin/sh\nexec {python} "$@"\n')
        self._script("pip", f'#!/bin/sh\nexec {python} -m pip "$@"\n')
        if self.venv:
            for name in ("jupyter", "jupyter-kernelgateway", "ipython"):
                self._script(name, f'#!/bin/sh\nexec {self.venv}/bin/{name} "$@"\n')

    def _script(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def binds(self):
        """bwrap's words."""
        words = ["--ro-bind", self.folder, "/usr/local/bin"]
        if self.venv:
            words += ["--ro-bind", self.venv, self.venv]
        return words


def make_root(folder, source=None):
    """The folder that a sandbox's root is, a copy of an image's or an empty one."""
    if source:
        shutil.copytree(source, folder, symlinks=True)
    for name in OWN:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (folder / name).chmod(0o1777)
    (folder / "etc/passwd").write_text(PASSWD, encoding="ascii")
    (folder / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n", encoding="ascii")


class Cell:
    """A running sandbox; `ended(status)` is called when its first process is gone."""

    def __init__(self, root, tools, *, binds=(), network=False, memory=0, name="modal"):
        self.root = root
        self.tools = tools
        self.extra = binds
        self.network = network
        self.name = name
        self.limit = limits.make(name, memory)
        self.process = None
        self.ended = asyncio.get_running_loop().create_future()
        self._channel = None
        self._waiting = {}  # id: future of its start or connection
        self._exits = {}  # id: function for its status
        self._asked = 0

    def _words(self, fd):
        words = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
                 "--hostname", "modal", "--bind", self.root, "/", "--ro-bind", "/usr", "/usr"]
        words += ["--cap-drop", "ALL"] if os.getuid() == 0 else ["--unshare-user", "--uid", "0",
                                                                 "--gid", "0"]
        words += [] if self.network else ["--unshare-net"]
        for path in SYSTEM:
            words += (["--symlink", os.readlink(path), path] if os.path.islink(path)
                      else ["--ro-bind-try", path, path])
        for name in ETC:
            words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        words += [*self.tools.binds(), "--proc", "/proc", "--dev", "/dev",
                  "--ro-bind", HERE / "fs_tools.py", FS_TOOLS,
                  "--ro-bind", HERE / "agent.py", "/__modal/agent.py"]
        for source, target, read_only in self.extra:
            words += ["--ro-bind" if read_only else "--bind", source, target]
        words += ["--chdir", "/root", "--clearenv", "--setenv", "PATH", PATH,
                  PYTHON, "-I", "-S", "/__modal/agent.py", fd]
        return [str(word) for word in words]

    async def start(self):
        """Starts it; CellError when that fails."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            for path in SYSTEM:
                if os.path.islink(path):
                    (self.root / path[1:]).unlink(missing_ok=True)
            self.process = await asyncio.create_subprocess_exec(
                *self._words(other.fileno()), stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[other.fileno()], start_new_session=True,
                preexec_fn=self.limit.join)
        mine.setblocking(False)
        self._channel = mine
        loop = asyncio.get_running_loop()
        loop.add_reader(mine, self._readable)
        loop.create_task(self._watch())

    async def _watch(self):
        status = await self.process.wait()
        self._close()
        if not self.ended.done():
            self.ended.set_result(status)

    def _close(self):
        if self._channel:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(CellError("the sandbox has ended"))
        exits, self._exits = self._exits, {}
        for gone in exits.values():
            gone(-signal.SIGKILL)

    def _readable(self):
        try:
            words, fds = agent.receive(self._channel)
        except BlockingIOError:
            return
        except OSError:
            words, fds = None, []
        if words is None:
            asyncio.get_running_loop().remove_reader(self._channel)
        elif words["op"] == "exited":
            self._exits.pop(words["id"], lambda _: None)(words["status"])
        else:
            self._settle(words, fds)

    def _settle(self, words, fds):
        future = self._waiting.pop(words["id"], None)
        if future is None or future.done():
            for fd in fds:
                os.close(fd)
        elif "text" in words:
            future.set_exception(CellError(words["text"]))
        else:
            future.set_result(fds[0] if fds else words.get("pid"))

    async def _ask(self, words, fds=()):
        if self._channel is None:
            raise CellError("the sandbox has ended")
        data = json.dumps(words).encode()
        if len(data) > agent.LARGEST:
            raise CellError("Argument list too long")
        future = self._waiting[words["id"]] = asyncio.get_running_loop().create_future()
        while True:
            try:
                socket.send_fds(self._channel, [data], list(fds))
                break
            except BlockingIOError:
                await asyncio.sleep(0.005)
            except OSError as problem:
                raise CellError("the sandbox has ended") from problem
        return await future

    async def exec(self, name, argv, env, cwd, fds, exited, terminal=False):
        """Starts a process; `exited(status)` is called once. CellError says why it does not run."""
        self._exits[name] = exited
        try:
            return await self._ask({"op": "exec", "id": name, "argv": argv, "cwd": cwd, "env": env,
                                    "terminal": terminal, "memory": self.limit.address_space}, fds)
        except CellError:
            self._exits.pop(name, None)
            raise

    async def connect(self, port):
        """A connected socket to a port inside, or CellError."""
        return await self._socket("connect", port)

    async def listen(self, port):
        """A listener on a port inside, or CellError."""
        return await self._socket("listen", port)

    async def _socket(self, op, port):
        self._asked += 1
        fd = await self._ask({"op": op, "id": f"{op}-{self._asked}", "port": port})
        made = socket.socket(fileno=fd)
        made.setblocking(False)
        return made

    def kill(self, name, number=signal.SIGKILL):
        """A signal to one exec's session."""
        if self._channel:
            with contextlib.suppress(OSError):
                words = {"op": "kill", "id": name, "signal": int(number)}
                self._channel.send(json.dumps(words).encode())

    async def stop(self):
        """Ends it with all that runs in it."""
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        if self.process:
            await self.ended
        self.limit.remove()
