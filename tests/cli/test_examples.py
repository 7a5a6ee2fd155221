"""Every file in examples/ is used as people would use it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from support.client import ROOT, Client, binary

if sys.version_info >= (3, 11):
    import tomllib

EXAMPLES = ROOT / "examples"
HOSTS = EXAMPLES / "hosts"
CSV = "/usr/share/matplotlib/mpl-data/sample_data/percent_bachelors_degrees_women_usa.csv"
PROGRAM = "/usr/local/bin/cellblock"

# Where each host keeps its servers, and what a server may have there.
JSON_HOSTS = {
    "claude-desktop/claude_desktop_config.json": ("mcpServers", {"command", "args", "env"}),
    "claude-code/.mcp.json": ("mcpServers", {"type", "command", "args", "env"}),
    "vscode/.vscode/mcp.json": ("servers", {"type", "command", "args", "env"}),
    "cursor/.cursor/mcp.json": ("mcpServers", {"type", "command", "args", "env"}),
}


def start_as_configured(server, folder):
    """Starts what a host would start, with a real program and a real folder, and asks it."""
    assert server["command"] == PROGRAM
    assert server.get("type", "stdio") == "stdio"
    args = [str(folder) if "/home/me/data" in arg or "${workspaceFolder}" in arg else arg
            for arg in server["args"]]
    with Client(*args) as client:
        tools = client.request("tools/list", {})["tools"]
    assert {tool["name"] for tool in tools} == {"run_code", "add_share", "reset_session"}


@pytest.mark.parametrize("name", JSON_HOSTS)
def test_json_host(name, tmp_path):
    """The file is what the host reads, and the server in it answers."""
    top, allowed = JSON_HOSTS[name]
    config = json.loads((HOSTS / name).read_text())
    assert list(config) == [top]
    server = config[top]["cellblock"]
    assert set(server) <= allowed
    start_as_configured(server, tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_codex(tmp_path):
    """The TOML that Codex reads."""
    config = tomllib.loads((HOSTS / "codex" / "config.toml").read_text())
    assert list(config) == ["mcp_servers"]
    server = config["mcp_servers"]["cellblock"]
    assert set(server) <= {"command", "args", "env", "startup_timeout_sec", "tool_timeout_sec"}
    start_as_configured(server, tmp_path)


def test_every_host_file_is_tested_and_listed():
    """No file is forgotten, here or in the list for people."""
    files = {str(path.relative_to(HOSTS)) for path in HOSTS.rglob("*") if path.is_file()}
    assert files == {*JSON_HOSTS, "codex/config.toml", "README.md"}
    listed = (HOSTS / "README.md").read_text()
    assert all(f"`{name}`" in listed for name in files - {"README.md"})


def test_commands_for_hosts(tmp_path):
    """What follows the program in each command is what it takes."""
    text = (HOSTS / "README.md").read_text()
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL).group(1).splitlines()
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        args = words[words.index(PROGRAM) + 1:]
        start_as_configured({"command": PROGRAM, "args": args}, tmp_path)


def test_config(cellblock):
    """Each environment of the example makes a sandbox that runs code."""
    path = EXAMPLES / "config.json"
    for name in json.loads(path.read_text())["environments"]:
        done = cellblock("run", "--config", path, "--environment", name, "-", input="6 * 7")
        assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
    code = "import os; print(os.path.exists('/data/zoneinfo/Europe/Paris'), os.environ['TZ'])"
    assert cellblock("run", "--config", path, "-", input=code).stdout == "True UTC\n"


def test_requests(cellblock):
    """`cellblock < requests.jsonl` answers all of it and ends well."""
    with open(EXAMPLES / "requests.jsonl", encoding="utf-8") as requests:
        done = cellblock(stdin=requests)
    assert done.returncode == 0, done.stderr
    answers = {message["id"]: message["result"]
               for message in map(json.loads, done.stdout.splitlines()) if "id" in message}
    assert set(answers) == {1, 2, 3, 4}
    texts = [block["text"] for block in answers[3]["content"]]
    assert texts == ["hello from a cell\n", "42"]
    assert answers[4]["content"][0]["text"] == "shell\n/workspace\n"


def test_conversation(tmp_path):
    """The main job: a CSV copied in, summarised, plotted; the PNG saved, the transcript shown."""
    if not os.path.exists(CSV):
        pytest.skip("the sample data is missing: apt-get install python-matplotlib-data")
    done = subprocess.run(["/usr/bin/python3", EXAMPLES / "conversation.py", "--server", binary(),
                           "--out", tmp_path, CSV],
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42 years, 17 fields" in done.stdout and "image/png" in done.stdout
    figure = (tmp_path / "degrees.png").read_bytes()
    assert figure.startswith(b"\x89PNG\r\n\x1a\n") and len(figure) > 5000


def test_files(tmp_path):
    """A folder goes up, is worked on, and the report comes down."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("1\n2\n3\n")
    (tmp_path / "sub" / "b.txt").write_text("4\n")
    done = subprocess.run(["/usr/bin/python3", EXAMPLES / "files.py", "--server", binary(),
                           tmp_path],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Uploaded 2 files" in done.stdout and "Downloaded 1 file " in done.stdout
    report = (tmp_path / "report.txt").read_text()
    assert report == "     3 work/a.txt\n     1 work/sub/b.txt\n     4 in all\n"
    assert report.rstrip() in done.stdout.replace("\n    ", "\n")


def test_artifacts(tmp_path):
    """Two files are made; both are read when their session has ended."""
    done = subprocess.run(["/usr/bin/python3", EXAMPLES / "artifacts.py", "--server", binary(),
                           "--out", tmp_path],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "text/csv" in done.stdout and "application/octet-stream, 63 bytes" in done.stdout
    assert (tmp_path / "waves.csv").read_text().startswith("x,sin,cos\n0.0,0.0,1.0\n")
    assert len((tmp_path / "waves.bin").read_bytes()) == 63


def test_sessions():
    """Two sessions with limits of their own; one is ended, and the list says so."""
    done = subprocess.run(["/usr/bin/python3", EXAMPLES / "sessions.py", "--server", binary()],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pi is about 3.1") == 2
    assert "was ended by end_session" in done.stdout and '"best":"yes"' in done.stdout
    assert '"memory_mib":256' in done.stdout and '"name":"scratch"' in done.stdout


def made_here(folder, names):
    """What a clone would not have: build folders at the top, and what running leaves behind."""
    top = ("build", "build-*") if os.fspath(folder) == str(ROOT) else ()
    return shutil.ignore_patterns(*top, ".git", ".venv", "node_modules", "out", "__pycache__")(
        folder, names)


@pytest.mark.timeout(500)
def test_quickstart(tmp_path):
    """In a fresh copy of the source, as it is typed: it installs, builds, and shows the figure."""
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is missing: quickstart.sh is for Debian")
    copy = tmp_path / "cellblock"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=made_here)
    done = subprocess.run([copy / "examples" / "quickstart.sh"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=480,
                          check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "This configuration works here." in done.stdout
    assert (copy / "examples" / "out" / "degrees.png").read_bytes().startswith(b"\x89PNG")
