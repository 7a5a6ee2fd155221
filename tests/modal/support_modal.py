"""Starts the server that plays Modal and asks it things."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIVE = 0  # the status of a sandbox that has not ended


def live(server):
    """The sandboxes that run."""
    return [one for one in server.state()["sandboxes"] if one["status"] == LIVE]


def wait_for(true, what, seconds=15):
    """Until true() is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class ModalServer:
    """A server of its own; a context manager. `info` is the line that it printed."""

    def __init__(self, *words):
        self.folder = tempfile.TemporaryDirectory(prefix="cellblock-modal.")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modal_server", "--base", f"{self.folder.name}/base", *words],
            cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.info = json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends it with everything that it started."""
        self.process.stdin.close()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()
            self.folder.cleanup()
        assert status == 0, status

    def environment(self, **more):
        """What a client needs in its variables."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MODAL_")}
        return {**kept, "MODAL_SERVER_URL": self.info["url"], "CA": self.info["ca"],
                "MODAL_TOKEN_ID": self.info["token_id"], "HOME": self.folder.name,
                "MODAL_TOKEN_SECRET": self.info["token_secret"], **more}

    def ask(self, path, words=None):
        """The door's answer (see modal_server/faults.py)."""
        data = None if words is None else json.dumps(words).encode()
        request = urllib.request.Request(f"{self.info['door']}/{path}", data=data,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def state(self):
        """All there is."""
        return self.ask("state")

    def fault(self, rpc, what, **words):
        """Something that goes wrong at the next call of an RPC."""
        self.ask("fault", {"rpc": rpc, "what": what, **words})


class Tellers:
    """A story that is told to a server by a program, by both generations beside each other."""

    def __init__(self, server, command, folder, **more):
        self.server = server
        self.told_to_end = {}
        self.processes = {generation: subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=server.environment(MODAL_SANDBOX_V2=word, **more))
            for generation, word in (("1", "0"), ("2", "1"))}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.communicate()

    def told(self, generation):
        """The lines that were printed, when it has gone well to the end."""
        process = self.processes[generation]
        if generation not in self.told_to_end:
            self.told_to_end[generation] = process.communicate(timeout=170)
        out, err = self.told_to_end[generation]
        assert process.returncode == 0, f"after {out.split()[-1:]}:\n{err}"
        return out.splitlines()

    def end(self):
        """The server's state when all is told."""
        for generation in self.processes:
            self.told(generation)
        return self.server.state()
