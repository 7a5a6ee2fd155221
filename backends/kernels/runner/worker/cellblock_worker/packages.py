"""The folder that %pip installs into: made before sys.path is read, for us and our children."""

import os
import sys

DEFAULT_TARGET = "/workspace/.local/cellblock-packages"


def install_target():
    """The folder."""
    return os.environ.get("PIP_TARGET") or DEFAULT_TARGET


def _place(path):
    """Where in sys.path installed packages go: after the standard library."""
    for index, entry in enumerate(path):
        if entry.endswith(("site-packages", "dist-packages")):
            return index
    return len(path)


def prepare_path():
    """The current directory and the install folder on sys.path, the folder in PYTHONPATH too."""
    if "" not in sys.path[:1]:
        sys.path.insert(0, "")
    target = install_target()
    try:
        os.makedirs(target, exist_ok=True)
    except OSError:
        return
    os.environ["PIP_TARGET"] = target
    if target not in sys.path:
        sys.path.insert(_place(sys.path), target)
    known = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if target not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join(known + [target])
    sys.path_importer_cache.pop(target, None)
