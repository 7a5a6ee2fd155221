"""Many at once, and many one after the other: everything answers and nothing is left over."""

import json
import os
import re
import threading
import time

import pytest
from support import processes
from support.client import Client, binary


def sanitized():
    """Memory figures mean nothing under AddressSanitizer."""
    return "asan" in binary()


@pytest.mark.timeout(240)
def test_a_hundred_live_sessions(modern):
    """100 sessions live at once, each with its own state; all answer."""
    names = [modern.run(f"x = {n}").session for n in range(100)]
    assert len(set(names)) == 100
    ids = [modern.begin_tool("run_code", {"code": "x", "session": s}) for s in names]
    assert [modern.tool_result(i).text("result") for i in ids] == [str(n) for n in range(100)]
    if not sanitized():
        assert processes.tree_pss_kib(modern.pid) < 100 * 8 * 1024


def test_one_session_too_many(start):
    """256 sessions may live at once; the next is refused clearly, and the others live on."""
    modern = start("--share-root", "/usr/share/doc/bash", era="modern")
    share = {"type": "copy", "source": "/usr/share/doc/bash/copyright", "dest": "/data/f"}
    sessions = [modern.tool("add_share", share).session for _ in range(256)]
    assert len(set(sessions)) == 256
    for refused in (modern.tool("add_share", share), modern.run("1")):
        assert refused.is_error and "256" in refused.text(), refused
    assert "Copyright" in modern.run("open('/data/f').read()", session=sessions[0]).text()


def test_eight_in_parallel(modern):
    """Eight sessions that compute at the same time, many times over."""
    names = [modern.run("1").session for _ in range(8)]
    for turn in range(25):
        ids = [modern.begin_tool("run_code", {"code": f"sum(range(10_000)) + {turn}",
                                              "session": s}) for s in names]
        for i in ids:
            assert modern.tool_result(i).text("result") == str(49_995_000 + turn)


def test_eight_clients_in_parallel():
    """Eight servers at once, each with its own sandbox."""
    failures = []

    def one(number):
        try:
            with Client() as client:
                for n in range(20):
                    assert client.run(f"{number} * {n}").text("result") == str(number * n)
        except BaseException as why:  # noqa: BLE001 (told by the test)
            failures.append(why)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def settled(client, limit, seconds=10):
    """How many processes there are below the server once it is quiet."""
    deadline = time.monotonic() + seconds
    while (now := len(processes.descendants(client.pid))) > limit and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


@pytest.mark.timeout(300)
def test_many_short_runs_leak_nothing(start):
    """500 fresh cells: descriptors, processes and memory are as before."""
    client = start("--mode", "ephemeral")
    for n in range(50):
        client.run(f"{n}")
    time.sleep(1)
    fds, memory = processes.open_fds(client.pid), processes.pss_kib(client.pid)
    count = len(processes.descendants(client.pid))
    for n in range(500):
        assert client.run(f"print('x' * 1000); {n}").text("result") == str(n)
    assert settled(client, count + 2) <= count + 2
    deadline = time.monotonic() + 10
    while processes.open_fds(client.pid) > fds + 4 and time.monotonic() < deadline:
        time.sleep(0.05)  # the last cells are being closed
    assert processes.open_fds(client.pid) <= fds + 4
    if not sanitized():
        assert processes.pss_kib(client.pid) <= memory + 2048


@pytest.mark.timeout(300)
def test_many_resets_leak_nothing(client):
    """100 times: a run, a daemon left behind, a reset."""
    for _ in range(5):
        client.run("1")
        client.tool("reset_session", {})
    time.sleep(1)
    fds, count = processes.open_fds(client.pid), len(processes.descendants(client.pid))
    for _ in range(100):
        client.run("import subprocess; subprocess.Popen(['setsid', 'sleep', '1000']);")
        assert not client.tool("reset_session", {}).is_error
    assert settled(client, count + 2) <= count + 2
    assert processes.open_fds(client.pid) <= fds + 4


@pytest.mark.timeout(300)
def test_many_deaths_leak_nothing(client):
    """100 interpreters that kill themselves."""
    for _ in range(5):
        client.run("import os; os._exit(1)")
    time.sleep(1)
    fds, count = processes.open_fds(client.pid), len(processes.descendants(client.pid))
    for n in range(100):
        code = "import os; os._exit(1)" if n % 2 else "import os; os.kill(os.getpid(), 9)"
        result = client.run(code)
        assert result.cause == ("exit" if n % 2 else "killed"), result
    assert settled(client, count + 2) <= count + 2
    assert processes.open_fds(client.pid) <= fds + 4


@pytest.mark.timeout(240)
def test_many_warm_runs_leak_nothing(client):
    """5,000 runs in one session, 50 at a time."""
    for _ in range(200):
        client.run("1")
    memory, fds = processes.pss_kib(client.pid), processes.open_fds(client.pid)
    for _ in range(100):
        ids = [client.begin_tool("run_code", {"code": "1 + 1"}) for _ in range(50)]
        for i in ids:
            assert client.tool_result(i).text("result") == "2"
    assert processes.open_fds(client.pid) <= fds + 2
    if not sanitized():
        assert processes.pss_kib(client.pid) <= memory + 2048


def test_a_flood_of_output_has_bounded_memory(client):
    """200 MB printed: the server stays small and the result is cut."""
    result = client.run("import sys\nfor _ in range(200): sys.stdout.write('x' * 999_999 + '\\n')",
                        timeout_seconds=50)
    assert result.outcome["truncated"], result
    with open(f"/proc/{client.pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    if not sanitized():
        assert peak < 64 * 1024, f"{peak} KiB"


def test_too_many_calls_at_once(client):
    """A thousand slow calls: each gets an answer, a result or a clear error."""
    client.run("1")
    ids = [client.begin_tool("run_code", {"code": "1"}) for _ in range(1000)]
    answers = [client.wait(i) for i in ids]
    done = [a for a in answers if "result" in a and not a["result"].get("isError")]
    assert len(done) >= 16
    for answer in answers:
        text = json.dumps(answer)
        assert answer in done or any(w in text for w in ("in flight", "waiting")), text


def test_servers_that_come_and_go(tmp_path):
    """Twenty servers that ran something and were killed leave no process and no file."""
    before = set(os.listdir("/tmp"))
    for _ in range(20):
        client = Client()
        client.run("1")
        assert client.kill() == []
    new = {n for n in set(os.listdir("/tmp")) - before if re.fullmatch(r"cellblock-\w{6}", n)}
    assert not new, new
