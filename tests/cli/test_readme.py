"""README.md is true: every fenced block in it is checked.

A comment before each block says how:

    <!-- shown -->        shell commands that a host or the network would be needed for: the
                          cellblock options in them are checked
    <!-- session -->      `$ command` lines, each followed by the output that it must print
    <!-- host: NAME -->   the same as examples/hosts/NAME
    <!-- config -->       a config file: it is loaded
    <!-- transcript -->   what examples/conversation.py prints
    <!-- transcript: NAME --> what examples/NAME prints, but for ids and times
    <!-- drawing -->      a picture in characters
"""

import os
import re
import shlex
import subprocess
import sys

import pytest
from support.client import ROOT, binary

README = (ROOT / "README.md").read_text()
CSV = "/usr/share/matplotlib/mpl-data/sample_data/percent_bachelors_degrees_women_usa.csv"
BLOCKS = re.findall(r"<!-- (\w+)(?:: (\S+))? -->\n```\w*\n(.*?)```", README, re.DOTALL)


def blocks(kind):
    """The blocks of one kind, as parameters."""
    return [pytest.param(name, text, id=f"{kind}-{number}")
            for number, (found, name, text) in enumerate(BLOCKS) if found == kind]


def shell(command, home):
    """Runs a command as it is written, with `cellblock` on PATH."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    link = folder / "cellblock"
    if not link.exists():
        link.symlink_to(os.path.abspath(binary()))
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"),
                   "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)


def test_every_block_says_how_it_is_checked():
    """No fence without a comment, no kind that nobody knows."""
    assert README.count("\n```") == 2 * len(BLOCKS)
    kinds = {"shown", "session", "host", "config", "transcript", "drawing"}
    assert {kind for kind, _, _ in BLOCKS} <= kinds


@pytest.mark.parametrize(("name", "text"), blocks("session"))
def test_sessions(name, text, home):
    """What is printed is what is written."""
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        assert shell(command, home).stdout == output, command


@pytest.mark.parametrize(("name", "text"), blocks("shown"))
def test_options_in_shown_commands_exist(name, text, cellblock):
    """Commands for hosts: the options after the program's name are ours."""
    known = set()
    for command in ("serve", "run", "doctor", "backends"):
        known |= set(re.findall(r"--[a-z-]+", cellblock(command, "--help").stdout))
    for line in text.strip().splitlines():
        words = shlex.split(line, comments=True)
        own = next((i for i, word in enumerate(words) if word.endswith("/cellblock")), None)
        if own is not None:
            assert all(word in known for word in words[own + 1:] if word.startswith("--")), line
        elif words and words[0].startswith("./"):
            assert os.access(ROOT / words[0], os.X_OK), line


@pytest.mark.parametrize(("name", "text"), blocks("host"))
def test_host_configurations_are_the_tested_ones(name, text):
    """One source: test_examples.py starts them."""
    assert text == (ROOT / "examples" / "hosts" / name).read_text()


@pytest.mark.parametrize(("name", "text"), blocks("config"))
def test_config(name, text, cellblock, tmp_path):
    """The program takes it, and code runs with it."""
    path = tmp_path / "config.json"
    path.write_text(text)
    done = cellblock("run", "--config", path, "-", input="6 * 7")
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


def without_luck(text):
    """A transcript without what is another each time."""
    text = re.sub(r"\b(r|s)-[a-z2-7]{8}\b|\bc\d+-[0-9a-f]{8}\b", "ID", text)
    lines = re.sub(r"\b\d+(\.\d)? s\b", "N s", text).strip().split("\n")
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize(("name", "text"), [one for one in blocks("transcript") if one.values[0]])
def test_transcript_of_an_example(name, text):
    """Likewise, for an example that needs nothing."""
    done = subprocess.run([sys.executable, ROOT / "examples" / name, "--server", binary()],
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert without_luck(done.stdout) == without_luck(text)


@pytest.mark.parametrize(("name", "text"),
                         [one for one in blocks("transcript") if not one.values[0]])
def test_transcript(name, text, tmp_path):
    """Recorded, not invented: it is printed again, but for the size of the figure."""
    if not os.path.exists(CSV):
        pytest.skip("the sample data is missing: apt-get install python-matplotlib-data")
    done = subprocess.run([sys.executable, ROOT / "examples" / "conversation.py", "--server",
                           binary(), "--out", tmp_path, CSV],
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    said = re.sub(r"\d+ bytes", "N bytes", done.stdout.rsplit("The figure is in", 1)[0]).strip()
    assert re.sub(r"\d+ bytes", "N bytes", text).strip() == said


def test_links_lead_somewhere():
    """Every relative link is a file in the repository."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), target
