"""What the command line's tests share: the program, started with an environment of its own."""

import os
import subprocess

import pytest
from support.client import binary


@pytest.fixture
def home(tmp_path):
    """An empty home, so that nobody's own config file is read."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def cellblock(home):
    """Runs the program to its end: cellblock("run", "-", input="1 + 1") → CompletedProcess."""

    def run(*args, **options):
        environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        environment.update(options.pop("env", {}))
        options.setdefault("timeout", 60)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([binary(), *map(str, args)], env=environment, text=True,
                              stderr=subprocess.PIPE, check=False, **options)

    return run
