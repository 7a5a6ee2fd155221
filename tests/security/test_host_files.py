"""Attacks on the host's files, environment and devices."""

import os
import tempfile
from pathlib import Path

import pytest
from attack import IS_ROOT, MARKER, NAMESPACED, PROCESSES, held
from support.client import ROOT

SECRET = "the secret of the host"


@pytest.fixture(scope="session")
def secrets():
    """Files that everybody on this machine may read, where people keep them."""
    files, folders = [], ["/tmp", "/var/tmp", "/dev/shm", str(ROOT), os.path.expanduser("~")]
    folders += ["/root", "/home", "/opt", "/srv", "/mnt", "/run"] if IS_ROOT else []
    for folder in folders:
        if os.access(folder, os.W_OK):
            fd, name = tempfile.mkstemp(prefix=".cellblock-secret-", dir=folder)
            os.write(fd, SECRET.encode())
            os.fchmod(fd, 0o644)
            os.close(fd)
            files.append(name)
    yield files
    for name in files:
        os.unlink(name)


def test_files_of_the_host(cell, secrets):
    """By their paths, and by the paths through every process that can be seen."""
    assert len(secrets) >= 3
    for secret in secrets:
        held(cell, "attempt(lambda: open(@path@).read())", values={"path": secret})
    held(cell, '''
def steal():
    ways = []
    for pid in ["self", *[p for p in os.listdir("/proc") if p.isdigit()]]:
        ways += [f"/proc/{pid}/root", f"/proc/{pid}/cwd/" + "../" * 40]
        try:
            ways += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            ways += [f"/proc/{pid}/task/{t}/root" for t in os.listdir(f"/proc/{pid}/task")]
        except OSError:
            pass
    found = []
    for way in ways:
        for secret in @paths@:
            try:
                found.append(open(way + secret).read())
            except OSError:
                pass
    if not found:
        raise OSError("none of %d ways" % len(ways))
attempt(steal)
''', values={"paths": secrets})


def test_walking_up_and_around(cell, secrets):
    """`..` past the root, descriptors of folders, links made inside."""
    held(cell, '''
def steal():
    for start in (".", "/", "/tmp", "/usr"):
        for secret in @paths@:
            for path in (start + "/.." * 40 + secret, secret):
                try:
                    link = "./link-%d" % time.monotonic_ns()
                    os.symlink(path, link)
                    with open(link) as file:
                        return file.read()
                except OSError:
                    pass
            try:
                fd = os.open(start, os.O_PATH)
                return open(os.open("../" * 40 + secret.lstrip("/"), os.O_RDONLY, dir_fd=fd)).read()
            except OSError:
                pass
    raise OSError("nowhere")
attempt(steal)
''', values={"paths": secrets})


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/hostname", "/etc/machine-id", "/var/log",
                                  "/var/lib/dpkg/status", "/root", "/home", "/etc/sudoers",
                                  "/etc/fstab", "/proc/kcore", "/proc/kmsg", "/sys/kernel",
                                  "/boot"])
def test_places_that_tell_of_the_machine(cell, path):
    """They are not there, empty or refused."""
    exists = os.path.exists(path) and os.access(path, os.R_OK)
    held(cell, '''
def look():
    if os.path.isdir(@path@):
        return os.listdir(@path@)
    with open(@path@, "rb") as file:
        return file.read(16)
attempt(look, bool)
''', values={"path": path}, control=exists and path not in ("/root", "/home", "/proc/kmsg")
        and bool(os.path.isfile(path) or os.listdir(path)))


def test_accounts_are_not_those_of_the_host(cell, variant):
    """The cell has accounts of its own; without a mount namespace /etc/passwd is the host's."""
    if variant == "landlock":
        return
    host = Path("/etc/passwd").read_text()
    names = cell.run("import pwd\nprint([p.pw_name for p in pwd.getpwall()])").text("stdout")
    assert names == "['root', 'sandbox', 'nobody']\n" and host.count("\n") > 3


def test_environment_of_the_server(cell, target):
    """The server's variables are nowhere: not ours, not in any process that can be seen."""
    assert MARKER.encode() in Path(f"/proc/{target.client.pid}/environ").read_bytes()
    code = '''
def search():
    found = [v for v in os.environ.values() if @marker@ in v]
    for pid in [p for p in os.listdir("/proc") if p.isdigit()] + ["self", "thread-self"]:
        for name in ("environ", "mem", "auxv"):
            try:
                data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
            except OSError:
                continue
            if @marker@.encode() in data:
                found.append((pid, name))
    return found
attempt(search, bool)
'''
    held(cell, code, values={"marker": MARKER})
    keys = cell.run("import os\nprint(sorted(os.environ))").text("stdout")
    for name in ("SSH_AUTH_SOCK", "CELLBLOCK_SECURITY_MARKER", "XDG_RUNTIME_DIR", "VIRTUAL_ENV"):
        assert name not in keys


@pytest.mark.only(*NAMESPACED)
def test_the_first_process_has_no_environment_of_the_host(target, cell):
    """bwrap itself keeps what it was started with: nothing. Seen from outside, all of the tree."""
    seen = 0
    for pid, _ in target.client.tree():
        if pid == target.client.pid:
            continue
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # not dumpable: nobody but root reads it
        seen += 1
        assert MARKER.encode() not in environ + command
    assert seen or not IS_ROOT


def test_devices(cell):
    """Only the harmless ones."""
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "stdin", "stdout",
                "stderr", "fd", "core", "console", "shm", "pts", "mqueue", "log", "hugepages"}
    host = sorted({str(p) for p in Path("/dev").rglob("*") if p.is_block_device()
                   or p.is_char_device()} - {f"/dev/{n}" for n in harmless})
    host = [p for p in host if not p.startswith(("/dev/pts/", "/dev/fd/"))][:200]
    host += ["/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vda"]
    result = cell.run('''
import os
for path in %r:
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_PATH):
        try:
            os.open(path, flags | os.O_NONBLOCK)
        except OSError:
            continue
        if flags != os.O_PATH or "landlock" not in %r:
            print("ESCAPED", path, flags)
print("HELD")
''' % (host, cell.variant))
    assert result.text("stdout") == "HELD\n", result


def test_making_a_device(cell):
    """A node for what the kernel gives by number: refused, or of no use."""
    held(cell, '''
import stat
def make():
    name = "node-%d" % time.monotonic_ns()
    os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return os.read(os.open(name, os.O_RDONLY), 4)
attempt(make)
''', control=IS_ROOT)


@pytest.mark.parametrize("path", ["/usr", "/etc", "/run", "/bin", "/sys", "/proc/sys/kernel",
                                  "/run/cellblock", "/usr/lib", "/dev"])
def test_writing_to_the_system(cell, path):
    """Nothing of it can be written, renamed, removed or given other rights."""
    held(cell, '''
def write():
    done = []
    victims = [os.path.join(@path@, n) for n in os.listdir(@path@)][:5]
    for action in (
            lambda: open(@path@ + "/planted-by-test", "w").close()
                    or os.unlink(@path@ + "/planted-by-test"),
            lambda: os.mkdir(@path@ + "/planted-by-test") or os.rmdir(@path@ + "/planted-by-test"),
            *[lambda v=v: os.rename(v, v + "-moved") for v in victims],
            *[lambda v=v: open(v, "r+b") for v in victims if os.path.isfile(v)],
            *[lambda v=v: os.truncate(v, 0) for v in victims if os.path.isfile(v)]):
        try:
            action()
            done.append(action)
        except OSError:
            pass
    if not done:
        raise OSError("nothing")
attempt(write)
''', values={"path": path}, control=False)


def test_the_same_write_succeeds_where_it_may(cell):
    """The control of the test above: the same calls, in the cell's own folder."""
    result = cell.run('''
import os
os.mkdir("victims"); open("victims/one", "w").write("x")
os.rename("victims/one", "victims/one-moved"); open("victims/one-moved", "r+b").close()
os.truncate("victims/one-moved", 0); os.mkdir("victims/planted"); print("written")
''')
    assert result.text("stdout") == "written\n"


def test_other_ways_to_write_usr(cell):
    """Another name for it changes nothing: hard link, bind by descriptor, /proc/self/root."""
    held(cell, '''
def write():
    for path in ("/proc/self/root/usr/planted", "/proc/1/root/usr/planted", "/bin/planted",
                 "/proc/self/cwd/../usr/planted"):
        try:
            open(path, "w").close()
            return path
        except OSError:
            pass
    os.link("/usr/bin/env", "./env")
    with open("./env", "r+b") as file:
        return file
attempt(write)
''', control=False)


@pytest.mark.only(*NAMESPACED)
def test_setuid_programs_do_not_help(cell):
    """su, while it asks for a password, is not root."""
    held(cell, '''
import subprocess
def gain():
    child = subprocess.Popen(["su", "-c", "id", "root"], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = ""
    for _ in range(100):
        status = open(f"/proc/{child.pid}/status").read()
        seen = status.split("Uid:")[1].split("\\n")[0].split() if "Uid:" in status else seen
        if seen[1:2] == ["0"] or child.poll() is not None:
            break
        time.sleep(0.01)
    child.kill()
    return seen
attempt(gain, lambda uids: uids[1] == "0")
''', uid=65534 if IS_ROOT else os.geteuid())


def test_walls_as_the_kernel_tells(cell, variant):
    """No capability, no new privileges, a filter; asked of the kernel by prctl, not of /proc."""
    result = cell.run('''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
sets = (ctypes.c_uint32 * 6)(*[7] * 6)
assert libc.syscall(125, ctypes.byref(Header(0x20080522, 0)), sets) == 0
bounding = sum(libc.prctl(23, cap, 0, 0, 0) == 1 for cap in range(41))
ambient = sum(libc.prctl(47, 1, cap, 0, 0) == 1 for cap in range(41))
print(list(sets), ambient, libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0), bounding)
''').text("stdout").split("]")
    assert result[0] == "[0, 0, 0, 0, 0, 0"
    ambient, no_new_privs, seccomp, bounding = map(int, result[1].split())
    assert (ambient, no_new_privs, seccomp) == (0, 1, 2)
    assert bounding == 0 or variant != "forked"


def test_mount_points_cannot_be_changed(cell):
    """Neither remounted, nor covered, nor bound elsewhere, as the libc's caller."""
    for call in ("mount(None, b'/usr', None, 32 | 4096, None)",
                 "mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)",
                 "mount(b'/usr', b'/tmp', None, 4096, None)", "umount2(b'/proc', 2)"):
        held(cell, f'''
libc = ctypes.CDLL(None, use_errno=True)
def change():
    if libc.{call} != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
attempt(change)
''', namespace=True, control="umount2" not in call and "4096, None)" not in call[-12:])


def test_limits_are_the_ones_that_were_set(cell, variant):
    """And cannot be raised again."""
    result = cell.run('''
import resource
print([resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("CORE", "NPROC", "NOFILE")])
for name in ("DATA", "NPROC", "NOFILE", "CORE"):
    which = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(which)
    try:
        resource.setrlimit(which, (hard + 1, hard + 1))
        print("ESCAPED", name)
    except (ValueError, OSError):
        pass
''')
    processes = 256 if variant == "landlock" else PROCESSES
    assert result.text("stdout") == f"[(0, 0), ({processes}, {processes}), (1024, 1024)]\n"
