"""What the attacks share: the sandboxes they are made against, and the proof that each can succeed.

An attack is Python code that prints ESCAPED when it got what it wanted and HELD when it did not.
`held()` runs it in a sandbox, where it has to be held, and once more where the guard is absent
(straight on this machine, or with the guard switched off), where it has to escape: an attack that
never could succeed proves nothing.

In the code `@name@` stands for the repr of the value `name`.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.client import Client

IS_ROOT = os.geteuid() == 0
NAMESPACED = ("forked", "solo", "denied")
VARIANTS = (*NAMESPACED, "landlock")
MEMORY_MIB, DISK_MIB, PROCESSES = 256, 64, 64
MARKER = "marker-of-the-server-5d1f"

PRELUDE = '''
import ctypes, errno, os, signal, socket, struct, sys, time
def attempt(action, wanted=lambda value: True):
    """Says whether the action succeeded with a result that the attacker wants."""
    try:
        value = action()
    except BaseException as error:
        print("HELD", type(error).__name__, str(error)[:300])
    else:
        print("ESCAPED" if wanted(value) else "HELD", repr(value)[:300])
'''


def fill(code, values):
    """The attack's whole code, with its values in place."""
    return PRELUDE + re.sub(r"@(\w+)@", lambda m: repr(values[m.group(1)]), code)


def sandbox_uid(client):
    """Whose processes the sandboxes of a server are, on the host."""
    return 61184 + client.pid % 4336 if IS_ROOT else os.geteuid()


def on_host(code, values, uid=None, namespace=False, timeout=30, env=None):
    """Runs an attack without any sandbox; `uid`: as that user, `namespace`: as root of a user
    namespace of its own, with mounts and processes of its own. Returns what it printed."""
    command = [sys.executable if uid is None else "/usr/bin/python3", "-c", fill(code, values)]
    if namespace:
        command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", *command]
    options = {"user": uid, "group": uid, "extra_groups": []} if uid is not None and IS_ROOT else {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder,
                              env={**os.environ, **(env or {})}, check=False, **options)
    return done.stdout + done.stderr


_controls = {}


def held(cell, code, control=True, uid=None, namespace=False, values=None, **arguments):
    """The attack fails in the cell, and succeeds where the guard is absent; returns the result.

    `control`: False only where the test proves in another way that the attack works.
    """
    values = values or {}
    result = cell.run(fill(code, values), **arguments)
    text = result.text("stdout")
    assert "ESCAPED" not in text, f"the attack succeeded: {result}"
    assert "HELD" in text, f"the attack did not run to its end: {result}"
    if control:
        key = (fill(code, values), uid, namespace)
        if key not in _controls:
            _controls[key] = on_host(code, values, uid, namespace)
        assert "ESCAPED" in _controls[key], f"vacuous: without a guard: {_controls[key]}"
    return result


class Cell:
    """One session of a server, made by its first run."""

    def __init__(self, server):
        self.server, self.client, self.variant = server, server.client, server.variant
        self.session = None

    def run(self, code, **arguments):
        """run_code in this session."""
        if self.session:
            arguments.setdefault("session", self.session)
        result = self.client.run(code, **arguments)
        self.session = result.session or self.session
        return result

    def begin(self, code, **arguments):
        """Starts run_code; returns the request's id."""
        return self.client.begin_tool("run_code", {"code": code, "session": self.session,
                                                   **arguments})

    def open(self):
        """Makes sure that the session is there; returns it."""
        if not self.session:
            self.run("None")
        return self.session

    def share(self, source, dest, type="copy", **arguments):
        """add_share to this session."""
        if self.session:
            arguments["session"] = self.session
        result = self.client.tool("add_share", {"type": type, "source": str(source), "dest": dest,
                                                **arguments})
        self.session = result.session or self.session
        return result

    def reset(self):
        """reset_session: all that lived in the cell ends."""
        if self.session:
            return self.client.tool("reset_session", {"session": self.session,
                                                      "keep_shares": False})
        return None

    def answers(self):
        """The cell still does its work; its state may be gone."""
        result = self.run("print(6 * 7)")
        assert result.text("stdout") == "42\n" and result.cause == "ok", result


class Server:
    """A server of one variant, with a share root of its own and small limits."""

    def __init__(self, variant, folder, *args, era="modern", env=None, **settings):
        self.variant, self.folder = variant, Path(folder)
        self.shares = self.folder / "shares"
        self.shares.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        environment = {"memory_mib": MEMORY_MIB, "disk_mib": DISK_MIB, "timeout_seconds": 40}
        if variant != "landlock":  # there, all processes of the user count
            environment["processes"] = PROCESSES
        environment |= {"forked": {"cells": "forked"}, "solo": {"cells": "solo"},
                        "denied": {}, "landlock": {"isolation": "landlock"}}[variant]
        environment |= settings
        config = self.folder / "config.json"
        config.write_text(json.dumps({"default_environment": "default",
                                      "environments": {"default": environment}}))
        env = {"CELLBLOCK_SECURITY_MARKER": MARKER, **(env or {})}
        if variant == "denied":
            env["PATH"] = f"{self._denying_bwrap()}:{os.environ['PATH']}"
        self.client = Client("--config", config, "--share-root", self.shares, *args, era=era,
                             env=env)

    def _denying_bwrap(self):
        """A folder with a bwrap in whose sandboxes no user namespace can be made."""
        bin_ = self.folder / "bin"
        bin_.mkdir(exist_ok=True)
        script = bin_ / "bwrap"
        script.write_text(f'#!/bin/sh\nexec {shutil.which("bwrap")} --disable-userns "$@"\n')
        script.chmod(0o755)
        bin_.chmod(0o755)
        return bin_

    def cell(self):
        """A session that nobody else uses."""
        return Cell(self)

    @property
    def uid(self):
        """Whose processes its sandboxes are."""
        return sandbox_uid(self.client)


@contextlib.contextmanager
def server(variant, *args, **options):
    """A server for one test; closing it checks that nothing is left."""
    with tempfile.TemporaryDirectory(prefix="cellblock-security-") as folder:
        one = Server(variant, folder, *args, **options)
        with one.client:
            yield one
