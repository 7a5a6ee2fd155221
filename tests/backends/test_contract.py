"""The executor's contract on the real thing, once for each way to make a sandbox.

The checks are in contract.c; a backend and its settings come to it by its environment. One test a
setting, since each of them is a program of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.client import binary

SETTINGS = {
    "forked": {"cells": "forked"},
    "solo": {"cells": "solo"},
    "landlock": {"isolation": "landlock"},
    "none": {"isolation": "none", "network": "all"},
    "network-all": {"network": "all"},
    "ephemeral": {"mode": "ephemeral"},
}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """The program of the build under test, with the backends' modules beside it."""
    build = Path(os.environ.get("CELLBLOCK_BUILD") or Path(binary()).parent).resolve()
    folder = tmp_path_factory.mktemp("contract")
    (folder / "backends").symlink_to(build / "backends")
    return Path(shutil.copy(build / "tests" / "backends" / "contract", folder))


def run_contract(program, settings, backend="local", more=None):
    """Runs all of the contract's checks; the output is the failure's message."""
    env = dict(os.environ, CELLBLOCK_BACKEND=backend,
               CELLBLOCK_ENVIRONMENT_JSON=json.dumps(settings), **(more or {}))
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout + done.stderr


@pytest.mark.once
@pytest.mark.parametrize("name", SETTINGS)
def test_contract(variant, contract, name):
    """Everything that executor.h promises, with these settings."""
    run_contract(contract, SETTINGS[name])


@pytest.mark.once
def test_contract_with_another_python(variant, contract):
    """The same with the interpreter that runs these tests (of a venv, and so without IPython)."""
    run_contract(contract, {"python": sys.executable})


@pytest.mark.needs("elsewhere")
def test_contract_elsewhere(variant, setup, contract):
    """The same on an engine."""
    settings = {"backend": variant.backend, **variant.environment, **setup.environment}
    run_contract(contract, settings, variant.backend, setup.env)
