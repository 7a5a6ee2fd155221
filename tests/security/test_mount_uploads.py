"""Attacks through mounts that are uploaded: nothing but what is shared may reach the service.

The service is the server that plays Modal, which keeps every file that it was sent.
"""

import os
import sys
from pathlib import Path

import pytest
from support.client import Client
from test_shares import PUBLIC, SECRET, outside, put, swapping  # noqa: F401

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "modal"))

from support_modal import ModalServer  # noqa: E402


@pytest.fixture(scope="module")
def service():
    with ModalServer() as one:
        yield one


@pytest.fixture
def client(service, tmp_path):
    """Each run is a start of its own, and looks at the folder anew."""
    names = {"MODAL_SERVER_URL": "url", "MODAL_TOKEN_ID": "token_id",
             "MODAL_TOKEN_SECRET": "token_secret"}
    (tmp_path / "shared" / "tree").mkdir(parents=True)
    with Client("--backend", "modal-ephemeral", "--share-root", tmp_path / "shared",
                env={name: service.info[key] for name, key in names.items()}) as one:
        yield one


@pytest.fixture
def tree(tmp_path):
    """What is shared."""
    return str(tmp_path / "shared" / "tree")


def sent(service):
    """All that it was ever sent."""
    base = Path(service.info["base"])
    return [path.read_bytes() for kind in ("files", "blobs") for path in (base / kind).iterdir()]


def mount(client, source):
    """Adds it: it is only noted."""
    result = client.tool("add_share", {"type": "mount", "source": source, "dest": "/data/tree"})
    assert not result.is_error, result


READ = """
import os
for top, _, names in os.walk("/data/tree"):
    for name in names:
        with open(os.path.join(top, name)) as file:
            print(file.read())
"""


@pytest.mark.parametrize("name", ["file", "folder", "all", "magic", "chain"])
def test_links_out_of_it(client, service, tree, outside, name):  # noqa: F811
    os.symlink({"file": outside + "/data", "folder": outside, "all": "/",
                "magic": "/proc/self/root" + outside, "chain": "chain2"}[name], f"{tree}/{name}")
    os.symlink(os.path.relpath(outside, tree), tree + "/chain2" if name == "chain"
               else tree + "/relative")
    put(tree)
    mount(client, tree)
    result = client.run(READ)
    assert result.is_error and "leads out" in result.text(), result
    assert SECRET not in str(result.raw)
    assert not [one for one in sent(service) if SECRET.encode() in one]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_swapped_while_it_is_uploaded(client, service, tree, outside, what):  # noqa: F811
    """A folder, or a file, that turns into a link to the outside and back, all the time."""
    os.mkdir(tree + "/sub")
    put(tree + "/sub")
    for number in range(20):
        put(tree, f"f{number}", f"{PUBLIC} {number}")
    below, target = ("/sub", outside) if what == "folder" else ("/sub/data", outside + "/data")
    os.symlink(target, os.path.dirname(tree) + "/other")
    mount(client, tree)
    done = refused = 0
    # A walk, hashing and an upload have to fall between two exchanges, or nothing goes through.
    with swapping(tree + below, os.path.dirname(tree) + "/other", pause=0.02):
        while done + refused < 40 or (done + refused < 400 and not (done and refused)):
            result = client.run(READ)
            assert SECRET not in str(result.raw)
            done, refused = done + (not result.is_error), refused + result.is_error
    assert done and refused, f"vacuous: {done} went through, {refused} were refused"
    assert sent(service) and not [one for one in sent(service) if SECRET.encode() in one]


def test_what_only_root_may_read(client, service, tree):
    """Whoever runs the server: a file's mode is kept to."""
    path = put(tree, text=SECRET)
    os.chmod(path, 0)
    mount(client, tree)
    result = client.run(READ)
    assert result.is_error and "may not read" in result.text()
    assert not [one for one in sent(service) if SECRET.encode() in one]
