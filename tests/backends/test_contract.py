"""The executor's contract on the real thing, once for each way to make a sandbox.

The checks are in contract.c; a backend and its settings come to it by its environment. One test a
setting, since each of them is a program of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.client import binary

SETTINGS = {
    "default": {},
    "forked": {"cells": "forked"},
    "solo": {"cells": "solo"},
    "landlock": {"isolation": "landlock"},
    "none": {"isolation": "none", "network": "all"},
    "network-all": {"network": "all"},
    "ephemeral": {"mode": "ephemeral"},
}


def contract():
    """The program, in the build folder of the server under test."""
    folder = os.environ.get("CELLBLOCK_BUILD") or Path(binary()).parent
    return Path(folder) / "tests" / "backends" / "contract"


def run_contract(settings, backend="local"):
    """Runs all of the contract's checks; the output is the failure's message."""
    env = dict(os.environ, CELLBLOCK_BACKEND=backend,
               CELLBLOCK_ENVIRONMENT_JSON=json.dumps(settings))
    done = subprocess.run([contract()], env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SETTINGS)
def test_contract(name):
    """Everything that executor.h promises, with these settings."""
    run_contract(SETTINGS[name])


@pytest.mark.timeout(300)
def test_contract_with_another_python():
    """The same with the interpreter that runs these tests (of a venv, and so without IPython)."""
    run_contract({"python": sys.executable})
