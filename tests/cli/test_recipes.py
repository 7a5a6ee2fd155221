"""Every configuration in examples/recipes, with the real program or one that stands in for it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from support.client import ROOT

RECIPES = ROOT / "examples" / "recipes"
NAMES = {"ssh.json": "ssh", "slurm.json": "slurm", "kubernetes.json": "pod",
         "podman.json": "podman"}
# What stands in for the program: notes its arguments, and runs what comes after `after` here. ssh
# joins what it is given and a shell reads it; the others give it on as it is.
STAND_IN = """#!{python}
import json, os, sys
args = sys.argv[1:]
with open({log!r}, "w") as file:
    json.dump(args, file)
far = args[args.index("python3"):]
sys.stderr.write("a word on stderr\\n")
if {joined}:
    far = ["sh", "-c", "echo Welcome; " + " ".join(far)]
os.execvp(far[0], far)
"""


@pytest.fixture
def run(cellblock, tmp_path, monkeypatch):
    """run(file, environment) with a program of its own on PATH; (result, its arguments)."""

    def one(file, environment):
        config = json.loads((RECIPES / file).read_text())
        program = config["environments"][environment]["command"][0]
        log = tmp_path / "log.json"
        stand_in = tmp_path / program
        stand_in.write_text(STAND_IN.format(python=sys.executable, log=str(log),
                                            joined=program == "ssh"))
        stand_in.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        done = cellblock("run", "--config", RECIPES / file, "--environment", environment, "-",
                         input="6 * 7")
        return done, json.loads(log.read_text())

    return one


def test_all_of_them_are_told():
    text = (RECIPES / "README.md").read_text()
    files = {path.name for path in RECIPES.glob("*.json")}
    assert files == set(NAMES) and all(f"`{name}`" in text for name in files)


@pytest.mark.parametrize("file", sorted(NAMES))
def test_by_a_stand_in(run, file):
    """The program gets what it would get, and the code runs at its other end."""
    done, args = run(file, NAMES[file])
    assert done.stdout == "42\n", done
    assert args[args.index("python3"):][:4] == ["python3", "-I", "-u", "-c"]
    assert not any("{name}" in arg or "_mib}" in arg for arg in args)


def test_kubectl_run(run):
    """As `kubectl run` takes it: a name of a pod, and overrides that are JSON."""
    _done, args = run("kubernetes.json", "pod")
    name = args[1]
    assert args[0] == "run" and name.startswith("cellblock-") and name.islower()
    assert {"--stdin", "--rm", "--quiet", "--restart=Never", "--command"} <= set(args)
    assert args.index("--") == args.index("python3") - 1
    (overrides,) = [arg for arg in args if arg.startswith("--overrides=")]
    spec = json.loads(overrides.partition("=")[2])["spec"]
    assert spec["activeDeadlineSeconds"] == 3600
    assert spec["containers"] == [{"name": name, "resources": {"limits": {"memory": "1024Mi"}}}]


def test_kubectl_exec(run):
    done, args = run("kubernetes.json", "existing")
    assert done.stdout == "42\n"
    assert args[:args.index("python3")] == ["exec", "--stdin", "--namespace=sandboxes",
                                            "workbench", "--"]


def test_a_name_is_never_used_twice(run):
    assert run("podman.json", "podman")[1][1] != run("podman.json", "podman")[1][1]


def test_the_program_is_missing(cellblock, tmp_path):
    config = json.loads((RECIPES / "ssh.json").read_text())
    config["environments"]["ssh"]["command"][0] = "shh"
    del config["$schema"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = cellblock("run", "--config", tmp_path / "config.json", "-", input="1")
    assert done.returncode != 0 and "`shh` was not found" in done.stderr
    assert "ssh" in done.stderr.partition("did you mean")[2]


def test_the_reason_of_a_lost_connection(cellblock, tmp_path):
    config = {"environments": {"default": {
        "backend": "command", "network": "all",
        "command": ["sh", "-c", "echo 'Connection refused' >&2; exit 255"]}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = cellblock("run", "--config", tmp_path / "config.json", "-", input="1")
    assert done.returncode != 0
    assert "exit code 255" in done.stderr and "Connection refused" in done.stderr


def test_the_command_means_the_same_to_every_shell(tmp_path):
    """As it is, and joined by spaces and read by whatever shell is there."""
    log = tmp_path / "log.json"
    keeper = tmp_path / "keeper"
    keeper.write_text(f"#!{sys.executable}\nimport json, sys\n"
                      f"json.dump(sys.argv[1:], open({str(log)!r}, 'w'))\n")
    keeper.chmod(0o755)
    config = {"environments": {"default": {"backend": "command", "network": "all",
                                           "command": [str(keeper)]}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    binary = os.environ.get("CELLBLOCK", str(ROOT / "build" / "cellblock"))
    subprocess.run([binary, "run", "--config", tmp_path / "config.json", "-"], input="1", text=True,
                   capture_output=True, check=False)
    far = json.loads(log.read_text())
    marker = b"\x02cellblock-stream-1 "
    for shell in (None, "sh", "dash", "bash", "zsh", "ksh", "fish", "tcsh", "busybox"):
        if shell and not shutil.which(shell):
            continue
        words = far if shell is None else [*([shell, "sh"] if shell == "busybox" else [shell]),
                                           "-c", " ".join(far)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path,
                              check=False)
        assert done.stdout.startswith(marker), (shell, done)
