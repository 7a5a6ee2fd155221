"""Attacks on the walls of a container that the docker place makes, and on what is around it."""

import contextlib
import os
import socket
import threading
import time

import pytest
from attack import DISK_MIB, MARKER, MEMORY_MIB, fill
from engine import NOBODY, far_held, left_of, peak_kib, unwalled, wait_for
from support import processes

pytestmark = pytest.mark.engine("docker")

GAIN = '''
import subprocess
def gain():
    """The user ids of each set-user-ID program while it runs."""
    seen = []
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib/openssh"):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if not os.lstat(path).st_mode & 0o4000:
                continue
            child = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            for _ in range(60):
                try:
                    status = open(f"/proc/{child.pid}/status").read()
                except OSError:
                    break
                if status.split("Uid:")[1].split()[1] == "0" and path in (
                        open(f"/proc/{child.pid}/cmdline").read()):
                    seen.append(path)
                    break
                if child.poll() is not None:
                    break
                time.sleep(0.002)
            child.kill()
            child.wait()
    return seen
attempt(gain, bool)
'''


def test_no_program_makes_root(box, docker):
    """Programs that are set-user-ID root stay the user's, since no privilege can be gained."""
    far_held(box, docker, GAIN, guard_off={"user": NOBODY})


def test_nobody_without_capabilities(box):
    """Asked of the kernel, not of /proc: no capability in any set, no new privileges, a filter."""
    result = box.run('''
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
head = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)(*[7] * 6)
capget = {"x86_64": 125, "aarch64": 90}[os.uname().machine]
assert libc.syscall(capget, head, sets) == 0
bounding = sum(libc.prctl(23, cap, 0, 0, 0) == 1 for cap in range(41))
ambient = sum(libc.prctl(47, 1, cap, 0, 0) == 1 for cap in range(41))
print(list(sets), bounding, ambient, libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0),
      os.getresuid(), os.getresgid())
''')
    assert result.text("stdout") == (
        "[0, 0, 0, 0, 0, 0] 0 0 1 2 (65534, 65534, 65534) (65534, 65534, 65534)\n"), result


PRIVILEGED = {
    "setuid": "attempt(lambda: (os.setuid(0), os.getuid()), lambda v: v[1] == 0)",
    "chown": "open('/tmp/c', 'w').close(); attempt(lambda: os.chown('/tmp/c', 1, 1))",
    "mknod": "import stat\n"
             "attempt(lambda: os.mknod('/tmp/n', stat.S_IFCHR | 0o666, os.makedev(1, 3)))",
    "raw socket": "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "packet socket": "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))",
    "chroot": "attempt(lambda: os.chroot('/tmp'))",
    "hostname": "attempt(lambda: socket.sethostname('mine'))",
    "niceness": "attempt(lambda: os.nice(-5))",
    "a low port": "s = socket.socket()\n"
                  "attempt(lambda: (open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w')"
                  ".write('1024'), s.bind(('127.0.0.1', 81))))",
    "sysctl": "attempt(lambda: open('/proc/sys/net/ipv4/ip_forward', 'w').write('1'))",
    "kmsg": "attempt(lambda: os.open('/dev/kmsg', os.O_RDONLY))",
    "devices": "usual = {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'core',\n"
               "         'stdin', 'stdout', 'stderr', 'console'}\n"
               "def other():\n"
               "    found = []\n"
               "    for name in os.listdir('/dev'):\n"
               "        path = '/dev/' + name\n"
               "        if name not in usual and not os.path.isdir(path):\n"
               "            try: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))\n"
               "            except OSError: continue\n"
               "            found.append(name)\n"
               "    return found\n"
               "attempt(other, bool)",
    "the first process's memory": "attempt(lambda: open('/proc/1/mem', 'rb'))",
    "the first process's variables": "attempt(lambda: open('/proc/1/environ').read())",
}
LIBC = '''
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    if getattr(libc, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
'''
CALLS = {
    "mount": "attempt(lambda: call('mount', b'none', b'/mnt', b'tmpfs', 0, None))",
    "remount": "attempt(lambda: call('mount', None, b'/', None, 32 | 4096, None))",
    "umount": "attempt(lambda: call('umount2', b'/dev/mqueue', 2))",
    "user namespace": "attempt(lambda: call('unshare', 0x10000000))",
    "mount namespace": "attempt(lambda: call('unshare', 0x00020000))",
    "network namespace": "attempt(lambda: call('unshare', 0x40000000))",
    "another's namespace": "fd = os.open('/proc/self/ns/uts', os.O_RDONLY)\n"
                           "attempt(lambda: call('setns', fd, 0))",
    "trace the first process": "attempt(lambda: call('ptrace', 0x4206, 1, None, None))",
    "kernel keys": "libc.syscall.restype = ctypes.c_long\n"
                   "attempt(lambda: call('syscall', ctypes.c_long({'x86_64': 250, 'aarch64': 219}"
                   "[os.uname().machine]), ctypes.c_long(0), ctypes.c_long(-5), ctypes.c_long(1)))",
}


@pytest.mark.parametrize("name", [*PRIVILEGED, *CALLS])
def test_what_a_capability_would_allow(box, docker, name):
    """What root of a privileged container can do is not to be done."""
    code = PRIVILEGED.get(name) or LIBC + CALLS[name]
    far_held(box, docker, code, guard_off=unwalled())


FILES = '''
OWN = {"/workspace", "/tmp", "/data", "/mnt", "/input", "/inputs", "/output", "/outputs",
       "/dev/shm", "/dev/mqueue", "/proc", "/sys"}
def write():
    """Folders, of all there are but the container's own, where a file can be made."""
    found, seen = [], 0
    for folder, names, _ in os.walk("/"):
        names[:] = [n for n in names if os.path.join(folder, n) not in OWN]
        seen += 1
        path = os.path.join(folder, ".attack")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            continue
        os.unlink(path)
        found.append(folder)
    assert seen > 500, seen
    return found
attempt(write, bool)
'''


def test_nothing_else_can_be_written(box, docker):
    """The root is read-only, every folder of it; in /var/tmp anybody could write else."""
    far_held(box, docker, FILES, guard_off={"user": NOBODY})


CONNECT = '''
def connect():
    with socket.create_connection((@host@, @port@), 3) as s:
        return s.recv(100)
attempt(connect, lambda data: data == b"the host\\n")
'''


@contextlib.contextmanager
def host_listener(address):
    """A service of the host that tells whoever connects."""
    with socket.create_server((address, 0)) as listener:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listener.accept()
                    with one:
                        one.sendall(b"the host\n")
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_no_network(box, docker):
    """With network none neither the bridge nor the host's loopback is reached; nor a name."""
    with host_listener(docker.gateway) as port:
        far_held(box, docker, CONNECT, {"host": docker.gateway, "port": port},
                 {"NetworkMode": "bridge"})
    with host_listener("127.0.0.1") as port:
        far_held(box, docker, CONNECT, {"host": "127.0.0.1", "port": port},
                 {"NetworkMode": "host"})
    far_held(box, docker, "attempt(lambda: [n for _, n in socket.if_nameindex() if n != 'lo'"
             " and open(f'/sys/class/net/{n}/operstate').read() == 'up\\n'], bool)",
             guard_off={"NetworkMode": "bridge"})


SOCKET = '''
def engine():
    """The engine's answer, by any socket of it that can be found."""
    paths = [@path@, "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"]
    names = [line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:]
             if line.split()[-1].startswith(("/", "@"))]
    for path in paths + ["\\0" + n[1:] if n[0] == "@" else n for n in names]:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(3)
                s.connect(path)
                s.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
                if b"OK" in s.recv(4096):
                    return path
        except (OSError, ValueError):
            continue
attempt(engine, bool)
'''


def test_the_engine_is_out_of_reach(box, docker):
    """Who talks to the engine is root on the host."""
    path = str(docker.path)
    far_held(box, docker, SOCKET, {"path": path}, {"Binds": [f"{path}:{path}"]})


SECRET = '''
def look():
    """Where the server's marker can be seen."""
    found = []
    if any(@marker@ in v for v in os.environ.values()):
        found.append("environ")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for what in ("environ", "cmdline"):
            try:
                data = open(f"/proc/{pid}/{what}", "rb").read()
            except OSError:
                continue
            if @marker@.encode() in data:
                found.append(f"{pid}/{what}")
    return found
attempt(look, bool)
'''


def test_the_servers_variables(box, docker):
    """Nothing of the server's environment is in the container's; nor in what describes it."""
    far_held(box, docker, SECRET.replace("@marker@", f"({MARKER[:9]!r} + {MARKER[9:]!r})"),
             guard_off={"env": (f"SECRET={MARKER}",)})
    for container in docker.ours(box.client.pid):
        assert MARKER not in str(docker.call("GET", f"/containers/{container['Id']}/json"))


NEIGHBOUR = '''
def look():
    found = []
    for folder in ("", *(f"/proc/{p}/root" for p in os.listdir("/proc") if p.isdigit())):
        for place in ("/workspace", "/tmp", "/dev/shm"):
            try:
                found += [place for n in os.listdir(folder + place) if n == @name@]
            except OSError:
                continue
    return found
attempt(look, bool)
'''


def test_a_neighbours_files_and_processes(box, other, docker):
    """Two sessions share nothing, not even /tmp; a container that sees all processes finds it."""
    name = f"secret-{os.getpid()}"
    made = other.run("for f in ('/workspace', '/tmp', '/dev/shm'):\n"
                     f"    open(f + '/{name}', 'w').write('mine')\nprint('there')")
    assert made.text("stdout") == "there\n", made
    far_held(box, docker, NEIGHBOUR, {"name": name}, {**unwalled(), "PidMode": "host"})
    seen = box.run("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(seen.text("stdout")) <= 3, seen


FILL = '''
def fill(folder):
    """Writes far more than may be; gives the rest back."""
    path, done = os.path.join(folder, "big"), 0
    try:
        with open(path, "wb", 0) as file:
            while done < @mib@ << 20:
                done += file.write(bytes(1 << 20))
    finally:
        os.unlink(path)
    return done
attempt(lambda: fill(@folder@))
'''


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/data", "/dev/shm"])
def test_no_disk_past_the_limit(box, docker, folder):
    """Each folder has a size of its own; on the engine's disk it would all fit."""
    control = {"user": "0", "ShmSize": 512 << 20}
    code = "import os\nos.makedirs(@folder@, exist_ok=True)\n" + FILL
    far_held(box, docker, code, {"folder": folder, "mib": DISK_MIB + 16}, control)
    box.answers()


def test_all_folders_together_are_memory(other, docker):
    """Filling every folder ends where the container's memory does; the engine and others live."""
    result = other.run(fill('''
for folder in ("/workspace", "/tmp", "/data", "/mnt", "/input", "/output", "/outputs", "/dev/shm"):
    try:
        with open(folder + "/big", "wb", 0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        print(folder, error.strerror)
print("ESCAPED")
''', {}), timeout_seconds=20)
    assert result.cause in ("out_of_memory", "lost") and "ESCAPED" not in result.text("stdout"), (
        result)
    other.answers()
    assert docker.ping()


def test_memory_past_the_limit(other, docker):
    """One process is told by MemoryError; the same code does it where there is no limit."""
    code = "data = bytearray(@size@)\ndata[::4096] = b'x' * len(data[::4096])\nprint('ESCAPED')"
    values = {"size": (MEMORY_MIB + 100) << 20}
    result = other.run(fill(code, values), timeout_seconds=20)
    assert "MemoryError" in result.text("error") or result.cause == "out_of_memory", result
    assert "ESCAPED" not in result.text("stdout"), result
    other.answers()
    assert "ESCAPED" in docker.bare(code, values)


def test_memory_of_many(other):
    """Children that take it together, each below the limit."""
    code = '''
children = []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        data = bytearray(60 << 20)
        data[::4096] = b"x" * len(data[::4096])
        time.sleep(20)
        os._exit(0)
    children.append(pid)
time.sleep(2)
alive = sum(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in children)
for pid in children:
    try: os.kill(pid, 9)
    except ProcessLookupError: pass
print("ESCAPED" if alive == 10 else "HELD", alive)
'''
    result = other.run(fill(code, {}), timeout_seconds=20)
    assert result.cause == "out_of_memory" or "HELD" in result.text("stdout"), result
    other.answers()


FORKS = '''
children, refused = [], False
for _ in range(@count@):
    try:
        pid = os.fork()
    except OSError as error:
        refused = True
        break
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
print("HELD" if refused else "ESCAPED", len(children))
'''


def test_number_of_processes(box, docker):
    """Only so many; without the limit it is more."""
    far_held(box, docker, FORKS, {"count": 100}, {})
    box.answers()


def test_a_fork_bomb(box, other, docker):
    """It ends with its run. Meanwhile the engine and a neighbour answer."""
    other.open()
    token = other.begin(fill("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n"
                             "    try: os.fork()\n    except OSError: pass", {}), timeout_seconds=3)
    time.sleep(0.5)
    started = time.monotonic()
    assert docker.ping()
    box.answers()
    assert time.monotonic() - started < 10
    result = other.client.tool_result(token)
    assert result.cause in ("timeout", "lost", "killed"), result
    other.answers()
    pids = other.run("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(pids.text("stdout")) <= 3, pids


# ---- the supervisor ----

REACH = '''
def write():
    """Frames into whatever the first process has open; the stream is among it."""
    done = []
    for name in os.listdir("/proc/1/fd"):
        try:
            fd = os.open(f"/proc/1/fd/{name}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"\\x0f\\0\\0\\0\\x33" + b'{"how":"disk"}\\n')
            done.append(name)
        except OSError:
            continue
    return done
attempt(write, bool)
'''


def test_the_stream_cannot_be_reached(box, docker):
    """The supervisor is the same user's, and yet not to be looked into: its descriptors are shut.
    The first process of any other container of this user is open to all."""
    far_held(box, docker, REACH, guard_off={"user": NOBODY})
    box.answers()


SOCKETS = '''
import json, stat
def frame(kind, payload):
    data = json.dumps(payload).encode()
    for fd in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, struct.pack("<IB", len(data), kind) + data)
        except OSError:
            pass
'''
FORGED = {
    "an end by memory": "frame(0x33, {'how': 'memory', 'used': 1, 'limit': 1})",
    "an end by disk": "frame(0x33, {'how': 'disk', 'used': 1, 'limit': 1})",
    "an end with a code": "frame(0x33, {'how': 'code', 'code': 0})",
    "a start": "frame(0x31, {'pid': 1})",
    "a greeting": "frame(0x30, {'cellblock': 1, 'python': '3.11.2', 'folder': None})",
    "a receipt": "frame(0x34, {'id': 1, 'bytes': 1 << 40})",
    "a copy's end": "frame(0x35, {'id': 1, 'error': None})",
    "output": "frame(0x11, 'not through here')",
    "a request": "frame(0x20, {'workspace': '/tmp'})",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_frames_of_the_supervisor(other, name):
    """What only the supervisor may say is not passed on for the worker: the run ends as one that
    broke the protocol. The control is a note, which a worker may send."""
    control = other.run(fill(SOCKETS + "frame(0x15, {'text': 'forged note'})", {}))
    assert "forged note" in control.text("note"), f"vacuous: {control}"
    result = other.run(fill(SOCKETS + FORGED[name] + "\ntime.sleep(2)", {}), timeout_seconds=10)
    assert result.cause in ("killed", "lost"), result
    assert "memory" not in result.text("note") and "disk" not in result.text("note"), result
    assert "not through here" not in result.text("stdout"), result
    other.answers()


KILLS = {
    "SIGTERM": ("os.kill(1, signal.SIGTERM)", True),
    "SIGHUP": ("os.kill(1, signal.SIGHUP)", True),
    "SIGKILL": ("os.kill(1, signal.SIGKILL)", False),
    "SIGSTOP": ("os.kill(1, signal.SIGSTOP)", False),
    "all": ("os.kill(-1, signal.SIGKILL)", False),
}


@pytest.mark.parametrize("name", KILLS)
def test_killing_the_supervisor(box, other, docker, name):
    """The kernel lets no SIGKILL reach a first process. What it can be told to end by ends the
    code's own session, which is said; nothing is left, and a neighbour does not notice."""
    code, ends = KILLS[name]
    other.open()
    before = len(docker.ours(other.client.pid))
    result = other.run(fill(code + "\ntime.sleep(1.5)\nprint('went on')", {}), timeout_seconds=10)
    assert result.cause in (("lost",) if ends else ("ok", "error")), result
    assert result.cause != "lost" or result.text("note"), result
    box.answers()
    other.answers()
    wait_for(lambda: len(docker.ours(other.client.pid)) <= before, what="the old one removed")


# ---- what is left behind ----

DAEMON = '''
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        if os.fork() == 0:
            os.execv("/usr/bin/env", ["env", "sh", "-c", "while :; do sleep 1; done", @word@])
        os._exit(0)
time.sleep(@sleep@)
'''


def test_daemons_end_with_a_killed_run(other):
    """A worker that had to be killed takes all that its code started with it."""
    word = f"daemon-{os.getpid()}-killed"
    other.open()
    token = other.begin(fill("signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + DAEMON,
                             {"word": word, "sleep": 60}), timeout_seconds=2)
    wait_for(lambda: left_of(word), what="the control: the daemons run")
    assert other.client.tool_result(token).cause == "timeout"
    wait_for(lambda: not left_of(word), 3, "the daemons' end")
    other.answers()


def test_daemons_end_with_the_session(walled, docker):
    """reset_session leaves neither a process nor a container."""
    word = f"daemon-{os.getpid()}-reset"
    one = walled.cell()
    assert one.run(fill(DAEMON, {"word": word, "sleep": 0.2})).cause == "ok"
    assert left_of(word), "vacuous"
    before = {c["Id"] for c in docker.ours(walled.client.pid)}
    one.reset()
    wait_for(lambda: not left_of(word), 5, "the daemons' end")
    wait_for(lambda: {c["Id"] for c in docker.ours(walled.client.pid)} < before, 5, "the removal")


def test_a_flood_stays_small(other):
    """Output as quick as a container can give it, with the whole of it dropped here."""
    result = other.run("import os\ndata = b'x' * 65536\nwhile True:\n    os.write(1, data)",
                       timeout_seconds=2)
    assert result.cause == "timeout" and result.outcome["truncated"], result
    assert peak_kib(other.client.pid) < 400 * 1024
    assert processes.pss_kib(other.client.pid) < 300 * 1024
    other.answers()


def test_the_container_as_the_engine_tells(box, docker):
    """What was asked of the engine is what it has made."""
    (one, *_rest) = docker.ours(box.client.pid)
    made = docker.call("GET", f"/containers/{one['Id']}/json")
    host = made["HostConfig"]
    assert host["ReadonlyRootfs"] and not host["Privileged"] and host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"] and not host["Binds"] and not host["Devices"]
    assert any("no-new-privileges" in word for word in host["SecurityOpt"])
    assert host["NetworkMode"] == "none" and host["PidMode"] == "" and host["UTSMode"] == ""
    assert host["IpcMode"] == "private" and not host["PublishAllPorts"] and not host["PortBindings"]
    assert host["Memory"] == host["MemorySwap"] == MEMORY_MIB << 20 and host["PidsLimit"] > 0
    assert made["Config"]["User"] == NOBODY and made["Mounts"] == []


def test_a_link_in_the_way_of_a_copy(other, walled):
    """A copy goes where it was told to or nowhere; never through a link that the code has made."""
    source = walled.shares / "gift"
    source.write_text("a gift", encoding="utf-8")
    source.chmod(0o644)
    assert other.run('''
import os
os.makedirs("/tmp/elsewhere")
os.symlink("/tmp/elsewhere", "/workspace/folder")
os.symlink("/tmp/elsewhere/target", "/workspace/link")
os.symlink("/nowhere", "/workspace/dangling")
os.mkfifo("/workspace/fifo")
''').cause == "ok"
    for dest in ("/workspace/folder/gift", "/workspace/folder/deep/gift", "/workspace/link",
                 "/workspace/link/gift", "/workspace/dangling", "/workspace/dangling/gift",
                 "/workspace/fifo", "/workspace/fifo/gift"):
        assert other.share(source, dest).is_error, dest
    seen = other.run("import os\nprint(os.listdir('/tmp/elsewhere'), ["
                     "n for n in sorted(os.listdir('.')) if n != '.local'])")
    assert seen.text("stdout") == "[] ['dangling', 'fifo', 'folder', 'link']\n", seen
    assert not other.share(source, "/workspace/plain/gift").is_error  # the control
    assert other.run("print(open('plain/gift').read())").text("stdout") == "a gift\n"
