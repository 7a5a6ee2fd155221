"""Which backends the suite runs against, and how each is started.

A row of VARIANTS is one way to have a backend. What is expected of it comes from the capability
matrix (`cellblock backends --json`); a row only says what its settings take away, and which Python
libraries its interpreter has. To add a backend, add a row; see README.md.
"""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import jupyter  # noqa: E402

SECRET = "suite-0123456789-secret"  # of the name "suite": its variable is SUITE_SECRET
LIBRARIES = frozenset({"ipython", "numpy", "pandas", "matplotlib", "pip"})
NESTED_DENIED = """#!/bin/sh
# What a profile does that lets bwrap work but takes every capability from its children.
exec {bwrap} --unshare-user --disable-userns "$@"
"""


@dataclass
class Setup:
    """What a variant adds to the start of the server, and what the tests must know of it."""

    args: list = field(default_factory=list)
    env: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)  # laid over environments.default
    host: str = "127.0.0.1"  # this machine, as a sandbox with a network sees it
    engine: str = ""  # the Engine API's address, where there is one


@dataclass(frozen=True)
class Variant:
    """One way to have a backend.

    `environment` is laid over `environments.default` of the config; `prepare(folder)` makes what
    the variant needs in a folder that the sandbox's user can read, and returns a Setup. With an
    `engine` (see tests/engines) it is `prepare(info)`: what the engine said at its start.
    """

    name: str
    backend: str = "local"
    args: tuple = ()
    environment: dict = field(default_factory=dict)
    prepare: object = None
    lacks: frozenset = frozenset()  # capabilities of the backend that these settings take away
    libraries: frozenset = LIBRARIES
    walls: bool = True  # the host is out of reach
    own_root: bool = True  # a file system of its own: /workspace, /proc, /dev/shm
    plain_user: bool = True  # code is not root in its sandbox
    main: bool = False  # runs all tests; the others leave out those marked `once`
    wanted: tuple = ()  # Debian packages
    engine: str = ""  # a name of tests/engines
    files: tuple = ()  # only these files of the suite; all when empty

    @property
    def elsewhere(self):
        """Its sandboxes are an engine's."""
        return bool(self.engine)


def deny_nesting(folder):
    """A bwrap on PATH whose children can make no namespaces."""
    wrapper = folder / "bin" / "bwrap"
    wrapper.parent.mkdir()
    wrapper.write_text(NESTED_DENIED.format(bwrap=shutil.which("bwrap")), encoding="ascii")
    wrapper.chmod(0o755)
    return Setup(env={"PATH": f"{wrapper.parent}:{os.environ['PATH']}"})


def bare_venv(folder):
    """Debian's python3 with pip and nothing else."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", folder / "venv"], check=True)
    make_readable(folder)
    return Setup(args=["--python", folder / "venv" / "bin" / "python3"])


def other_python(_folder):
    """An interpreter that isn't CPython."""
    return Setup(args=["--python", "/usr/bin/pypy3"])


def make_readable(folder):
    """Everybody may read it, whatever the umask of who runs the tests."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            more = 0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644
            path.chmod(path.stat().st_mode | more)


def on_docker(info):
    """An engine at its socket; the host is the bridge's gateway."""
    return Setup(environment={"host": info["host"]}, host=info["gateway"], engine=info["host"])


def at_url(info):
    """A server that is there already."""
    return Setup(environment={"url": info["url"], "token": info["token"], **OPEN})


def own_server(_info):
    """A server that cellblock starts itself, from the tests' virtual environment."""
    return Setup(environment={"python": str(jupyter.KERNELS / "bin" / "python"), **OPEN})


def by_command(info):
    """What gives a byte stream to a process elsewhere."""
    return Setup(environment={"command": info["command"], **OPEN}, env=info.get("env", {}))


def in_utf8(info):
    """PyPy takes the locale at its word: where there is none, names are ASCII."""
    setup = by_command(info)
    setup.environment["command"] = [*info["command"], "env", "LC_ALL=C.UTF-8"]
    return setup


def by_podman_run(info):
    """A container for each session, and no engine's API."""
    run = ["run", "--interactive", "--rm", "--network=none", "--memory={memory_mib}m"]
    return Setup(environment={"command": [*info["command"], *run, IMAGE], **OPEN},
                 engine=info["host"])


def on_modal(info):
    """Its address and a token in the official client's variables; sandboxes share our network."""
    return Setup(env={"MODAL_SERVER_URL": info["url"], "MODAL_TOKEN_ID": info["token_id"],
                      "MODAL_TOKEN_SECRET": info["token_secret"], "SSL_CERT_FILE": info["ca"]})


def on_account(_folder):
    """Modal itself: the token is found as the official client finds it, in the caller's home."""
    return Setup(environment={"packages": ["ipython", "matplotlib", "numpy", "pandas"]})


def with_kernels(_folder):
    """The same, and a kernel of another language."""
    return Setup(environment={"packages": ["bash_kernel", "matplotlib", "numpy", "pandas"]})


IMAGE = "cellblock-test/python"
DOCKER = {"image": IMAGE}
JUPYTER_IMAGE = {"image": "python:3.11-slim", "kernel": "jupyter",
                 "packages": ["bash_kernel", "numpy", "pandas", "matplotlib"]}
MODAL_JUPYTER = {"kernel": "jupyter", "pool": 1}
# Of variants that differ from another one in how they are reached, and not in what is there.
REACHED = ("test_input", "test_output", "test_shell", "test_state")
SOME = (*REACHED, "test_errors", "test_time")
# Of those that also differ in who ends a run, and in what files and commands go through.
MOST = (*SOME, "test_commands", "test_display", "test_files", "test_limits_elsewhere",
        "test_runs", "test_secrets", "test_sessions")
# Of another way to make a cell: the cells' own walls, and what ends with them.
CELLS = (*SOME, "test_fresh", "test_limits", "test_processes")
# Of another interpreter in the same cells.
PYTHONS = (*CELLS, "test_display", "test_packages", "test_sessions")
DEBIAN = {"python": "/usr/bin/python3"}
# Nothing holds the network back there, and that has to be said; nor is the host out of reach.
OPEN = {"network": "all"}
BARE = {"walls": False, "own_root": False}

VARIANTS = (
    Variant("local", main=True),
    Variant("local-solo", environment={"cells": "solo"}),
    Variant("local-no-nesting", prepare=deny_nesting,
            files=("test_fresh", "test_limits", "test_processes", "test_state")),
    Variant("local-landlock", args=("--isolation", "landlock"),
            lacks=frozenset({"mount", "mount_write"}), own_root=False),
    Variant("local-none", args=("--isolation", "none"), environment={"network": "all"}, walls=False,
            own_root=False, files=(*CELLS, *MOST),
            lacks=frozenset({"mount", "mount_write", "network_none", "disk_limit"})),
    Variant("local-no-ipython", prepare=bare_venv, libraries=frozenset({"pip"}),
            files=PYTHONS),
    Variant("local-pypy", prepare=other_python, libraries=frozenset({"ipython"}),
            files=PYTHONS, wanted=("pypy3",)),
    Variant("docker", "docker", environment=DOCKER, engine="docker", prepare=on_docker,
            lacks=frozenset({"kernelspecs"})),
    Variant("docker-jupyter", "docker", environment=JUPYTER_IMAGE, engine="docker",
            prepare=on_docker, lacks=frozenset({"exit_status", "stdin_code"}),
            files=(*(set(MOST) - {"test_errors", "test_time"}), "test_contract", "test_limits",
                   "test_reattach")),
    Variant("podman", "docker", environment=DOCKER, engine="podman", prepare=on_docker,
            lacks=frozenset({"kernelspecs"})),
    Variant("jupyter-server", "jupyter", engine="jupyter-server", prepare=at_url, **BARE),
    Variant("kernel-gateway", "jupyter", engine="kernel-gateway", prepare=at_url, files=MOST,
            **BARE),
    Variant("jupyter-server-1", "jupyter", engine="jupyter-server-1", prepare=at_url,
            files=REACHED, **BARE),
    Variant("local-jupyter", "jupyter", environment={"backend": "local-jupyter"},
            engine="jupyter-server", prepare=own_server, files=REACHED,
            lacks=frozenset({"reattach"}), **BARE),
    Variant("ssh", "command", environment=DEBIAN, engine="ssh", prepare=by_command, **BARE),
    Variant("ssh-pypy", "command", environment={"python": "/usr/bin/pypy3"}, engine="ssh",
            prepare=in_utf8, files=REACHED, libraries=frozenset({"ipython"}), wanted=("pypy3",),
            **BARE),
    Variant("slurm", "command", environment=DEBIAN, engine="slurm", prepare=by_command,
            files=MOST, **BARE),
    Variant("podman-run", "command", engine="podman", prepare=by_podman_run, files=SOME, **BARE),
    Variant("modal", "modal", engine="modal", prepare=on_modal, plain_user=False,
            lacks=frozenset({"kernelspecs", "snapshot_memory"})),
    Variant("modal-memory", "modal", environment={"memory_snapshots": True}, engine="modal",
            prepare=on_modal, plain_user=False, lacks=frozenset({"kernelspecs", "reattach"}),
            files=("test_state", "test_time")),
    Variant("modal-ephemeral", "modal-ephemeral", engine="modal", prepare=on_modal,
            plain_user=False),
    # Through the exec's own stream, as the network is cut; the other one through a tunnel. A
    # gateway's start takes seconds of a processor: a pool of one, as two more would be thrown
    # away at the end of each server.
    Variant("modal-jupyter", "modal", environment=MODAL_JUPYTER, engine="modal",
            prepare=on_modal, plain_user=False,
            lacks=frozenset({"exit_status", "snapshot_memory"})),
    Variant("modal-tunnel", "modal", environment={**MODAL_JUPYTER, "network": "all"},
            engine="modal", prepare=on_modal, plain_user=False, files=REACHED,
            lacks=frozenset({"exit_status", "snapshot_memory"})),
)

# On a real account, which costs money: only when named, as modal-live.sh does.
LIVE = (
    Variant("modal-live", "modal", prepare=on_account, plain_user=False,
            lacks=frozenset({"kernelspecs", "snapshot_memory"}), files=(*MOST, "test_reattach")),
    Variant("modal-live-ephemeral", "modal-ephemeral", prepare=on_account, plain_user=False,
            files=("test_ephemeral", "test_output")),
    # Through a tunnel of the service; another image, which costs a build.
    Variant("modal-live-jupyter", "modal", prepare=with_kernels, plain_user=False,
            environment={"kernel": "jupyter", "network": "all"}, files=(*REACHED, "test_display"),
            lacks=frozenset({"exit_status", "snapshot_memory"})),
)


def chosen():
    """The rows to run: all of VARIANTS, or those named in $CELLBLOCK_VARIANTS (comma-separated)."""
    names = os.environ.get("CELLBLOCK_VARIANTS")
    if not names:
        return VARIANTS
    known = {variant.name: variant for variant in VARIANTS + LIVE}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        sys.exit(f"CELLBLOCK_VARIANTS: no {unknown}; there are: {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))


def own_folder(path):
    """A folder below `path` that everybody may go through."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    return path


def of_engines(names):
    """The variants that need one of these engines; "local" are those that need none."""
    return [v.name for v in VARIANTS if (v.engine or "local") in names]


if __name__ == "__main__":
    print(",".join(of_engines(sys.argv[1:])))
