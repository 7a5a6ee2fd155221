"""What the helper of a Jupyter kernel does with output: it has left before a crash can be next."""

import ctypes
import hashlib
import subprocess
import sys
import threading
from pathlib import Path

HELPER = Path(__file__).parents[2] / "backends/kernels/jupyter/helper"
sys.path.insert(0, str(HELPER))

import cellblock_jupyter_pump as pump  # noqa: E402

PR_SET_NAME = 15
TAKEN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from cellblock_jupyter_pump import Pump
sent = []
one = Pump(lambda name, text: sent.append(text))
one.start()
for piece in (b"first", b"second"):
    before = one.pieces
    os.write(1, piece)
    while not sent:
        time.sleep(0.001)
    one.settle()  # finds nothing, and yet something was sent
    sent.clear()
    if one.pieces == before:
        sys.exit(1)
"""


def test_who_writes_to_sockets_is_waited_for(monkeypatch):
    """Also when there are others to run, and it has to wait for its turn."""
    monkeypatch.setattr(pump, "SENDERS_LIMIT", 60)
    begun, over, done = threading.Event(), threading.Event(), []

    def send():
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"ZMQbg/IO/7", 0, 0, 0)
        begun.set()
        hashlib.pbkdf2_hmac("sha256", b"as", b"busy", 100_000)
        done.append(True)
        over.wait()

    thread = threading.Thread(target=send)
    thread.start()
    begun.wait()
    senders = pump.find_senders()
    assert len(senders) == 1
    pump.wait_for_senders(senders)
    assert done
    over.set()
    thread.join()
    pump.wait_for_senders(senders)  # it is gone: nothing to wait for


def test_what_the_pumps_own_thread_took_is_counted():
    done = subprocess.run([sys.executable, "-c", TAKEN, HELPER], timeout=60, check=False)
    assert done.returncode == 0


def numbers(kept, since):
    """Of the messages that one answer has."""
    return [content["cellblock"] for _kind, content in kept.since(since)]


def test_the_newest_messages_are_kept():
    kept = pump.Kept()
    assert kept.since(1) == []
    for text in ("first", "second"):
        kept.add("stream", {"text": text}, len(text))
    assert kept.since(2) == [["stream", {"text": "second", "cellblock": 2}]]
    assert numbers(kept, 1) == [1, 2] and numbers(kept, 3) == [] and numbers(kept, -5) == [1, 2]
    each = pump.KEPT // 8
    for _ in range(20):
        kept.add("stream", {}, each - pump.KEPT_EACH)
    assert numbers(kept, 1) == [15, 16] and numbers(kept, 21) == [21, 22]
    kept.add("display_data", {}, pump.KEPT)  # alone too much
    assert numbers(kept, 1) == [] and kept.last == 23
    kept.forget()
    kept.add("stream", {}, 0)
    assert numbers(kept, 1) == [1]


def test_one_answer_has_at_least_one_message_and_not_much_more():
    kept = pump.Kept()
    for size in (2 * pump.ASKED, 10, pump.ASKED, 10):
        kept.add("stream", {}, size)
    assert [numbers(kept, n) for n in (1, 2, 3, 4)] == [[1], [2], [3], [4]]
    for _ in range(3 * pump.KEPT // pump.KEPT_EACH):  # those without any text weigh something too
        kept.add("stream", {}, 0)
    assert len(kept.since(1)) == pump.ASKED // pump.KEPT_EACH
    assert numbers(kept, 1)[0] == kept.last - pump.KEPT // pump.KEPT_EACH + 1
