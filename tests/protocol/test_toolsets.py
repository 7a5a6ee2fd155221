"""The toolsets: which tools there are, what a host is told of them, and how much that is."""

import json
import re
import subprocess

import pytest
from support.client import ROOT, Client, RpcError, binary

CORE = ["run_code", "add_share", "reset_session"]
FILES = ["read_file", "write_file", "list_files", "stat_file", "make_directory", "remove_file",
         "copy_file", "move_file", "upload", "download"]
SETS = ["files", "commands", "sessions", "runs", "environments", "snapshots"]
HINTS = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
READ_ONLY = {"read_file", "list_files", "stat_file"}


def tools_of(*args, era="legacy", **options):
    """The entries of tools/list."""
    with Client(*args, era=era, **options) as client:
        return client.request("tools/list", {})["tools"]


def names(tools):
    """Their names, in order."""
    return [tool["name"] for tool in tools]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_default_is_core(era):
    assert names(tools_of(era=era)) == CORE
    assert names(tools_of("--toolsets", "core", era=era)) == CORE


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("toolset", SETS)
def test_each_toolset(toolset, era):
    """Core comes first, and stays; a second list is the same."""
    with Client("--toolsets", toolset, era=era) as client:
        first = client.request("tools/list", {})["tools"]
        assert client.request("tools/list", {})["tools"] == first
    assert names(first)[:3] == CORE and len(first) > 3
    if toolset == "files":
        assert names(first) == CORE + FILES


def test_toolsets_add_up():
    """In a fixed order, whichever they are asked for in."""
    two = names(tools_of("--toolsets", "commands,files"))
    assert two[:len(CORE + FILES)] == CORE + FILES and len(two) > len(CORE + FILES)
    assert names(tools_of("--toolsets", "files,commands,files")) == two


def test_all_is_every_one():
    found = {name for toolset in SETS for name in names(tools_of("--toolsets", toolset))}
    every = names(tools_of("--toolsets", "all"))
    assert set(every) == found and len(every) == len(found)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_what_a_host_reads(era):
    """Names, schemas and hints as hosts take them."""
    tools = tools_of("--toolsets", "all", era=era)
    for tool in tools:
        assert re.fullmatch(r"[a-z][a-z_]{2,31}", tool["name"])
        assert 0 < len(tool["description"]) <= 2048 and tool["title"]
        assert HINTS <= set(tool["annotations"]) <= HINTS | {"title"}
        assert all(isinstance(tool["annotations"][hint], bool) for hint in HINTS)
        check_schema(tool["name"], tool["inputSchema"])
    hints = {tool["name"]: tool["annotations"] for tool in tools}
    assert {name for name in FILES if hints[name]["readOnlyHint"]} == READ_ONLY
    assert all(hints[name]["destructiveHint"] for name in ("write_file", "remove_file", "download"))


@pytest.mark.parametrize("args, cap", [((), 5 * 1024), (("--toolsets", "files"), 10 * 1024),
                                       (("--toolsets", "all"), 16 * 1024)])
def test_how_much_a_host_reads(args, cap):
    """What is listed costs a model's attention with each request: no more than it must."""
    tools = tools_of(*args)
    size = len(json.dumps(tools, separators=(",", ":"), ensure_ascii=False).encode())
    assert size < cap, {tool["name"]: len(json.dumps(tool)) for tool in tools}


def check_schema(name, schema):
    """A root that every host takes, and a cap on everything of any size."""
    assert schema["type"] == "object" and schema["additionalProperties"] is False, name
    assert not {"oneOf", "anyOf", "allOf", "not", "if", "$ref"} & set(schema), name
    assert "$ref" not in json.dumps(schema), name
    for key, rule in schema["properties"].items():
        if rule["type"] == "string":
            assert "maxLength" not in rule, (name, key)  # checked, and not listed
    if "session" in schema["properties"]:
        assert schema["properties"]["session"]["type"] == "string"


@pytest.mark.parametrize("path", sorted((ROOT / "schemas" / "tools").rglob("*.json")),
                         ids=lambda path: path.stem)
def test_every_text_has_a_cap(path):
    """What is checked, which is more than what is listed."""
    for key, rule in json.loads(path.read_text())["properties"].items():
        if rule["type"] == "string":
            assert rule.keys() & {"enum", "maxLength", "pattern"}, key
        if rule["type"] == "array":
            assert "maxItems" in rule, key


@pytest.mark.parametrize("given, says", [("flies", 'did you mean "files"'),
                                         ("files,", "there are core, files")])
def test_an_unknown_toolset(given, says):
    """The server does not start, and says which there are."""
    ended = subprocess.run([binary(), "--toolsets", given], stdin=subprocess.DEVNULL, check=False,
                           capture_output=True, text=True, timeout=10)
    assert ended.returncode != 0 and says in ended.stderr and not ended.stdout


def test_the_config_has_them_too(tmp_path):
    """And the command line adds to it."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"environments": {"default": {"backend": "local"}},
                                  "toolsets": ["files"]}))
    assert names(tools_of("--config", config)) == CORE + FILES
    both = names(tools_of("--config", config, "--toolsets", "runs"))
    assert both[:len(CORE + FILES)] == CORE + FILES and "poll_run" in both


def test_a_tool_that_is_not_switched_on():
    with Client() as client, pytest.raises(RpcError, match="Unknown tool"):
        client.tool("read_file", {"path": "a"})


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_whose_files(era):
    """Legacy: the connection's session. Modern: only what brings something in makes one."""
    with Client("--toolsets", "files", era=era) as client:
        if era == "modern":
            result = client.tool("list_files", {})
            assert result.is_error and "session is missing" in result.text()
        made = client.tool("write_file", {"path": "a.txt", "content": "hello"})
        assert not made.is_error and made.session
        session = {} if era == "legacy" else {"session": made.session}
        assert (made.session in made.text()) == (era == "modern")
        assert client.tool("read_file", {"path": "a.txt", **session}).text("file") == "hello"
        assert client.run("open('a.txt').read()", **session).text("result") == "'hello'"
        wrong = client.tool("read_file", {"path": "a.txt", "session": "s-aaaaaaaa"})
        assert wrong.is_error and "s-aaaaaaaa" in wrong.text()


@pytest.mark.parametrize("arguments, says", [
    ({}, "path"), ({"path": 7}, "path"), ({"path": "a", "offset": -1}, "offset"),
    ({"path": "a", "length": 0}, "length"), ({"path": "a", "encoding": "latin-1"}, "utf-8"),
    ({"path": "a", "offest": 1}, "offset"), ({"path": "x" * 5000}, "4095"),
    ({"path": "a\0b"}, "NUL"), ({"path": ""}, "path")])
def test_bad_arguments(client_with_files, arguments, says):
    """What was given, and what is allowed."""
    result = client_with_files.tool("read_file", arguments)
    assert result.is_error and says in result.text(), result


@pytest.fixture(scope="module")
def client_with_files():
    """A server with the toolset."""
    with Client("--toolsets", "files") as client:
        yield client


def test_an_ephemeral_environment(start):
    """It keeps no files, and says what to do instead."""
    result = start("--toolsets", "files", "--mode", "ephemeral").tool(
        "write_file", {"path": "a", "content": ""})
    assert result.is_error and "ephemeral" in result.text() and "run_code" in result.text()
