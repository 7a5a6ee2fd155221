"""Help, version, capability matrix, and every way to write the command line wrong."""

import json
import re
import shutil
import subprocess

import pytest
from support.client import ROOT

COMMANDS = ["serve", "run", "doctor", "backends", "sessions", "attach", "logs", "stop", "version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(cellblock, command):
    """--help and -h print to stdout, with usage, options and exit statuses, in 100 columns."""
    done = cellblock(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: cellblock")
    assert "--help" in done.stdout and "Exit status" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert cellblock(command, "-h").stdout == done.stdout


def test_help_without_a_command_lists_the_commands(cellblock):
    """The first thing that people type shows them all there is."""
    text = cellblock("--help").stdout
    assert all(re.search(rf"^  {command} ", text, re.MULTILINE) for command in COMMANDS)
    assert cellblock("help").stdout == text


def test_the_manual_and_the_help_name_the_same_options(cellblock):
    """No option is missing from either."""
    helped = {option for command in COMMANDS
              for option in re.findall(r"^  --([a-z-]+)", cellblock(command, "--help").stdout,
                                       re.MULTILINE)}
    manual = (ROOT / "docs" / "cellblock.1").read_text()
    described = set(re.findall(r"^\.It (?:Fl h , )?Fl -([a-z-]+)", manual, re.MULTILINE))
    described |= set(re.findall(r"^\.It Fl h , -([a-z-]+)", manual, re.MULTILINE))
    assert helped == described


def test_the_manual_is_clean_mdoc():
    """mandoc finds nothing to warn about."""
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is missing: apt-get install mandoc")
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", ROOT / "docs" / "cellblock.1"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_version(cellblock):
    """One line."""
    done = cellblock("version")
    assert re.fullmatch(r"cellblock \d+\.\d+\.\d+\n", done.stdout) and done.returncode == 0
    assert cellblock("--version").stdout == done.stdout


def test_backends_in_both_forms(cellblock):
    """The table and the JSON say the same."""
    text = cellblock("backends").stdout
    head, *lines = text.split("\n\n")[1].splitlines()
    backends = json.loads(cellblock("backends", "--json").stdout)["backends"]
    assert head.split() == [one["name"] for one in backends]
    rows = {name: words for name, *words in map(str.split, lines)}
    for column, one in enumerate(backends):
        assert {name: words[column] == "yes" for name, words in rows.items()} == one["capabilities"]
    local = next(one for one in backends if one["name"] == "local")
    assert local["capabilities"]["stateful"] and not local["capabilities"]["cloud"]
    assert local["languages"] == ["python", "shell"]
    assert not re.search(r" $", text, re.MULTILINE)


@pytest.mark.parametrize(("args", "given", "right"), [
    (["--share-rot", "/"], "--share-rot", "--share-root"),
    (["--mod=stateful"], "--mod", "--mode"),
    (["--mode=ephemerol"], "ephemerol", "ephemeral"),
    (["--mode"], "--mode", "needs a value"),
    (["--isolation", "docker"], "docker", "auto, bwrap, landlock, none"),
    (["--backend", "locla"], "locla", "local"),
    (["--log-level", "loud"], "loud", "warning"),
    (["--timeout", "0"], '"0"', "seconds"),
    (["--timeout", "nan"], "nan", "seconds"),
    (["--timeout=-3"], "-3", "seconds"),
    (["--warm=1"], "--warm", "no value"),
    (["--share-root", "/nonexistent"], "/nonexistent", "No such file"),
    (["--share-root", "/dev/null"], "/dev/null", "not a directory"),
    (["--environment", "nope"], "nope", "there are: default"),
    (["--environment", "a", "--backend", "local"], "--backend", "--environment"),
    (["--toolsets", "file"], "--toolsets", "files"),
    (["--audit", "x"], "--audit", "unknown option"),
    (["servr"], "servr", "did you mean serve"),
    (["-x"], "-x", "unknown option"),
    (["run"], "run", "a file with code"),
    (["run", "a", "b"], '"b"', "one file"),
    (["run", "--structured", "a"], "--structured", "serve"),
    (["run", "--share", "a:b", "f"], "a:b", "absolute DEST"),
    (["run", "--share", "a:/etc/x", "f"], "/etc/x", "dest"),
    (["doctor", "--jsn"], "--jsn", "--json"),
    (["backends", "local"], "local", "unexpected argument"),
    (["attach", "--kill", "s-7k2m9q4d"], "--kill", "stop"),
    (["version", "--json"], "--json", "doctor, backends"),
])
def test_wrong_usage_says_what_is_right(cellblock, args, given, right):
    """Exit status 2, nothing on stdout, and an error that names both."""
    done = cellblock(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert given in done.stderr and right in done.stderr
    assert done.stderr.startswith("cellblock: ")


@pytest.mark.parametrize(("args", "command"), [
    (["-x"], "cellblock --help"), (["run"], "cellblock run --help"),
    (["doctor", "--jsn"], "cellblock doctor --help"),
])
def test_wrong_usage_names_the_help_as_it_is_typed(cellblock, args, command):
    assert cellblock(*args).stderr.endswith(f"Try `{command}`.\n")


@pytest.mark.parametrize("policy", ["packages", "example.org", "10.0.0.0/8,example.org"])
def test_a_network_policy_that_is_not_built_is_refused(cellblock, policy):
    """Never a silent fallback: not to none, not to all."""
    done = cellblock("--network", policy)
    assert done.returncode == 3
    assert policy in done.stderr and "not supported yet" in done.stderr


def test_a_full_disk_does_not_look_like_success(cellblock):
    """What could not be printed is an error."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert cellblock("--help", stdout=full).returncode == 1
