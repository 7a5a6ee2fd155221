"""add_share and the client's roots."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def folder():
    """A folder on the host that anybody may read (tmp_path is for its owner only)."""
    path = Path(tempfile.mkdtemp(prefix="cellblock-share-")).resolve()
    path.chmod(0o755)
    (path / "data").mkdir()
    (path / "data").chmod(0o755)
    (path / "data" / "table.csv").write_text("a,b\n1,2\n")
    (path / "data" / "table.csv").chmod(0o644)
    yield path
    shutil.rmtree(path)


def share(client, source, dest="/data", **more):
    """add_share of a copy."""
    return client.tool("add_share", {"type": "copy", "source": str(source), "dest": dest, **more})


def test_without_roots_the_flag_is_named(client, folder):
    """The refusal says what to add."""
    result = share(client, folder / "data")
    assert result.is_error and "--share-root" in result.text()
    assert not client.server_requests


def test_share_root(start, folder):
    """Under a --share-root a copy comes in."""
    client = start("--share-root", folder)
    result = share(client, folder / "data")
    assert not result.is_error and result.session, result
    assert client.run("open('/data/table.csv').read()").text("result") == r"'a,b\n1,2\n'"
    assert result.outcome is None


def test_a_copy_belongs_to_the_session(start, folder):
    """The code may change the copy; the host's file is never written."""
    client = start("--share-root", folder)
    share(client, folder / "data")
    result = client.run("open('/data/table.csv', 'a').write('3,4'); open('/data/new', 'w')\n"
                        "open('/data/table.csv').read()")
    assert result.text("result") == r"'a,b\n1,2\n3,4'", result
    assert (folder / "data" / "table.csv").read_text() == "a,b\n1,2\n"
    assert not (folder / "data" / "new").exists()


def test_the_clients_roots_are_asked_for(start, folder):
    """roots/list, once; what it offers is allowed."""
    client = start(roots=[folder])
    assert not share(client, folder / "data").is_error
    assert not share(client, folder / "data" / "table.csv", "/one.csv").is_error
    assert [r["method"] for r in client.server_requests] == ["roots/list"]


def test_roots_are_asked_again_after_a_change(start, folder):
    """notifications/roots/list_changed makes the list stale."""
    roots = []
    client = start(roots=lambda: roots)
    assert share(client, folder / "data").is_error
    roots.append(folder)
    client.notify("notifications/roots/list_changed")
    assert not share(client, folder / "data").is_error
    assert len(client.server_requests) == 2


def test_odd_roots(start, folder):
    """Other schemes and nonsense are left out; escapes are decoded."""
    (folder / "with space").mkdir(mode=0o755)
    (folder / "with space" / "f").write_text("x")
    client = start(roots=[{"uri": "https://example.org/"}, {"uri": 5}, {"uri": "file://"}, {},
                          {"uri": f"file://{folder}/with%20space"}])
    assert not share(client, folder / "with space" / "f", "/f").is_error
    assert share(client, folder / "data").is_error


def test_a_client_that_never_answers(start, folder):
    """A limit of 5 s, then the refusal; others are not held up."""
    client = start(roots=lambda: NotImplemented)
    assert client.run("1").text("result") == "1"  # on a slow machine a start alone takes as long
    id_ = client.begin_tool("add_share", {"type": "copy", "source": str(folder), "dest": "/data"})
    assert client.run("1", timeout=4).text("result") == "1"
    result = client.tool_result(id_, 10)
    assert result.is_error


def test_a_client_that_answers_with_an_error(start, folder):
    """As with no roots."""
    client = start(capabilities={"roots": {}})
    assert share(client, folder / "data").is_error


@pytest.mark.parametrize("source", ["/etc/passwd", "relative", "", "/no/such/file", "/proc/self/fd",
                                    "{root}/../outside", "{root}/link", "{root}2", "/dev/zero",
                                    "{root}/fifo", "x" * 5000, "a\0b"])
def test_sources_that_are_refused(start, folder, source):
    """Outside the roots, through a symlink, not a file, not there."""
    root = folder / "root"
    root.mkdir(mode=0o755)
    (folder / "outside").mkdir()
    (folder / "root2").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    client = start("--share-root", root)
    result = share(client, source.format(root=root))
    assert result.is_error and result.text()


@pytest.mark.parametrize("dest", ["data", "", "/", "/proc/x", "/sys", "/dev/x", "/usr/lib/x",
                                  "/etc", "/bin/x", "/lib64/x", "/data/../etc/x", "/a\0b",
                                  "/" + "x" * 5000])
def test_dests_that_are_refused(start, folder, dest):
    """dest is absolute and outside the system."""
    client = start("--share-root", folder)
    result = share(client, folder / "data", dest)
    assert result.is_error and "dest" in result.text()


def test_one_dest_once(start, folder):
    """A second share on the same dest is refused."""
    client = start("--share-root", folder)
    assert not share(client, folder / "data").is_error
    assert share(client, folder / "data").is_error


def test_mount(start, folder):
    """Before the first run a mount comes in; read-only is read-only."""
    client = start("--share-root", folder)
    result = client.tool("add_share", {"type": "mount", "source": str(folder / "data"),
                                       "dest": "/data"})
    assert not result.is_error, result
    assert client.run("open('/data/table.csv').read()").text("result") == r"'a,b\n1,2\n'"
    assert client.run("open('/data/table.csv', 'w')").cause == "error"
    assert (folder / "data" / "table.csv").read_text() == "a,b\n1,2\n"


def test_a_late_mount_says_what_to_do(start, folder):
    """After the first run: a refusal that names reset_session, which then works."""
    client = start("--share-root", folder)
    client.run("1")
    arguments = {"type": "mount", "source": str(folder / "data"), "dest": "/data"}
    result = client.tool("add_share", arguments)
    assert result.is_error and "reset_session" in result.text()
    assert not client.tool("reset_session", {}).is_error
    assert not client.tool("add_share", arguments).is_error
    assert client.run("import os; os.listdir('/data')").text("result") == "['table.csv']"


def test_cloud_is_unsupported(client):
    """Named as such."""
    result = client.tool("add_share", {"type": "cloud", "bucket": "b", "dest": "/data",
                                       "source": "x"})
    assert result.is_error and "cloud" in result.text()


def test_reset_keeps_or_drops_shares(start, folder):
    """keep_shares true copies again; false drops; a source that is gone resets nothing."""
    client = start("--share-root", folder)
    share(client, folder / "data")
    client.run("x = 1")
    (folder / "data" / "table.csv").write_text("new")
    assert not client.tool("reset_session", {}).is_error
    assert client.run("open('/data/table.csv').read()").text("result") == "'new'"
    client.run("x = 2")
    (folder / "data").rename(folder / "moved")
    result = client.tool("reset_session", {})
    assert result.is_error and "data" in result.text()
    assert client.run("x").text("result") == "2"
    assert not client.tool("reset_session", {"keep_shares": False}).is_error
    assert client.run("import os; os.path.exists('/data')").text("result") == "False"


def test_a_share_before_the_first_run_in_the_modern_era(start, folder):
    """The session that is made for it is returned and named."""
    client = start("--share-root", folder, era="modern")
    result = share(client, folder / "data")
    assert result.session in result.text()
    again = client.run("open('/data/table.csv').read()", session=result.session)
    assert "a,b" in again.text("result")


def test_shares_in_ephemeral_mode(start, folder):
    """They belong to the connection and enter each run."""
    client = start("--share-root", folder, "--mode", "ephemeral")
    assert not share(client, folder / "data").is_error
    for _ in range(2):
        result = client.run("s = open('/data/table.csv').read(); open('/data/table.csv', 'w'); s")
        assert "a,b" in result.text("result")
