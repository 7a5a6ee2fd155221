"""The first process of a sandbox: starts what the server asks for and tells how it ended.

Run by the system's Python, with nothing but the standard library. Its only way out is a socket of
packets (its number is the argument). In: {"op": "exec" | "connect" | "listen" | "kill", "id": …};
descriptors come along. Out: started, failed, exited, connected (with the connection), listening
(with the listener).
"""

import array
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import termios

LARGEST = 190_000  # bytes of a packet


def receive(channel):
    """One packet and its descriptors; None at the end."""
    fds = array.array("i")
    try:
        data, more, _, _ = channel.recvmsg(LARGEST, socket.CMSG_LEN(4 * fds.itemsize))
    except ConnectionResetError:
        return None, []
    for level, kind, content in more:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
    return (json.loads(data), list(fds)) if data else (None, [])


class Agent:
    """What runs, by the server's ids."""

    def __init__(self, channel):
        self.channel = channel
        self.running = {}  # pid: (id, Popen)

    def say(self, fds=(), **words):
        """A packet to the server."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.channel, [json.dumps(words).encode()], list(fds))

    def on_exec(self, words, fds):
        """Starts a process with these three descriptors; a terminal is one for all."""
        def prepare():
            if words.get("terminal"):
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if words.get("memory"):
                resource.setrlimit(resource.RLIMIT_AS, (words["memory"], words["memory"]))

        try:
            process = subprocess.Popen(words["argv"], stdin=fds[0], stdout=fds[1], stderr=fds[2],
                                       env=words["env"], cwd=words["cwd"], start_new_session=True,
                                       preexec_fn=prepare)
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            self.say(op="failed", id=words["id"], text=str(problem))
        else:
            self.running[process.pid] = (words["id"], process)
            self.say(op="started", id=words["id"], pid=process.pid)
        finally:
            for fd in fds:
                os.close(fd)

    def on_kill(self, words, _fds):
        """A signal to a process's whole session."""
        for pid, (name, _) in self.running.items():
            if name == words["id"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, words["signal"])

    def on_connect(self, words, _fds):
        """A connection to a port of the sandbox, handed to the server."""
        try:
            with socket.create_connection(("127.0.0.1", words["port"]), 2) as connection:
                self.say([connection.fileno()], op="connected", id=words["id"])
        except OSError as problem:
            self.say(op="connected", id=words["id"], text=str(problem))

    def on_listen(self, words, _fds):
        """A listener on a port of the sandbox, handed to the server."""
        try:
            with socket.create_server(("127.0.0.1", words["port"])) as listener:
                self.say([listener.fileno()], op="listening", id=words["id"])
        except OSError as problem:
            self.say(op="listening", id=words["id"], text=str(problem))

    def reap(self):
        """Tells of those that have ended."""
        for pid, (name, process) in list(self.running.items()):
            if process.poll() is not None:
                del self.running[pid]
                self.say(op="exited", id=name, status=process.returncode)

    def serve(self):
        """Until the server closes the socket."""
        wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.channel, wakeup], [], [])
            if wakeup in ready:
                os.read(wakeup, 4096)
                self.reap()
            if self.channel in ready:
                words, fds = receive(self.channel)
                if words is None:
                    return
                getattr(self, "on_" + words["op"])(words, fds)


if __name__ == "__main__":
    Agent(socket.socket(fileno=int(sys.argv[1]))).serve()
