"""However a server ends, nothing of it goes on: the code in its cells has no say in that."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from attack import server
from support import processes
from support.client import binary

STAY = '''
import os, signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 1024)
        while True:
            time.sleep(1)
while True:
    pass
'''
LIMIT = 5.0


def begin(one):
    """An endless run that has left daemons behind; returns all processes of the server."""
    cell = one.cell()
    cell.open()
    size = len(one.client.tree())
    cell.begin(STAY, timeout_seconds=60)
    deadline = time.monotonic() + 20
    while len(one.client.tree()) < size + 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    tree = one.client.tree()
    assert len(tree) >= size + 3, "vacuous: the daemons did not start"
    return tree


@pytest.mark.parametrize("way", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "reader gone"])
def test_nothing_goes_on(variant, way, tmp_path_factory):
    """Killed, told to end, left by its reader: all processes are gone within 5 s."""
    folder = tmp_path_factory.mktemp("server")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    with server(variant) as one:
        tree = begin(one)
        if way == "reader gone":
            one.client.process.stdin.close()
            os.kill(one.client.pid, signal.SIGTERM)
        else:
            os.kill(one.client.pid, getattr(signal, way))
        left = processes.wait_gone(tree, LIMIT)
        one.client.process.wait()
        one.client.close = lambda *_: None  # it ended by a signal; that is what was asked for
        processes.reap()
        assert not left, left


SLOW_BWRAP = """#!/usr/bin/python3 -IS
import fcntl, os, sys
mine = os.pipe()
os.write(mine[1], bytes(fcntl.fcntl(mine[1], fcntl.F_SETPIPE_SZ, 4096)))
for fd in mine:
    os.set_inheritable(fd, True)
os.execv("@", ["bwrap", "--json-status-fd", str(mine[1]), *sys.argv[1:]])
"""


@pytest.mark.only("forked", "solo")
def test_ended_while_bubblewrap_starts(variant, tmp_path_factory):
    """Its inner process waits for the user map that the outer one writes, and that one is held up
    just before, by a status pipe that is full."""
    folder = tmp_path_factory.mktemp("bin")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    slow = folder / "bwrap"
    slow.write_text(SLOW_BWRAP.replace("@", shutil.which("bwrap")))
    slow.chmod(0o755)
    with server(variant, env={"PATH": f"{folder}:{os.environ['PATH']}"}) as one:
        one.client.begin_tool("run_code", {"code": "1"})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            halves = [pid for pid, _ in one.client.tree() if "bwrap" in processes.command(pid)]
            if len(halves) == 2:
                break
            time.sleep(0.02)
        assert len(halves) == 2, "vacuous: bubblewrap did not start"
        tree = one.client.tree()
        os.kill(one.client.pid, signal.SIGTERM)
        left = processes.wait_gone(tree, LIMIT)
        assert not left, left


@pytest.mark.only("forked", "landlock")
def test_end_of_input_with_an_endless_run(variant):
    """The run that is going is answered first; with its time over everything goes."""
    with server(variant, timeout_seconds=2) as one:
        cell = one.cell()
        cell.open()
        asked = cell.begin("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass")
        one.client.end_input()
        assert one.client.tool_result(asked).cause == "timeout"


@pytest.mark.only("forked", "solo", "landlock")
def test_the_parent_dies(variant):
    """A host that is killed does not leave its server running, although the pipe stays open."""
    with server(variant) as probe:  # for its configuration only
        config = probe.folder / "config.json"
        script = '"$@" <&3 3<&- & wait'
        from support.client import Client
        client = Client("--config", config, era="modern",
                        program=["sh", "-c", f"exec 3<&0; {script}", "sh", binary()])
        result = client.run("1")
        assert result.cause == "ok"
        client.begin_tool("run_code", {"code": STAY, "session": result.session})
        time.sleep(1)
        tree = client.tree()
        assert len(tree) > 3
        client.process.kill()
        left = processes.wait_gone(tree, LIMIT)
        client.process.wait()
        processes.reap()
        assert not left, left


@pytest.mark.only("landlock")
def test_folders_of_the_host_are_removed(variant):
    """The folders of cells that have no file system of their own go with them."""
    with server(variant) as one:
        cell = one.cell()
        folder = Path(cell.run("import os\nprint(os.getcwd())").text("stdout").strip()).parent
        cell.run("import os\nos.mkdir('closed'); open('closed/f', 'w').close()\n"
                 "os.chmod('closed', 0); os.chmod('.', 0)")
        assert folder.is_dir()
    assert not folder.exists()
