"""The official Python SDK tells its story to the server, with V2 and without."""

import subprocess
import sys
from pathlib import Path

import pytest
from support_modal import ModalServer

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def server():
    with ModalServer() as one:
        yield one


@pytest.mark.timeout(180)
@pytest.mark.parametrize("generation", ["1", "2"])
def test_story(server, generation, tmp_path):
    told = subprocess.run(
        [sys.executable, HERE / "story.py"], cwd=tmp_path, capture_output=True, text=True,
        env=server.environment(MODAL_SANDBOX_V2="1" if generation == "2" else "0"), check=False,
        timeout=170)
    assert told.returncode == 0, f"after {told.stdout.split()[-1:]}:\n{told.stderr}"
    steps = (HERE / "story.py").read_text(encoding="utf-8").count("\n@step\n")
    assert len(told.stdout.split()) == steps
    left = server.state()
    assert not [one["id"] for one in left["sandboxes"] if one["processes"]]
    version = "SandboxCreateV2" if generation == "2" else "SandboxCreate"
    assert left["calls"][version] > 3
