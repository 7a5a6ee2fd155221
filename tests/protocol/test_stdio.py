"""Known failures of stdio servers (each row of that table), and the end of a conversation."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support import processes
from support.client import binary, default_args

SLEEP = {"code": "import time; time.sleep(100)"}
BUSY = "import os, time\nif os.fork() == 0:\n    time.sleep(100)\nwhile True: pass"


def line(id_, code="6 * 7"):
    """A tools/call as a line of bytes."""
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": {
        "name": "run_code", "arguments": {"code": code}}}).encode() + b"\n"


INIT = json.dumps({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {},
    "clientInfo": {"name": "file", "version": "1"}}}).encode() + b"\n"


# Something prints on stdout

def test_nothing_but_json_on_stdout(start):
    """Whatever the code does to its descriptors, stdout is ours. (close() checks it.)"""
    client = start("--log-level", "debug")
    client.run("import os, sys\nprint('x')\nos.write(1, b'raw')\nos.system('echo child')\n"
               "sys.__stdout__.write('dunder')\n")
    client.run("import os\nfor fd in range(256):\n    try: os.write(fd, b'garbage\\n')\n"
               "    except OSError: pass\n", timeout_seconds=10)
    client.run("import os; os.closerange(0, 256)", timeout_seconds=10)
    assert client.run("1").text("result") == "1"


def test_the_protocol_is_not_on_fd_0_and_1(client):
    """fd 1 is stderr and fd 0 /dev/null, so that no library can talk on the wire."""
    assert os.readlink(f"/proc/{client.pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{client.pid}/fd/1") == os.readlink(f"/proc/{client.pid}/fd/2")


# Children inherit the protocol's descriptors

def test_no_child_has_the_protocols_pipes(client):
    """Not one process below the server holds the client's pipes."""
    client.run("import subprocess; p = subprocess.Popen(['sleep', '100']);")
    wire = {os.fstat(f.fileno()).st_ino for f in (client.process.stdin, client.process.stdout)}
    children = processes.descendants(client.pid)
    assert children
    for pid, _ in children:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    assert os.stat(f"/proc/{pid}/fd/{fd}").st_ino not in wire, (
                        processes.command(pid), fd)


def test_code_cannot_read_the_protocol(client):
    """stdin of the code is not the wire: the next request is still ours."""
    id_ = client.begin_tool("run_code", {"code": "import os; os.read(0, 100)"})
    assert client.request("ping") == {}
    assert client.tool_result(id_).text("result") == "b''"


# Orphans

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_stop_at_once(start, number):
    """A signal in the middle of a run: gone in 2 s, nothing left."""
    client = start()
    client.run("1")
    client.begin_tool("run_code", {"code": BUSY})
    time.sleep(0.3)
    before = client.tree()
    assert len(before) > 2
    client.signal(number)
    client.wait_exit(2)
    assert processes.wait_gone(before) == []


def test_sigkill_leaves_nothing(start):
    """The server is killed with SIGKILL: the kernel ends everything below it."""
    client = start()
    client.run("import subprocess; subprocess.Popen(['setsid', 'sleep', '100']);")
    client.begin_tool("run_code", {"code": BUSY})
    time.sleep(0.3)
    assert len(client.tree()) > 4
    assert client.kill() == []


def test_sigkill_while_starting(start):
    """Also in the first moments, when the sandbox is being made."""
    for delay in (0.0, 0.01, 0.03, 0.1, 0.3):
        client = start()
        client.begin_tool("run_code", SLEEP)
        time.sleep(delay)
        assert client.kill() == []


def test_the_parents_death(tmp_path):
    """A host that dies but whose pipes live on in somebody else: the server goes too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time\n"
         "p = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1)\n"
         "print(p.pid, file=sys.stderr, flush=True)\ntime.sleep(100)",
         binary(), *default_args()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    processes.become_subreaper()
    try:
        pid = int(parent.stderr.readline())
        parent.stdin.write(INIT + line(1) + line(2, "import time; time.sleep(100)"))
        parent.stdin.flush()
        parent.stdout.readline(), parent.stdout.readline()
        tree = processes.descendants(pid) | {(pid, processes.stat(pid)[2])}
        assert len(tree) > 2
        parent.kill()
        assert processes.wait_gone(tree, 5) == []
    finally:
        parent.kill()
        parent.communicate()
        processes.reap()


def test_a_short_lived_thread_may_start_the_server():
    """Hosts start servers from threads that end; the server must not end with them."""
    import threading
    started = []
    thread = threading.Thread(target=lambda: started.append(subprocess.Popen(
        [binary(), *default_args()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)))
    thread.start()
    thread.join()
    time.sleep(0.5)
    out, _ = started[0].communicate(INIT + line(1), 30)
    assert json.loads(out.splitlines()[-1])["id"] == 1
    assert started[0].returncode == 0


# EPIPE

def test_a_reader_that_is_gone(start):
    """A closed stdout in the middle of a run: stop at once, cleanly."""
    client = start(read=False, version=None)
    client.send_raw(INIT + line(1, "while True: print('x', flush=True)"))
    time.sleep(1)
    before = client.tree()
    client.process.stdout.close()
    client.send_raw(b'{"jsonrpc":"2.0","id":3,"method":"ping"}\n')
    assert client.wait_exit(5) >= 0, "ended by a signal"
    assert processes.wait_gone(before) == []


def test_a_reader_that_is_gone_while_nothing_is_written(start):
    """Nothing is sent, and the closed pipe is seen all the same."""
    client = start(read=False, version=None)
    client.send_raw(INIT + line(1, "import time; time.sleep(100)"))
    time.sleep(1)
    client.process.stdout.close()
    assert client.wait_exit(5) >= 0


# A client that stops reading

def test_a_client_that_stops_reading(start):
    """Memory stays bounded, requests are no longer read; when reading goes on all is answered."""
    client = start(read=False, version=None)
    client.send_raw(INIT)
    os.set_blocking(client.process.stdin.fileno(), False)
    sent, rest, until = 0, b"", time.monotonic() + 4
    while time.monotonic() < until and sent < 200_000:
        data = rest or b'{"jsonrpc":"2.0","id":"n%d","method":"tools/list"}\n' % sent
        try:
            wrote = os.write(client.process.stdin.fileno(), data)
        except BlockingIOError:
            time.sleep(0.05)
            continue
        rest = data[wrote:]
        sent += not rest
    assert sent < 200_000, "the server read on and on"
    if "asan" not in client.command[0]:
        assert processes.pss_kib(client.pid) < 64 * 1024
    os.set_blocking(client.process.stdin.fileno(), True)
    client.start_reading()
    if rest:
        client.send_raw(rest)
        sent += 1
    client.wait_until(lambda: f'"n{sent - 1}"' in client._answers, 60)
    assert all(client.answers(f"n{n}") for n in range(sent))


def test_a_client_that_stops_reading_can_still_be_left(start):
    """End of stdin, with a reader that does not read and then goes."""
    client = start(read=False, version=None)
    client.send_raw(INIT + b"".join(line(n, "'x' * 30_000") for n in range(40)))
    time.sleep(3)
    client.end_input()
    client.process.stdout.close()
    assert client.wait_exit(10) >= 0


# stderr

def test_stderr_that_nobody_reads(tmp_path):
    """A full stderr pipe blocks nothing."""
    read, write = os.pipe()
    process = subprocess.Popen([binary(), *default_args(), "--log-level", "debug"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    process.stdin.write(INIT + b"".join(b"broken %d\n" % n for n in range(20_000)) + line("last"))
    out, _ = process.communicate(timeout=60)
    os.close(read)
    assert any('"last"' in one and "42" in one for one in out.decode().splitlines())
    assert process.returncode == 0


def test_arguments_are_not_logged(start):
    """What is run, and what is given to it, is nobody's business."""
    client = start("--log-level", "debug")
    client.run("secret_word_one = 1", stdin="secret_word_two", env={"A": "secret_word_three"})
    client.run("secret_word_four", timeout_seconds=-5)
    client.send_raw(b"secret_word_five {\n")
    client.request("ping")
    client.close()
    assert "secret_word" not in client.errors()


def test_stderr_is_quiet(start):
    """Nothing to say is nothing said at the default level."""
    client = start()
    client.run("1")
    client.close()
    assert client.errors() == ""


# End of stdin (design, "Decided 12")

def test_requests_from_a_file(tmp_path):
    """`cellblock < requests.jsonl`: all answered, then exit 0."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(INIT + b"".join(line(n, f"{n} * 2") for n in range(5)))
    with open(path, "rb") as file:
        done = subprocess.run([binary(), *default_args()], stdin=file, capture_output=True,
                              timeout=60)
    answers = {m["id"]: m for m in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert [answers[n]["result"]["content"][0]["text"] for n in range(5)] == [
        str(n * 2) for n in range(5)]


def test_a_file_without_a_newline_at_its_end(tmp_path):
    """The last message counts too."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(INIT + line(1).rstrip(b"\n"))
    with open(path, "rb") as file:
        done = subprocess.run([binary(), *default_args()], stdin=file, capture_output=True,
                              timeout=60)
    assert b'"id":1' in done.stdout.replace(b" ", b"") and done.returncode == 0


@pytest.mark.parametrize("kind", ["null", "closed", "empty", "directory"])
def test_odd_stdins(tmp_path, kind):
    """/dev/null, a closed or an empty stdin: an end, not a crash."""
    command = [binary(), *default_args()]
    if kind == "closed":
        command = ["sh", "-c", 'exec "$0" "$@" <&-', *command]
    empty = tmp_path / "empty"
    empty.touch()
    fd = os.open({"empty": empty, "directory": tmp_path}.get(kind, "/dev/null"), os.O_RDONLY)
    done = subprocess.run(command, stdin=fd, capture_output=True, timeout=20)
    os.close(fd)
    assert done.returncode >= 0 and done.stdout == b""
    if kind in ("null", "empty"):
        assert done.returncode == 0


def test_closed_stdout():
    """Without a stdout there is nothing to serve: an end, not a crash."""
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', binary(), *default_args()],
                          input=INIT, capture_output=True, timeout=20)
    assert done.returncode >= 0


def test_stdout_into_a_file(tmp_path):
    """A file is as good as a pipe."""
    path = tmp_path / "answers"
    with open(path, "wb") as file:
        done = subprocess.run([binary(), *default_args()], input=INIT + line(1), stdout=file,
                              stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0 and len(path.read_bytes().splitlines()) == 2


def test_a_socket_pair():
    """Hosts that use sockets instead of pipes."""
    import socket
    ours, theirs = socket.socketpair()
    with subprocess.Popen([binary(), *default_args()], stdin=theirs, stdout=theirs) as process:
        theirs.close()
        ours.sendall(INIT + line(1))
        ours.shutdown(socket.SHUT_WR)
        data = b""
        ours.settimeout(30)
        while chunk := ours.recv(65536):
            data += chunk
        assert process.wait(10) == 0
    assert len(data.splitlines()) == 2
    ours.close()


def test_in_flight_requests_are_answered_after_the_end(start):
    """End of stdin means no more requests, not no more answers."""
    client = start()
    client.run("1")
    id_ = client.begin_tool("run_code", {"code": "import time; time.sleep(1); 'late'"})
    client.end_input()
    assert client.tool_result(id_, 10).text("result") == "'late'"
    client.close()


def test_end_of_an_idle_conversation_is_quick(start):
    """Clients escalate to SIGTERM after 2 s."""
    client = start()
    client.run("import subprocess; subprocess.Popen(['sleep', '100']);")
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 1.5


# A server that is never used

def test_no_sandbox_before_the_first_call(client):
    """Hosts probe with throw-away processes: no child, little memory."""
    client.request("tools/list")
    assert processes.descendants(client.pid) == set()
    if "asan" not in client.command[0]:
        assert processes.pss_kib(client.pid) < 6 * 1024


def test_warm_starts_the_zygote(start):
    """--warm pays at once."""
    client = start("--warm")
    deadline = time.monotonic() + 5
    while not processes.descendants(client.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes.descendants(client.pid)


def test_many_throw_away_processes():
    """Fifty starts that are closed at once."""
    for _ in range(50):
        done = subprocess.run([binary(), *default_args()], input=INIT, capture_output=True,
                              timeout=20)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
