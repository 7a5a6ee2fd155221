"""What the engines share: a folder, a state file, processes with a log, waits with a limit."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build-logs" / "engines"
BASE = Path(os.environ.get("CELLBLOCK_ENGINES") or f"/tmp/cellblock-engines.{os.getuid()}")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellblock-tests"


class EngineError(Exception):
    """An engine that cannot be started, with the reason and the end of its log."""


class Engine:
    """One engine: a subclass starts it in `self.folder` and says what a variant needs.

    `start` and `stop` may be called any number of times, also by several processes at once.
    """

    name = ""
    packages = ()  # Debian's
    commands = ()  # what must be on PATH (or in sbin)
    root_only = False

    def __init__(self):
        self.folder = BASE / self.name
        self.state = {"processes": [], "info": {}}

    # For the callers

    def missing(self):
        """Why it cannot be started here, or None."""
        absent = [command for command in self.commands if not which(command)]
        if absent:
            return (f"{self.name}: {', '.join(absent)} missing: "
                    f"apt-get install {' '.join(self.packages)}")
        if self.root_only and os.getuid() != 0:
            return f"{self.name}: only root can start it"
        return None

    def start(self):
        """Starts it unless it runs; returns what a variant needs."""
        if reason := self.missing():
            raise EngineError(reason)
        with self._locked():
            if self._running():
                return self.state["info"]
            self._end()
            self.folder.mkdir(mode=0o755, parents=True)
            try:
                self.state = {"processes": [], "info": {}}
                self.state["info"] = self.launch()
                self._save()
            except BaseException:
                self._end()
                raise
            return self.state["info"]

    def stop(self):
        """Ends it and removes everything of it."""
        with self._locked():
            self._running()
            self._end()

    def running(self):
        """What start() answered, or None when it does not run."""
        return self.state["info"] if self._running() else None

    # For subclasses

    def launch(self):
        """Starts the processes with `spawn`; returns a dictionary that JSON can hold."""
        raise NotImplementedError

    def leftovers(self):
        """What users of the engine have in it now: containers, kernels, processes; as texts."""
        raise NotImplementedError

    def wait_left(self, before=(), seconds=10):
        """Waits until nothing is there but what was before; returns what else is."""
        deadline = time.monotonic() + seconds
        while (left := set(self.leftovers()) - set(before)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return sorted(left)

    def cleanup(self):
        """Before the processes are ended: containers, jobs. After a crash of the engine, too."""

    def swept(self):
        """After the processes have ended: mounts, interfaces, rules."""

    def spawn(self, argv, env=None, log=None, cwd=None):
        """Starts a process of the engine in a session of its own; its output is its log."""
        LOGS.mkdir(parents=True, exist_ok=True)
        path = LOGS / f"{log or self.name}.log"
        with open(path, "ab") as out:
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, cwd=cwd or self.folder, env=env,
                                       start_new_session=True)
        self.state["processes"].append([process.pid, started(process.pid)])
        self._save()
        process.log = path
        return process

    def wait(self, what, ready, process, seconds=60):
        """Waits until ready() is true; a process that has died meanwhile is told with its log."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, EngineError):
                if ready():  # a command that fails is one that does not yet work
                    return
            status = process.poll()
            if status is not None or time.monotonic() > deadline:
                how = f"ended with {status}" if status is not None else f"not within {seconds} s"
                raise EngineError(f"{self.name}: {what}: {how}\n{tail(process.log)}")
            time.sleep(0.05)

    # Inside

    @contextlib.contextmanager
    def _locked(self):
        BASE.mkdir(mode=0o755, exist_ok=True)
        with open(BASE / f"{self.name}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self):
        return BASE / f"{self.name}.json"

    def _save(self):
        self._file().write_text(json.dumps(self.state), encoding="utf-8")

    def _running(self):
        with contextlib.suppress(OSError, ValueError):
            self.state = json.loads(self._file().read_text(encoding="utf-8"))
        alive = [started(pid) == when for pid, when in self.state["processes"]]
        return bool(alive) and all(alive) and bool(self.state["info"])

    def _end(self):
        if self.folder.exists():
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
                self.cleanup()
        for pid, when in reversed(self.state["processes"]):
            end(pid, when)
        self.swept()
        unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._file().unlink(missing_ok=True)


def which(command):
    """The path of a program, also of those in sbin."""
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def started(pid):
    """When a living process was started (in clock ticks), else None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])


def descendants(pid):
    """The command lines of all processes below this one, with their pids."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and parent(name) == pid:
                words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{name} {words.decode('utf-8', 'replace').strip()}")
                found += descendants(int(name))
    return found


def parent(pid):
    """The parent of a process that lives; of a zombie None."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return None if fields[0] in b"ZX" else int(fields[1])


def end(pid, when, seconds=15):
    """SIGTERM to the process, then SIGKILL to its whole session."""
    for number, patience, send in ((signal.SIGTERM, seconds, os.kill),
                                   (signal.SIGKILL, 5, os.killpg)):
        if when is None or started(pid) != when:
            break
        with contextlib.suppress(ProcessLookupError):
            send(pid, number)
        deadline = time.monotonic() + patience
        while started(pid) == when and time.monotonic() < deadline:
            time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def mounts_below(folder):
    """Mount points in a folder, innermost first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [p for p in reversed(points) if p == str(folder) or p.startswith(f"{folder}/")]


def unmount_below(folder):
    """Detaches every mount in a folder, so that removing it removes nothing else."""
    for point in mounts_below(folder):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    if left := mounts_below(folder):
        raise EngineError(f"still mounted: {left}")


def tail(path, size=3000):
    """The end of a log."""
    return Path(path).read_bytes()[-size:].decode("utf-8", "replace")


def free_port():
    """A port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def token():
    """A secret nobody can guess."""
    return secrets.token_hex(16)


def connects(port):
    """Does somebody listen on this port of the loopback?"""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def run(*argv, **options):
    """A command that must succeed; its output is the error's text."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                          check=False, **options)
    if done.returncode != 0:
        raise EngineError(f"{argv[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def say(text):
    """Progress, on stderr: stdout is for the JSON."""
    print(text, file=sys.stderr, flush=True)
