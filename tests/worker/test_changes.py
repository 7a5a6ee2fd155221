"""Which files a run changed: two looks at a folder, in this process."""

import os
import sys

import pytest
from driver import SOURCE

sys.path.insert(0, SOURCE)
from cellblock_worker import changes, commands, frames  # noqa: E402


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The workspace, and a worker that has seen nothing yet."""
    monkeypatch.setattr(commands, "home", str(tmp_path))
    monkeypatch.setattr(changes, "_pause", 0)
    monkeypatch.setattr(changes, "_told", False)
    return tmp_path


def names(found):
    """The paths of a report."""
    return [path for path, _size, _mtime, _image in found["files"]] if found else []


def test_made_changed_and_left(home):
    """What is new, longer or replaced; hidden things, links and folders are not."""
    (home / "same").write_text("x")
    (home / "grows").write_text("x")
    before = changes.look()
    assert changes.since(before) is None
    (home / "grows").write_text("longer")
    (home / "sub" / "__pycache__").mkdir(parents=True)
    (home / "sub" / "__pycache__" / "a.pyc").write_text("x")
    (home / "sub" / "new").write_bytes(b"\x89PNG\r\n\x1a\n")
    (home / ".config").write_text("x")
    os.symlink("same", home / "link")
    os.mkfifo(home / "pipe")
    found = changes.since(before)
    assert set(names(found)) == {"grows", "sub/new"} and found["more"] == 0
    assert {f[0]: f[3] for f in found["files"]} == {"grows": False, "sub/new": True}


def test_the_newest_are_named(home):
    """The rest is counted, and so is a name that is no UTF-8."""
    before = changes.look()
    for number in range(changes.TOLD + 5):
        (home / f"f{number:03}").touch()
        os.utime(home / f"f{number:03}", ns=(0, number))
    (home / os.fsdecode(b"\xff")).touch()
    found = changes.since(before)
    assert names(found)[0] == f"f{changes.TOLD + 4:03}" and len(found["files"]) == changes.TOLD
    assert found["more"] == 6


def test_too_much_to_see(home, monkeypatch):
    """It is said once, and what costs time is not done again at once."""
    monkeypatch.setattr(changes, "ENTRIES", 256)
    for number in range(300):
        (home / str(number)).touch()
    before = changes.look()
    assert before is None and changes.since(before) == {"files": [], "partial": True}
    assert changes.since(changes.look()) is None
    monkeypatch.setattr(changes, "ENTRIES", 10_000)
    for _ in range(changes.PAUSE):
        before = changes.look()
    assert len(changes.look()) == 300


def test_a_folder_that_is_gone(home, monkeypatch):
    """No workspace: nothing is told but that."""
    monkeypatch.setattr(commands, "home", str(home / "none"))
    assert changes.since(changes.look())["partial"]


def test_the_supervisor_looks_once(home, monkeypatch):
    """At the time of the inode; and it says no more than a frame of its holds."""
    (home / "old").touch()
    (home / "same").touch()
    begun = os.stat(home / "same").st_ctime_ns + 1
    while changes.now() < begun:
        pass  # a tick
    assert changes.newer(str(home), begun) is None
    (home / "old").write_text("x")
    os.utime(home / "old", (1, 1))
    (home / "new").touch()
    found = changes.newer(str(home), begun)
    assert names(found) == ["new", "old"] and found["more"] == 0
    monkeypatch.setattr(changes, "WORDS", len('{"": ["new", 0, 1234567890123456789, false]}') + 8)
    assert names(changes.newer(str(home), begun)) == ["new"]
    assert changes.newer(str(home), begun)["more"] == 1
    assert changes.newer(str(home / "none"), begun)["partial"]
    monkeypatch.setattr(changes, "ENTRIES", 256)
    for number in range(300):
        (home / str(number)).touch()
    assert changes.newer(str(home), begun) == {"files": [], "partial": True}


def test_the_longest_names_fit_its_frame(home):
    """64 KiB is what one of the supervisor's may have."""
    begun, folder = changes.now(), home
    for _ in range(4):
        folder = folder / ("\N{FULL BLOCK}" * 80)
    folder.mkdir(parents=True)
    for number in range(changes.TOLD + 1):
        (folder / f"{number}").touch()
    found = changes.newer(str(home), begun)
    assert len(frames.encode({"changed": found})) < 60 * 1024
    assert 20 < len(found["files"]) < changes.TOLD
    assert len(found["files"]) + found["more"] == changes.TOLD + 1
