"""A server that plays Modal (tests/modal/modal_server), with sandboxes of bwrap."""

import json
import urllib.request

from .common import ROOT, Engine

PYTHON = ROOT / ".venv" / "bin" / "python"
SERVER = ROOT / "tests" / "modal"


class Modal(Engine):
    """start() answers the server's line: url, token_id, token_secret, door, ca…"""

    name = "modal"
    packages = ("bubblewrap",)
    commands = ("bwrap",)

    def missing(self):
        if not PYTHON.exists():
            return f"{self.name}: no {PYTHON}: tests/run.sh --install makes it"
        return super().missing()

    def launch(self):
        line = self.folder / "line.json"
        process = self.spawn([PYTHON, "-m", "modal_server", "--base", self.folder / "base",
                              "--stay", "--info", line], cwd=SERVER)
        self.wait("the server does not answer", lambda: json.loads(line.read_bytes()), process)
        return json.loads(line.read_bytes())

    def leftovers(self):
        with urllib.request.urlopen(f"{self.running()['door']}/state", timeout=10) as answer:
            sandboxes = json.load(answer)["sandboxes"]
        return [f"{one['id']} {one['name']}" for one in sandboxes if not one["status"]]
