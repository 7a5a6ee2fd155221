"""Attacks on the host through upload and download: both are the server's own access to it."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from support.client import Client

SECRET = "what nobody has shared"


@pytest.fixture
def world():
    """root/ is shared; outside/ beside it is not, and holds a secret. Anybody may write both."""
    folder = Path(tempfile.mkdtemp(prefix="cellblock-transfers-")).resolve()
    for name in ("root/sub", "outside"):
        (folder / name).mkdir(parents=True)
    for path in (folder, folder / "root", folder / "root/sub", folder / "outside"):
        path.chmod(0o777)
    (folder / "outside/secret").write_text(SECRET)
    (folder / "outside/secret").chmod(0o666)
    yield folder
    assert os.listdir(folder / "outside") == ["secret"]
    assert (folder / "outside/secret").read_text() == SECRET
    shutil.rmtree(folder)


@pytest.fixture
def client(world):
    """A server that shares root/."""
    with Client("--toolsets", "files", "--share-root", world / "root") as one:
        yield one


def refused(client, tool, source, dest, **more):
    """The transfer fails and says nothing of the secret."""
    result = client.tool(tool, {"source": str(source), "dest": str(dest), **more})
    assert result.is_error, result
    assert SECRET not in str(result.raw)
    return result.text()


def done(client, tool, source, dest, **more):
    """The same call succeeds where it may: the control of the attack."""
    result = client.tool(tool, {"source": str(source), "dest": str(dest), **more})
    assert not result.is_error, result
    return result.text()


def make(client, path, content="harmless"):
    """A file in the sandbox."""
    assert not client.tool("write_file", {"path": path, "content": content}).is_error


def test_upload_of_what_is_not_shared(client, world):
    """By its path, by `..`, by links of every kind; what does exist is not told either."""
    root = world / "root"
    (root / "link").symlink_to(world / "outside/secret")
    (root / "folder").symlink_to(world / "outside")
    for source in (world / "outside/secret", f"{root}/../outside/secret", root / "link",
                   root / "folder/secret", root / "folder", "/etc/shadow", "/proc/self/environ",
                   f"{root}/../outside/no-such-file", "outside/secret"):
        text = refused(client, "upload", source, "stolen")
        assert "No such file" not in text and "does not exist" not in text
    (root / "sub/own").write_text("shared")
    done(client, "upload", root / "sub/own", "own")


def test_upload_of_a_folder_with_links(client, world):
    """They are left out, whatever they lead to."""
    root = world / "root"
    (root / "sub/own").write_text("shared")
    (root / "sub/link").symlink_to(world / "outside/secret")
    (root / "sub/folder").symlink_to(world / "outside")
    os.link(root / "sub/own", root / "sub/hard")
    os.mkfifo(root / "sub/pipe")
    assert "Left out: 3" in done(client, "upload", root / "sub", "sub")
    seen = client.tool("list_files", {"path": "sub", "recursive": True}).text()
    assert [line.split("\t")[-1] for line in seen.splitlines()[1:]] == ["hard", "own"]


def test_download_to_what_is_not_shared(client, world):
    """By its path, by `..`, through links to folders; and names that are none."""
    root = world / "root"
    make(client, "x")
    (root / "folder").symlink_to(world / "outside")
    for dest in (world / "outside/x", f"{root}/../outside/x", root / "folder/x", f"{root}/..",
                 f"{root}/sub/../../outside/x", "/tmp/x", "/etc/cron.d/x", "/proc/self/mem",
                 root, "outside/x", f"{root}/sub/", f"{root}/sub/."):
        refused(client, "download", "x", dest)
        refused(client, "download", "x", dest, replace=True)
    done(client, "download", "x", root / "sub/x")
    assert (root / "sub/x").read_text() == "harmless"


def test_download_onto_a_link(client, world):
    """The link is what is replaced, never what it leads to; and only when that was asked for."""
    root = world / "root"
    make(client, "x")
    for name, target in (("link", world / "outside/secret"), ("new", world / "outside/new")):
        (root / name).symlink_to(target)
        assert "there already" in refused(client, "download", "x", root / name)
        assert (root / name).is_symlink()
        done(client, "download", "x", root / name, replace=True)
        assert not (root / name).is_symlink() and (root / name).read_text() == "harmless"
    (root / "folder").symlink_to(world / "outside")
    done(client, "download", "x", root / "folder", replace=True)
    assert (root / "folder").is_file()


def test_what_is_downloaded_has_no_special_rights(client, world):
    """No set-user-ID, no device, no link; nobody's file but the server's."""
    client.run("import os\nos.makedirs('tree/sub')\n"
               "open('tree/sub/suid', 'w').close()\nos.chmod('tree/sub/suid', 0o6777)\n"
               "os.chmod('tree/sub', 0o1777)\nos.mkfifo('tree/pipe')\n"
               "os.symlink('/etc', 'tree/link')\nos.symlink('sub/suid', 'tree/file')")
    assert "Left out: 3" in done(client, "download", "tree", world / "root/tree")
    found = {str(path.relative_to(world / "root")): stat.S_IMODE(path.lstat().st_mode)
             for path in (world / "root/tree").rglob("*")}
    assert found == {"tree/sub": 0o755, "tree/sub/suid": 0o755}
    assert all(path.stat().st_uid == os.geteuid() for path in (world / "root/tree").rglob("*"))
    assert "neither" in refused(client, "download", "tree/pipe", world / "root/pipe")
    refused(client, "download", "/dev/zero", world / "root/zero")


SWAP = """
import os, threading
stop = threading.Event()
swaps = 0
def swap():
    global swaps
    while not stop.is_set():
        try:
            {swap}
            swaps += 1
        except OSError:
            pass
thread = threading.Thread(target=swap)
thread.start()
"""
FOLDER = """
            os.rename("/data/sub", "/data/kept")
            os.symlink({outside!r}, "/data/sub")
            os.unlink("/data/sub")
            os.rename("/data/kept", "/data/sub")"""
INSIDE = """
            for name in os.listdir("/data/sub"):
                if name.startswith(".cellblock-"):
                    os.rename("/data/sub/" + name, "/data/sub/moved")
                    os.symlink({outside!r}, "/data/sub/" + name)
                    os.symlink({outside!r}, "/data/sub/moved/d")"""


@pytest.mark.parametrize("swap", [FOLDER, INSIDE])
def test_folders_that_are_swapped_meanwhile(client, world, swap):
    """Code with a writable mount puts links to the outside in the way, all the time. Some of the
    downloads fail; none gets outside."""
    added = client.tool("add_share", {"type": "mount", "source": str(world / "root"),
                                      "dest": "/data", "read_only": False})
    assert not added.is_error, added
    started = client.run(SWAP.format(swap=swap.format(outside=str(world / "outside"))) +
                         "\nfor i in range(20):\n    os.makedirs('tree/d/e', exist_ok=True)\n"
                         "    open(f'tree/d/e/{i}', 'w').write('escaped')\n")
    assert started.cause == "ok", started
    ids = []
    for i in range(60):
        source, name = ("tree", f"tree-{i}") if i % 2 else ("tree/d/e/1", f"file-{i}")
        ids.append(client.begin_tool("download", {"source": source,
                                                  "dest": str(world / "root/sub" / name)}))
    for id_ in ids:
        client.tool_result(id_)
    assert int(client.run("stop.set(); thread.join(); swaps").text("result")) > 0
    assert os.listdir(world / "outside") == ["secret"]


def test_too_much(client, world):
    """A file without an end, and more files than there may be: refused, and nothing is left."""
    root = world / "root"
    client.run("import os\nos.mkdir('many')\n"
               "for i in range(10001):\n    os.close(os.open(f'many/{i}', os.O_CREAT))\n"
               "os.truncate(os.open('large', os.O_CREAT | os.O_RDWR), (256 << 20) + 1)")
    assert "10000" in refused(client, "download", "many", root / "many")
    assert "256 MiB" in refused(client, "download", "large", root / "large")
    with open(root / "huge", "w") as file:
        file.truncate((256 << 20) + 1)
    assert "256 MiB" in refused(client, "upload", root / "huge", "huge")
    assert os.listdir(root / "sub") == [] and sorted(os.listdir(root)) == ["huge", "sub"]
    names = client.tool("list_files", {}).text()
    assert "huge" not in names and ".cellblock-" not in names
