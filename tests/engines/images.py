"""The base images, made from Debian's packages: no image registry is reached.

`plain` has Python and pip, as the official slim image does; `python` has IPython, numpy, pandas and
matplotlib besides. Both carry this machine's pip settings and certificates, so that a build in a
container reaches what pip reaches here.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .common import CACHE, LOGS, EngineError, tail

# archive → the names it has in an engine
TAGS = {
    "plain": ("python:3.11-slim", "cellblock-test/plain:latest"),
    "python": ("cellblock-test/python:latest",),
}
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates,tzdata,bash"
REQUIREMENTS = Path(__file__).with_name("requirements-image.txt")
HOOKS = Path(__file__).with_name("image-hook.sh")
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def folder():
    """Where the archives of this recipe are kept from run to run."""
    recipe = hashlib.sha256(b"".join(p.read_bytes() for p in (Path(__file__), REQUIREMENTS, HOOKS)))
    return CACHE / f"images-{recipe.hexdigest()[:12]}"


def sources():
    """The machine's own Debian mirrors, as apt has them."""
    line = "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"
    text = subprocess.run(["apt-get", "indextargets", "--format", line, "Created-By: Packages"],
                          check=True, capture_output=True, text=True).stdout
    return "\n".join(sorted(set(text.splitlines()))) + "\n"


def codename():
    """The release that this machine runs."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise EngineError("no VERSION_CODENAME in /etc/os-release: base images need a Debian system")


def build(target):
    """Makes both archives in `target`; about two minutes the first time."""
    target.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as part:
        _build(target, Path(part))


def _build(target, part):
    argv = ["mmdebstrap", "--variant=apt", f"--include={PACKAGES}",
            "--aptopt=Acquire::Languages \"none\"",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
            f"--customize-hook={HOOKS} \"$1\" {part / 'plain.tar'} {REQUIREMENTS}",
            codename(), str(part / "python.tar"), "-"]
    with open(LOGS / "images.log", "wb") as log:
        done = subprocess.run(argv, input=sources().encode(), stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise EngineError(f"mmdebstrap ended with {done.returncode}\n{tail(LOGS / 'images.log')}")
    for name in TAGS:
        os.replace(part / f"{name}.tar", target / f"{name}.tar")


def archives():
    """name → path of the archive; made if this recipe's are not there."""
    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    with open(target / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((target / f"{name}.tar").exists() for name in TAGS):
            build(target)
            forget_older(target)
    return {name: target / f"{name}.tar" for name in TAGS}


def forget_older(target):
    """Archives of former recipes go."""
    for other in CACHE.glob("images-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
