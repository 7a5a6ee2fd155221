"""Every official client tells story.json: all tools of all toolsets are listed and called."""

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from support.client import ROOT, binary, default_args

from .story import tell
from .test_node import run_node
from .test_python_sdk import sdk

sys.path.append(str(ROOT / "tests" / "backends"))

from wheels import build  # noqa: E402


@pytest.fixture
def host():
    """A folder that the server may share, with the user's files."""
    folder = Path(tempfile.mkdtemp(prefix="cellblock-share-"))
    folder.chmod(0o777)
    build(folder, "storypack", {"storypack.py": "factor = 10\n"})
    (folder / "up.csv").write_text("a,1\nb,2\nc,3\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    yield folder
    shutil.rmtree(folder)


def server(host):
    """Its arguments."""
    return ["--toolsets", "all", "--share-root", str(host)]


WHEEL = "storypack-1.0-py3-none-any.whl"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_python_sdk(mode, host):
    """What is listed is what was called: a new tool needs a step in the story."""
    async def talk():
        async with sdk(mode, *server(host)) as client:
            return await tell(client, host, WHEEL)
    listed, called = asyncio.run(talk())
    assert listed == called
    assert (host / "down.txt").read_text() == "nöted\n"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "v1"])
def test_typescript_sdk(mode, host):
    """The same by tests/node/story.mjs, which prints both lists."""
    done = run_node("node", "story.mjs", mode, Path(__file__).parent / "story.json", host, WHEEL,
                    binary(), *default_args(), *server(host))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert sorted(told["listed"]) == sorted(told["called"])
    assert (host / "down.txt").read_text() == "nöted\n"
