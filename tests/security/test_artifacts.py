"""Attacks through what a run leaves behind: names, links and counts that the far side claims."""

import base64
import json

import pytest
from support.client import RpcError

pytestmark = pytest.mark.only("forked", "landlock")  # a root of its own, and none

SECRET = "the secret of the host"
NAMES = ["line\nbreak", "..hidden", 'quote"<a>', "tab\tend", "back\\slash", "%2e%2e", "end  "]
FORGE = """
import cellblock_worker.changes as _changes
def _forged(before, said=%r):
    return said
_changes.since, _true = _forged, _changes.since
"""
MEND = "_changes.since = _true"


@pytest.fixture
def own(target):
    """A cell of the test's own, which is broken at its end."""
    one = target.cell()
    one.open()
    yield one
    one.reset()


def links(result):
    """The resource_link blocks by the file that their URI says."""
    return {b["uri"].split("/", 4)[4]: b for b in result.parts("artifact")
            if b["type"] == "resource_link"}


def read(cell, uri):
    """The bytes of a resource, or the error."""
    try:
        contents, = cell.client.request("resources/read", {"uri": uri})["contents"]
    except RpcError as error:
        return error
    return (contents["text"].encode() if "text" in contents
            else base64.b64decode(contents["blob"]))


def test_names_stay_on_their_line(own):
    """Names with control characters are links that can be read; what is no UTF-8 is counted."""
    made = own.run(f"for name in {NAMES!r}: open(name, 'w').write(name)\n"
                   "open(b'not-\\xff-utf8', 'w').close()")
    found = {block["name"]: uri for uri, block in links(made).items()}
    assert len(found) == len(NAMES) - 1  # `..hidden` is hidden
    assert all("\n" not in name and "\t" not in name for name in found)
    assert "line\\nbreak" in found and "1 more files" in made.text("note")
    for block in links(made).values():
        assert read(own, block["uri"]).decode() in NAMES


def test_what_is_no_file_is_no_artifact(own):
    """Links and pipes are left alone; a file that becomes one is not followed."""
    made = own.run("import os\nos.symlink('/etc/passwd', 'passwd'); os.mkfifo('pipe')\n"
                   "os.symlink('/etc', 'etc'); os.symlink('a', 'to-a')\n"
                   "for name in ('a', 'b', 'c', 'd/e'):\n"
                   "    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)\n"
                   "    open(name, 'w').write('mine')")
    found = links(made)
    assert set(found) == {"a", "b", "c", "d/e"}
    own.run("for name in 'abc': os.remove(name)\nos.symlink('/etc/passwd', 'a')\n"
            "os.mkfifo('b'); os.mkdir('c'); os.rename('d', 'f'); os.symlink('/etc', 'd')")
    for name, block in found.items():
        error = read(own, block["uri"])
        assert isinstance(error, RpcError) and error.code == -32602, (name, error)


def test_paths_that_are_claimed(own, tmp_path_factory):
    """A worker that lies about its files: nothing outside of the sandbox is linked or read."""
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    claims = ["/etc/passwd", f"{secret}", f"../../../..{secret}", "../x", "a/../../x", "a//b", "",
              "x\0y", ".", "n" * 2000, 7, None, ["x"]]
    said = {"files": [[name, 4, 1, True] for name in claims] + [["there", 4, 1, True]],
            "more": 10**17}
    result = own.run(FORGE % (said,) + "open('there', 'w').write('mine')")
    assert result.cause == "ok" and set(links(result)) == {"there"}
    assert SECRET not in json.dumps(result.raw)
    session, run = own.session, result.outcome["run"]
    for path in ("etc/passwd", "/etc/passwd", f"../..{secret}", "%2e%2e/%2e%2e/etc/passwd"):
        assert isinstance(read(own, f"cellblock://{session}/{run}/{path}"), RpcError)
    assert isinstance(read(own, f"file://{secret}"), RpcError)
    for odd in ([], "text", {"files": 7}, {"files": [[]], "more": "x"}, {"files": {"a": 1}}):
        assert own.run(FORGE % (odd,)).cause == "ok"


def test_a_million_that_are_claimed(own):
    """The result and the list stay small, and the server quick."""
    result = own.run("import cellblock_worker.changes as _changes\n"
                     "_true = _changes.since\n"
                     "_changes.since = lambda before: {'files': [['f%d' % i, 1, 1, True]"
                     " for i in range(10**5)], 'more': 9 * 10**5}")
    assert len(links(result)) == 32 and "999,968" in result.text("note")
    assert len(json.dumps(result.raw)) < 20000 and not result.images()
    own.run(MEND)
    assert own.run("'still' + ' here'").text("result") == "'still here'"
    for uri in [block["uri"] for block in links(result).values()][:3]:
        assert isinstance(read(own, uri), RpcError)


def test_another_session_by_its_names(own, target):
    """A session's files are reached by its own id alone, and what an image is by its bytes."""
    theirs = target.cell()
    link = links(theirs.run("open('secret', 'w').write('theirs')"))["secret"]
    mine = own.run("open('secret', 'w').write('mine')\n"
                   "open('fake.png', 'w').write('\\x89PNG' + 'x' * 100)")
    assert not mine.images() and read(own, link["uri"]) == b"theirs"
    for part in (theirs.session, mine.outcome["run"]):
        guessed = link["uri"].replace(part, part[:-1] + ("a" if part[-1] != "a" else "b"))
        assert guessed == link["uri"] or isinstance(read(own, guessed), RpcError)
    assert b"mine" not in read(own, link["uri"])
