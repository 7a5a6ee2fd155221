"""Copies into a session on a Jupyter server, while the code there puts links in their way."""

import time

import pytest
from jupyter_faults import begin

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def shares(tmp_path):
    """A folder to share from."""
    folder = tmp_path / "shares"
    folder.mkdir()
    return folder


@pytest.fixture
def client(server, launch, shares):
    """A cellblock on the server, with that share root."""
    return launch(url=server.url, token=server.token, args=("--share-root", shares))


def share(client, session, source, dest):
    """Copies it in; the result."""
    return client.tool("add_share", {"type": "copy", "source": str(source), "dest": dest,
                                     "session": session})


def test_a_link_in_the_way(client, shares):
    """Never through a link that the code has made."""
    source = shares / "gift"
    source.write_text("a gift", encoding="utf-8")
    session = client.run("""
        import os
        os.makedirs("../tmp/elsewhere")
        os.symlink("../tmp/elsewhere", "folder")
        os.symlink("../tmp/elsewhere/target", "link")
        os.symlink("/nowhere", "dangling")
        os.mkfifo("fifo")
        """).session
    for dest in ("folder/gift", "folder/deep/gift", "link", "link/gift", "dangling",
                 "dangling/gift", "fifo", "fifo/gift"):
        assert share(client, session, source, f"/workspace/{dest}").is_error, dest
    seen = client.run("print(os.listdir('../tmp/elsewhere'))", session=session)
    assert seen.text("stdout") == "[]\n", seen
    assert not share(client, session, source, "/workspace/plain/gift").is_error
    seen = client.run("print(open('plain/gift').read(), *sorted(os.listdir()))", session=session)
    assert seen.text("stdout") == "a gift .local dangling fifo folder link plain\n", seen


def test_what_is_there_is_not_replaced(client, shares):
    source = shares / "gift"
    source.write_text("a gift", encoding="utf-8")
    session = client.run("open('mine', 'w').write('kept')").session
    for _ in range(2):
        result = share(client, session, source, "/workspace/mine")
        assert result.is_error and "exists" in result.text(), result
    seen = client.run("import os; print(open('mine').read(), *sorted(os.listdir()))",
                      session=session)
    assert seen.text("stdout") == "kept .local mine\n"


def test_the_way_is_swapped_meanwhile(client, shares):
    source = shares / "many"
    source.mkdir()
    for number in range(300):
        (source / str(number)).write_bytes(bytes(2000))
    session = client.run("import os\nos.makedirs('../tmp/elsewhere')\nos.mkdir('way')").session
    run = begin(client, """
        import time
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                os.rename("way", "held")
                os.symlink(os.path.realpath("../tmp/elsewhere"), "way")
                os.unlink("way")
                os.rename("held", "way")
            except OSError: pass
        print(os.listdir("../tmp/elsewhere"))
        """, session)
    time.sleep(0.2)
    for number in range(10):
        share(client, session, source, f"/workspace/way/{number}")  # it may go well or not
    result = client.tool_result(run, 60)
    assert result.text("stdout") == "[]\n", result


def test_a_copy_keeps_modes_and_times(client, shares):
    source = shares / "tree"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "tool").write_text("#!/bin/sh\n", encoding="utf-8")
    (source / "inner" / "tool").chmod(0o755)
    (source / "way").symlink_to("inner/tool")
    session = client.run("1").session
    assert not share(client, session, source, "/workspace/tree").is_error
    seen = client.run("""
        import os
        print(oct(os.stat('tree/inner/tool').st_mode & 0o777), os.readlink('tree/way'),
              int(os.stat('tree/inner/tool').st_mtime))
        """, session=session)
    wanted = int((source / "inner" / "tool").stat().st_mtime)
    assert seen.text("stdout") == f"0o755 inner/tool {wanted}\n", seen
