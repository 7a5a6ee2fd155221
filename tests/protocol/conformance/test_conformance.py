"""The official conformance suite, through the bridge, on the fixture server.

Scenarios are listed by name: all that the suite has for what this server offers (tools, logging,
ping, discovery) in each revision. Resources, prompts, completion, sampling and elicitation it has
not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.client import ROOT

from protocol.clients.test_node import run_node

HERE = Path(__file__).parent
LEGACY = ["server-initialize", "server-session-lifecycle", "logging-set-level", "ping",
          "tools-list",
          "tools-call-simple-text", "tools-call-image", "tools-call-audio",
          "tools-call-embedded-resource", "tools-call-mixed-content", "tools-call-with-logging",
          "tools-call-error", "tools-call-with-progress", "server-sse-multiple-streams",
          "dns-rebinding-protection"]
MODERN = ["server-stateless", "tools-list", "tools-call-simple-text", "tools-call-image",
          "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content",
          "tools-call-error", "tools-call-with-progress", "server-sse-multiple-streams",
          "dns-rebinding-protection", "caching"]
# Checks of what the server does not offer: sampling, prompts; and a resource to be read at once.
NOT_OFFERED = {
    "sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400",
    "sep-2549-prompts-list-caching-hints",
}


@pytest.fixture(scope="module")
def url():
    """The fixture server behind the bridge."""
    build = Path(os.environ.get("CELLBLOCK_BUILD", ROOT / "build"))
    with subprocess.Popen([sys.executable, HERE / "bridge.py", "0",
                           build / "tests" / "protocol" / "fixture-server"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bridge:
        port = bridge.stdout.readline().split()[1]
        yield f"http://127.0.0.1:{port}/mcp"
        bridge.stdin.close()
        assert bridge.wait(20) == 0


def checks(url, scenario, revision, folder):
    """Runs one scenario; returns its checks."""
    done = run_node("conformance", "server", "--url", url, "--scenario", scenario,
                    "--spec-version", revision, "-o", str(folder))
    found = [check for path in folder.rglob("checks.json")
             for check in json.loads(path.read_text())]
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("revision, scenario",
                         [("2025-11-25", s) for s in LEGACY] + [("2026-07-28", s) for s in MODERN])
def test_scenario(url, revision, scenario, tmp_path):
    """Every check of the scenario succeeds."""
    found = checks(url, scenario, revision, tmp_path)
    failed = [f"{c['id']}: {c.get('errorMessage')}" for c in found
              if c["status"] in ("FAILURE", "WARNING") and c["id"] not in NOT_OFFERED]
    assert not failed, "\n".join(failed)
    assert any(c["status"] == "SUCCESS" for c in found)
