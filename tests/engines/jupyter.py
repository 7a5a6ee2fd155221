"""Jupyter Servers 2.x and 1.x and a Kernel Gateway on the loopback, from virtual environments."""

import json
import os
import urllib.request
from pathlib import Path

from .common import CACHE, ROOT, Engine, free_port, run, token

KERNELS = Path(os.environ.get("CELLBLOCK_JUPYTER_VENV") or CACHE / "jupyter")
OLD = Path(os.environ.get("CELLBLOCK_JUPYTER_1_VENV") or CACHE / "jupyter-1")
REQUIREMENTS = {KERNELS: ROOT / "tests" / "requirements-jupyter.txt",
                OLD: ROOT / "tests" / "requirements-jupyter-1.txt"}


def install():
    """Makes the two environments; the kernels of both servers are the first one's."""
    for venv, requirements in REQUIREMENTS.items():
        stamp = venv / "requirements.txt"
        if stamp.exists() and stamp.read_bytes() == requirements.read_bytes():
            continue
        run("/usr/bin/python3", "-m", "venv", "--clear", venv)
        run(venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check",
            "-r", requirements, timeout=900)
        if venv == KERNELS:
            run(venv / "bin" / "python", "-m", "bash_kernel.install", "--sys-prefix")
            # By its path: a server takes "python" for its own interpreter, which may not have it.
            run(venv / "bin" / "python", "-m", "ipykernel", "install", "--sys-prefix")
        stamp.write_bytes(requirements.read_bytes())


class Server(Engine):
    """start() answers {"url": …, "token": …}."""

    packages = ("python3-venv",)
    venv = KERNELS
    application = "server"
    unlimited = ("--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0",
                 "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0")

    def missing(self):
        if not (self.venv / "requirements.txt").exists():
            return f"{self.name}: no {self.venv}: tests/run.sh --install makes it"
        return None

    def launch(self):
        port, secret = free_port(), token()
        (self.folder / "files").mkdir()
        process = self.spawn([self.venv / "bin" / f"jupyter-{self.application}",
                              *self.arguments(port, secret)], self._environment(secret))
        url = f"http://127.0.0.1:{port}"
        self.wait("the server does not answer", lambda: probe(url, secret), process)
        return {"url": url, "token": secret, "python": str(self.venv / "bin" / "python"),
                "folder": str(self.folder / "files")}

    def leftovers(self):
        info = self.running()
        with ask(info["url"], info["token"], "kernels") as answer:
            return [f"{kernel['name']} {kernel['id']}" for kernel in json.load(answer)]

    def arguments(self, port, secret):
        """The command line; the token is not on it."""
        more = ("--ServerApp.allow_root=True",) if os.getuid() == 0 else ()
        return ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
                f"--ServerApp.root_dir={self.folder / 'files'}", "--ServerApp.port_retries=0",
                *self.unlimited, *more]

    def _environment(self, secret):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
        return {**kept, "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.folder), "JUPYTER_TOKEN": secret, "KG_AUTH_TOKEN": secret,
                "JUPYTER_PATH": str(KERNELS / "share" / "jupyter"), "JUPYTER_NO_CONFIG": "1",
                "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
                "IPYTHONDIR": str(self.folder / "ipython")}


class JupyterServer(Server):
    """Jupyter Server 2.x."""

    name = "jupyter-server"


class JupyterServerOld(Server):
    """Jupyter Server 1.x: the same kernels."""

    name = "jupyter-server-1"
    venv = OLD
    unlimited = ("--NotebookApp.iopub_msg_rate_limit=0", "--ServerApp.iopub_msg_rate_limit=0",
                 "--ServerApp.iopub_data_rate_limit=0")


class KernelGateway(Server):
    """Kernel Gateway 3.x."""

    name = "kernel-gateway"
    application = "kernelgateway"

    def arguments(self, port, secret):
        return [f"--KernelGatewayApp.port={port}", "--KernelGatewayApp.ip=127.0.0.1",
                "--KernelGatewayApp.port_retries=0",
                "--JupyterWebsocketPersonality.list_kernels=True", *self.unlimited]


def ask(url, secret, what):
    """A GET of the REST API, with the token."""
    request = urllib.request.Request(f"{url}/api/{what}",
                                     headers={"Authorization": f"token {secret}"})
    return urllib.request.urlopen(request, timeout=5)


def probe(url, secret):
    """Does the server answer who has the token?"""
    with ask(url, secret, "kernelspecs") as answer:
        return answer.status == 200
