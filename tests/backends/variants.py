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

LIBRARIES = frozenset({"ipython", "numpy", "pandas", "matplotlib", "pip"})
NESTED_DENIED = """#!/bin/sh
# What a profile does that lets bwrap work but takes every capability from its children.
exec {bwrap} --unshare-user --disable-userns "$@"
"""


@dataclass
class Setup:
    """What a variant adds to the start of the server."""

    args: list = field(default_factory=list)
    env: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One way to have a backend.

    `environment` is laid over `environments.default` of the config; `prepare(folder)` makes what
    the variant needs in a folder that the sandbox's user can read, and returns a Setup.
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
    main: bool = False  # runs all tests; the others leave out those marked `once`
    wanted: tuple = ()  # Debian packages


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


VARIANTS = (
    Variant("local", main=True),
    Variant("local-solo", environment={"cells": "solo"}),
    Variant("local-no-nesting", prepare=deny_nesting),
    Variant("local-landlock", args=("--isolation", "landlock"),
            lacks=frozenset({"mount", "mount_write"}), own_root=False),
    Variant("local-none", args=("--isolation", "none", "--network", "all"), walls=False,
            own_root=False,
            lacks=frozenset({"mount", "mount_write", "network_none", "disk_limit"})),
    Variant("local-no-ipython", prepare=bare_venv, libraries=frozenset({"pip"})),
    Variant("local-pypy", prepare=other_python, libraries=frozenset({"ipython"}),
            wanted=("pypy3",)),
)


def chosen():
    """The rows to run: all, or those named in $CELLBLOCK_VARIANTS (comma-separated)."""
    names = os.environ.get("CELLBLOCK_VARIANTS")
    if not names:
        return VARIANTS
    known = {variant.name: variant for variant in VARIANTS}
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
