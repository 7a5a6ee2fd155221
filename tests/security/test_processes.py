"""Attacks on processes: the host's, the cell's own init, other cells; and what stays behind."""

import contextlib
import os
import subprocess
import time

import pytest
from attack import IS_ROOT, NAMESPACED, PROCESSES, fill, held, on_host
from support import processes


@contextlib.contextmanager
def victim(uid):
    """A process of the host that belongs to the sandbox's user."""
    options = {"user": uid, "group": uid, "extra_groups": []} if IS_ROOT else {}
    with subprocess.Popen(["sleep", "300"], cwd="/", **options) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("how", ["os.kill(@pid@, 9)", "os.kill(-1, 0)", "os.killpg(@group@, 0)",
                                 "signal.pidfd_send_signal(os.pidfd_open(@pid@), 15)"])
def test_signals_to_the_host(cell, target, how):
    """Even to processes of the very same user: the wall is the namespace, or Landlock's scope."""
    with victim(target.uid) as process:
        values = {"pid": process.pid, "group": os.getpgid(process.pid)}
        result = cell.run(fill(f"attempt(lambda: {how})", values))
        if "-1" not in how:  # -1 reaches what the cell has, which is its right
            assert "HELD" in result.text("stdout"), result
        assert process.poll() is None
        if "-1" not in how:
            assert "ESCAPED" in on_host(f"attempt(lambda: {how})", values,
                                        uid=target.uid if IS_ROOT else None)


def test_descriptor_signals_to_the_host(cell, target):
    """SIGIO with an owner of one's choice is a signal as well."""
    with victim(target.uid) as process:
        code = '''
import fcntl
def send():
    a, b = socket.socketpair()
    fcntl.fcntl(a, fcntl.F_SETOWN, @pid@)
    fcntl.fcntl(a, 10, signal.SIGKILL)
    fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
    b.send(b"x")
    time.sleep(0.2)
    raise OSError("sent, and now?")
attempt(send)
'''
        cell.run(fill(code, {"pid": process.pid}))
        assert process.poll() is None
        on_host(code, {"pid": process.pid}, uid=target.uid if IS_ROOT else None)
        assert process.wait(5) == -9


@pytest.mark.only(*NAMESPACED)
def test_only_the_own_processes_are_seen(cell, target):
    """/proc has the cell's processes, whose pids are its own."""
    result = cell.run("import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()),"
                      " os.getpid(), os.getppid())")
    pids, _, rest = result.text("stdout").partition("]")
    pids = pids.strip("[").split(", ")
    assert len(pids) <= 3 and rest.split()[1] == "1", result
    assert len(processes.descendants(1)) > 3, "vacuous: the host has no more processes than this"


@pytest.mark.only("landlock")
def test_no_process_is_seen(cell):
    """Without a pid namespace there is no /proc at all."""
    held(cell, "attempt(lambda: os.listdir('/proc'))")
    held(cell, "attempt(lambda: open('/proc/self/status').read())")
    held(cell, "attempt(lambda: os.listdir('/proc/%d' % os.getppid()))")


SIGNAL_INIT = '''
import fcntl, os, signal, socket
init = os.getppid()
for number in range(1, 65):
    if number in (32, 33):
        continue
    for way in (os.kill, lambda pid, n: signal.pidfd_send_signal(os.pidfd_open(pid), n)):
        try:
            way(init, number)
        except OSError:
            pass
a, b = socket.socketpair()
try:
    fcntl.fcntl(a, fcntl.F_SETOWN, init); fcntl.fcntl(a, 10, signal.SIGKILL)
    fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC); b.send(b"x")
except OSError:
    pass
print("HELD" if os.getppid() == init else "ESCAPED")
'''


def test_the_init_cannot_be_signalled(fresh):
    """No signal ends it or stops it: the limits hold on, and the end is still reported."""
    result = fresh.run(SIGNAL_INIT)
    assert result.text("stdout") == "HELD\n" and result.cause == "ok", result
    ended = fresh.run("import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                      "while True: pass", timeout_seconds=0.5)
    assert ended.cause == "timeout" and ended.outcome["duration_ms"] < 5000, ended
    fresh.answers()


def test_looking_into_the_init(cell):
    """Its memory, descriptors, variables and maps are closed to the code."""
    held(cell, '''
init = os.getppid()
def read(name):
    path = f"/proc/{init}/{name}"
    if name in ("fd", "map_files", "fdinfo", "ns"):
        return [os.readlink(f"{path}/{n}") if name != "fdinfo" else n for n in os.listdir(path)]
    if name in ("exe", "cwd", "root"):
        return os.listdir(path) if name != "exe" else os.readlink(path)
    with open(path, "rb", 0) as file:
        if name == "mem":
            file.seek(0x400000)
        return file.read(10)
for name in ("mem", "fd", "environ", "maps", "exe", "cwd", "root", "fdinfo", "ns", "auxv",
             "stack", "syscall", "pagemap", "map_files", "smaps", "io", "personality"):
    attempt(lambda: read(name), bool)
for name, text in (("oom_score_adj", "1000"), ("mem", "x"), ("comm", "x"), ("clear_refs", "1"),
                   ("coredump_filter", "7"), ("timerslack_ns", "9"), ("setgroups", "allow"),
                   ("uid_map", "0 0 1"), ("attr/current", "x"), ("autogroup", "19")):
    attempt(lambda: open(f"/proc/{init}/{name}", "w").write(text))
''', control=False)


def test_that_the_same_looks_succeed_elsewhere():
    """The control: a parent that hides nothing is read by the same code."""
    text = on_host('''
init = os.getppid()
attempt(lambda: open(f"/proc/{init}/environ", "rb").read(10))
attempt(lambda: os.listdir(f"/proc/{init}/fd"))
attempt(lambda: open(f"/proc/{init}/maps").read(10))
attempt(lambda: open(f"/proc/{init}/coredump_filter", "w").write("7"))
''', {})
    assert text.count("ESCAPED") == 4, text


def test_killing_everything(fresh):
    """kill(-1), its own group, its parent: at the worst the session's cell is gone."""
    for code in ("os.kill(-1, 9)", "os.killpg(0, 9)", "os.kill(os.getpid(), 9)"):
        result = fresh.run("import os\n" + code)
        if "-1" in code:  # all but itself and its init: there may be none
            assert result.cause == "ok" or "ProcessLookupError" in result.text("error"), result
        else:
            assert result.cause == "killed", result
        if result.cause == "killed":
            assert result.outcome["signal"] == "SIGKILL"
        fresh.answers()


@pytest.mark.parametrize("code,cause,detail", [
    ("import ctypes; ctypes.string_at(0)", "killed", ("signal", "SIGSEGV")),
    ("import os; os._exit(7)", "exit", ("exit_code", 7)),
    ("import os; os._exit(0)", "exit", ("exit_code", 0)),
    ("import os; os.abort()", "killed", ("signal", "SIGABRT")),
    ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "killed", ("signal", "SIGTERM")),
    ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 9'])", "exit", ("exit_code", 9)),
])
def test_ways_to_end(fresh, code, cause, detail):
    """Each is told for what it was; what was printed before is kept; the session goes on."""
    result = fresh.run("print('before', flush=True)\n" + code)
    assert result.cause == cause and result.outcome[detail[0]] == detail[1], result
    assert result.text("stdout").startswith("before")
    fresh.answers()


def test_stopping_itself(fresh):
    """SIGSTOP is no way to outlive the limit."""
    result = fresh.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
                       timeout_seconds=0.5)
    assert result.cause == "timeout" and result.outcome["duration_ms"] < 5000
    fresh.answers()


DAEMONS = '''
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for fd in (0, 1, 2): os.close(fd)
        os.execv("/bin/sh", ["sh", "-c", "trap '' TERM HUP INT; while :; do sleep @seconds@; done"])
print("left")
'''


def test_daemons_end_with_the_session(target):
    """Double forks in sessions of their own are gone after reset_session."""
    cell, name = target.cell(), str(300 + os.getpid() % 100000 / 1e6)
    assert cell.run(fill(DAEMONS, {"seconds": float(name)})).text("stdout") == "left\n"

    def daemons():
        return [p for p, _ in target.client.tree() if name in processes.command(p)]

    deadline = time.monotonic() + 10
    while len(daemons()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(daemons()) >= 3, "vacuous: no daemon was left behind"
    cell.reset()
    deadline = time.monotonic() + 5
    while daemons() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not daemons()


def test_a_fork_does_not_come_back(fresh):
    """A child that the code forgot does not answer in the worker's place."""
    result = fresh.run("import os\npid = os.fork()\n"
                       "print('once' if pid and os.waitpid(pid, 0) else 'child')")
    assert result.cause == "ok" and result.text("stdout").count("once") == 1, result
    for _ in range(3):
        fresh.answers()


def bombs(cell):
    """The processes whose grandparent is not the server, bwrap or a zygote: depth counts."""
    table = {p: processes.stat(p) for p, _ in processes.descendants(cell.client.pid)}

    def depth(pid):
        return 1 + depth(table[pid][1]) if table.get(pid) else 0
    return [p for p in table if depth(p) > 5]


@pytest.mark.only(*NAMESPACED)
def test_forking_without_end(fresh):
    """A fork bomb ends at the number of processes, and with the run."""
    result = fresh.run('''
import os, signal, time
made = 0
try:
    while True:
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.01)
        made += 1
except OSError as error:
    print("HELD", made, error, flush=True)
while True:
    time.sleep(1)
''', timeout_seconds=2)
    assert "HELD" in result.text("stdout") and result.cause == "timeout", result
    assert int(result.text("stdout").split()[1]) <= PROCESSES
    fresh.answers()
    fresh.reset()  # children that the interrupt missed may live as long as their session
    deadline = time.monotonic() + 5
    while len(bombs(fresh)) > 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(bombs(fresh)) <= 2, [processes.command(p) for p in bombs(fresh)]


def test_chains_of_forks_are_caught(target):
    """Each process forks and ends at once, so that a list of them is always old: still all end."""
    cell = target.cell()
    result = cell.run('''
import os, sys
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2): os.close(fd)
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError:
            pass
print("running")
''')
    assert result.text("stdout") == "running\n"
    before = {p for p, _ in target.client.tree()}
    cell.reset()
    time.sleep(0.5)
    seen = [{p for p, _ in target.client.tree()} - before for _ in range(5)]
    # What comes anew is the pool's; a chain would show new pids at every look.
    assert len(set.union(*seen)) <= 12, seen


def test_threads_without_end(fresh):
    """They count as processes."""
    result = fresh.run('''
import threading, time
made = 0
try:
    while made < 5000:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        made += 1
    print("ESCAPED")
except RuntimeError as error:
    print("HELD", made, error)
''', timeout_seconds=10)
    assert "HELD" in result.text("stdout"), result


def test_neighbours(neighbours, variant):
    """Two sessions of one server: no files, processes, memory, terminals or names in common."""
    one, two = neighbours
    first = one.run('''
import ctypes, os, socket, subprocess, time
open("secret", "w").write("s"); open(os.environ["TMPDIR"] + "/secret", "w").write("s")
for folder in ("/dev/shm", "/tmp", "/var/tmp"):
    try:
        open(folder + "/secret", "w").write("s")
    except OSError:
        pass
libc = ctypes.CDLL(None, use_errno=True)
made = [libc.syscall(64, 0x51DEC0DE, 1, 0o1666) >= 0,
        libc.syscall(240, b"cellblock-secret", os.O_CREAT | os.O_RDWR, 0o666, None) >= 0]
try:
    sock = socket.socket(socket.AF_UNIX); sock.bind("\\0cellblock-neighbour"); sock.listen()
    made.append(True)
except OSError:
    made.append(False)
try:
    master, slave = os.openpty(); print(os.ttyname(slave))
except OSError as error:
    print("no pty")
child = subprocess.Popen(["sleep", "277"])
print(os.getcwd(), child.pid, *made, os.getpid())
''')
    lines = first.text("stdout").splitlines()
    folder, child, *made, worker = lines[-1].split()
    if variant != "landlock":
        assert made[0] == made[2] == "True", first  # the queue's file: Landlock says no
    second = two.run(fill('''
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    value = libc.syscall(number, *arguments)
    if value < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return value
for path in ("secret", os.environ["TMPDIR"] + "/secret", "/dev/shm/secret", "/tmp/secret",
             "/var/tmp/secret", @folder@ + "/secret"):
    attempt(lambda: open(path).read())
attempt(lambda: call(64, 0x51DEC0DE, 1, 0))
attempt(lambda: call(240, b"cellblock-secret", os.O_RDWR, 0, None))
def connect():
    sock = socket.socket(socket.AF_UNIX); sock.connect("\\0cellblock-neighbour")
attempt(connect)
def processes():
    return [p for p in os.listdir("/proc") if p.isdigit()
            and b"277" in open(f"/proc/{p}/cmdline", "rb").read()]
attempt(processes, bool)
def terminals():
    return [n for n in os.listdir("/dev/pts") if n.isdigit()]
attempt(terminals, bool)
if @bare@:
    for pid in (@child@, @worker@):
        attempt(lambda: os.kill(pid, 9))
''', {"folder": folder, "child": int(child), "worker": int(worker),
      "bare": variant == "landlock"}))
    assert "ESCAPED" not in second.text("stdout"), second
    assert second.text("stdout").count("HELD") >= 11
    # The control: where it was made, all of it is there.
    own = one.run(fill('''
for path in ("secret", os.environ["TMPDIR"] + "/secret", @folder@ + "/secret"):
    attempt(lambda: open(path).read())
attempt(lambda: child.poll() is None, bool)
''', {"folder": folder}))
    assert own.text("stdout").count("ESCAPED") == 4, own
