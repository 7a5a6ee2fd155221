"""A supervisor that outlives its stream, and the relays that bring it another one."""

import hmac
import os
import socket
import stat
import time

import pytest
from conftest import INTERPRETERS
from far import ATTACH, KILL, Far, Gone

SECRET = "5ec4e7" + "00" * 29
PYTHONS = sorted({python for python, _args in INTERPRETERS.values()})
SYSTEM = "/usr/bin/python3"


@pytest.fixture
def kept(tmp_path):
    """kept(…) makes a supervisor that may be left; all of them are ended."""
    made = []

    def make(python=SYSTEM, seconds=60, before=""):
        proof = hmac.new(bytes.fromhex(SECRET), b"proof", "sha256").hexdigest()
        keep = {"folder": str(tmp_path / f"door-{len(made)}"), "proof": proof, "seconds": seconds}
        far = Far(python, {"keep": keep}, env={"TMPDIR": str(tmp_path)}, before=before)
        far.door = keep["folder"]
        made.append(far)
        far.pid = far.start()
        return far

    yield make
    for far in made:
        far.process.terminate()
        far.process.wait(10)
        far.process.stdout.close()
    left = [name for name in os.listdir(tmp_path) if name.startswith(("cellblock-far", "door-"))]
    assert left == []


def leave(far):
    """Nobody is there any more."""
    far.process.stdin.close()


def relay(far, python=SYSTEM, before="", **changed):
    """Who comes back, as far as the word that it says."""
    back = Far(python, False, before=before)
    back.send(ATTACH, {"folder": far.door, "secret": SECRET, "pid": far.process.pid, **changed})
    return back


def come_back(far, python=SYSTEM, **changed):
    """The same, and it was let in; the worker is there."""
    back = relay(far, python, **changed)
    assert back.wait("hello")["worker"] is True
    back.start()
    return back


def ended(far, limit=10):
    """Waits for the end of a process."""
    return far.process.wait(limit) == 0


@pytest.mark.parametrize("python", PYTHONS)
def test_it_goes_on(kept, python):
    """Again and again: variables, files and what is asked about files."""
    far = kept(python)
    far.run("import os\nx = 1; pid = os.getpid()")
    for _ in range(2):
        leave(far)
        back = come_back(far, python)
        back.run("x += 1\nprint(x, os.getpid() == pid)")
        assert back.text().endswith(" True\n")
        assert back.file("write", "/workspace/a", content=b"abc", mode=0o644).kind is None
        assert back.file("read", "/workspace/a", offset=0, length=9).content == b"abc"
        back.close()
        far_side, far = far, back
        far.door, far.process = far_side.door, far_side.process
    back = come_back(far, python)
    back.run("print(x)")
    assert back.text() == "3\n"
    back.send(KILL)
    assert back.wait("exit")["signal"] == 9
    back.start()
    back.run("print('x' in globals())")
    assert back.text() == "False\n"
    back.close()


def test_what_is_printed_meanwhile(kept):
    """The end of it comes before the next run, and not as that run's."""
    far = kept()
    far.run("import threading, time\ndef late():\n    time.sleep(0.3)\n    print('y' * 300000)\n"
            "    print('the last')\nt = threading.Thread(target=late)\nt.start()")
    leave(far)
    time.sleep(0.8)
    back = come_back(far)
    back.begin("print('mine')")
    back.events.clear()
    while back.next()[0] != "begun":
        pass
    before = back.text()
    assert before.endswith("y\nthe last\n") and len(before) < 70_000
    assert "left out" in back.text("stderr")
    back.events.clear()
    back.wait("done")
    assert back.text() == "mine\n"
    back.close()


def test_a_run_is_interrupted(kept):
    """Nobody is there to be told how it ends."""
    far = kept()
    far.run("x = 5")
    far.begin("import time\nprint('on', flush=True)\ntime.sleep(100)")
    far.wait("stdout")
    leave(far)
    start = time.monotonic()
    back = come_back(far)
    back.run("print(x)")
    assert back.text() == "5\n" and time.monotonic() - start < 8
    back.close()


def test_a_run_that_does_not_end(kept):
    """It is ended after a grace, and that is what is said."""
    far = kept(before="from cellblock_worker import door; door.RUN_GRACE = 0.5")
    far.begin("import time\nwhile True:\n    try:\n        print('on', flush=True)\n"
              "        time.sleep(100)\n    except KeyboardInterrupt:\n        pass")
    far.wait("stdout")
    leave(far)
    back = relay(far)
    hello = back.wait("hello")
    assert hello["worker"] is False and "interrupted" in hello["end"]
    back.close()


def test_a_worker_that_ended_meanwhile(kept):
    """Its variables are gone: no other is passed off as it."""
    far = kept()
    far.run("import os, threading\nthreading.Timer(0.3, lambda: os._exit(7)).start()")
    leave(far)
    time.sleep(0.8)
    back = relay(far)
    hello = back.wait("hello")
    assert hello["worker"] is False and "7" in hello["end"]
    back.close()


def test_only_who_knows_the_secret(kept):
    """Others are let go of; so is who says nothing, or too much. Then one who knows it comes in."""
    far = kept(before="from cellblock_worker import door; door.WORD_LIMIT = 0.5")
    assert stat.S_IMODE(os.stat(far.door).st_mode) == 0o700
    leave(far)
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(os.path.join(far.door, "relay"))
    for changed in ({"secret": "00" * 32}, {"secret": "no"}, {"secret": "0" * 8000}):
        back = relay(far, **changed)
        with pytest.raises(Gone):
            back.next()
        assert ended(back)
        back.close()
    back = relay(far, pid=1)
    with pytest.raises(Gone):
        back.next()
    back.close()
    silent.close()
    back = come_back(far)
    back.close()


def test_one_at_a_time(kept):
    """The second waits for the first to go, as long as it has patience."""
    far = kept()
    impatient = "from cellblock_worker import relay; relay.ANSWER_LIMIT = 0.5"
    early = relay(far, before=impatient)
    with pytest.raises(Gone):
        early.next()
    early.close()
    leave(far)
    first = come_back(far)
    second = relay(far, before=impatient)
    with pytest.raises(Gone):
        second.next()
    second.close()
    third = relay(far)
    first.run("print(1)")
    assert first.text() == "1\n"
    first.close()
    assert third.wait("hello")["worker"] is True
    third.close()


def test_its_time_is_over(kept):
    """It ends by itself, and all that is in it, when nobody is there then."""
    far = kept(seconds=1.5)
    pid = far.pid
    time.sleep(1.6)
    far.run("print(1)")  # somebody is there
    leave(far)
    assert ended(far, 5)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_garbage_from_who_came_back(kept):
    """It is let go of as if it had left."""
    far = kept()
    far.run("x = 2")
    leave(far)
    back = come_back(far)
    back.process.stdin.write(b"\xff\xff\xff\xff\x20")
    with pytest.raises(Gone):
        back.next()
    back.close()
    back = come_back(far)
    back.run("print(x)")
    assert back.text() == "2\n"
    back.close()


@pytest.mark.parametrize("restored", [False, True])
def test_random_numbers_of_a_copy(kept, restored):
    """Who comes to one that was restored elsewhere too has it draw numbers of its own."""
    far = kept()
    far.run("import random; random.seed(1); state = random.getstate()")
    leave(far)
    back = come_back(far, restored=restored)
    back.run("print(random.getstate() == state)")
    assert back.text() == f"{not restored}\n"
    back.close()
