"""The official Python SDK tells its story to the server, with V2 and without."""

import sys

import pytest
from support_modal import HERE, ModalServer, Tellers


@pytest.fixture(scope="module")
def tellers(tmp_path_factory):
    with ModalServer() as server, Tellers(
            server, [sys.executable, HERE / "story.py"], tmp_path_factory.mktemp("story")) as one:
        yield one


@pytest.mark.timeout(180)
@pytest.mark.parametrize("generation", ["1", "2"])
def test_story(tellers, generation):
    steps = (HERE / "story.py").read_text(encoding="utf-8").count("\n@step\n")
    assert len(tellers.told(generation)) == steps


def test_nothing_is_left_of_it(tellers):
    state = tellers.end()
    assert not [one["id"] for one in state["sandboxes"] if one["processes"] or not one["status"]]
    assert state["calls"]["SandboxCreate"] > 3 and state["calls"]["SandboxCreateV2"] > 3
