"""Artifacts: the files that a run made or changed, linked in its result and read as resources."""

import base64

import pytest

pytestmark = pytest.mark.needs("files")


def links(result):
    """The resource_link blocks by name."""
    return {b["name"]: b for b in result.parts("artifact") if b["type"] == "resource_link"}


def read(server, link):
    """The bytes that a link stands for."""
    contents, = server.request("resources/read", {"uri": link["uri"]})["contents"]
    return (contents["text"].encode() if "text" in contents
            else base64.b64decode(contents["blob"]))


@pytest.mark.needs("stateful")
def test_one_session_with_its_files(box, server, has):
    """Made, changed, by code and by a command; read while it lives and after its end."""
    made = links(box.ok("from pathlib import Path\n"
                        "Path('art/deep').mkdir(parents=True, exist_ok=True)\n"
                        "_ = Path('art/deep/é.csv').write_text('1,2\\n')\n"
                        "_ = Path('art/raw').write_bytes(bytes(range(256)))"))
    assert {"art/deep/é.csv", "art/raw"} == set(made) and made["art/raw"]["size"] == 256
    assert read(server, made["art/raw"]) == bytes(range(256))
    assert not box.ok("2").parts("artifact")
    failed = box.run("Path('art/raw').write_text('short'); 1 / 0")
    assert failed.cause == "error" and set(links(failed)) == {"art/raw"}
    assert read(server, made["art/raw"]) == b"short"
    if "shell" in has:
        changed = links(box.shell("echo 3,4 >> art/deep/é.csv; mv art/raw art/named"))
        assert {"art/deep/é.csv", "art/named"} == set(changed)
    box.end()
    assert read(server, made["art/deep/é.csv"]).startswith(b"1,2\n")


@pytest.mark.needs("keeps_files", "exit_status", "stateful")
def test_a_run_that_was_killed(box, server):
    """What it had made is linked where it is kept; what was there before it is not."""
    box.ok("import os, pathlib, time\n_ = pathlib.Path('before').write_text('x')\n"
           "time.sleep(0.05)  # the clock of the files ticks every 10 ms")
    result = box.run("pathlib.Path('half').write_text('way')\nos.kill(os.getpid(), 9)")
    assert result.cause == "killed" and "files are kept" in result.text("note"), result
    found = links(result)
    assert set(found) == {"half"} and found["half"]["size"] == 3, result
    assert read(server, found["half"]) == b"way"
