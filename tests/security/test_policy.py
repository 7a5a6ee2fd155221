"""What the owner's policy refuses cannot be had in another way."""

import json

import pytest
from support.client import Client, RpcError

POLICY = {"images": ["python:3.13"], "packages": ["pandas"], "max_memory_mib": 2048}
LIMITS = {"memory_mib": 1024, "disk_mib": 64, "max_timeout_seconds": 60,
          "idle_timeout_seconds": 600, "max_lifetime_seconds": 1200, "pool": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a policy, spoken to as 2026-07-28 says."""
    config = tmp_path_factory.mktemp("policy") / "config.json"
    config.write_text(json.dumps({
        "policy": POLICY,
        "environments": {"default": LIMITS,
                         "box": {"backend": "docker", "image": "owner", "cpu": 1}}}),
        encoding="utf-8")
    with Client("--config", config, "--toolsets", "all", era="modern") as client:
        yield client


def sessions(server):
    """All that live."""
    return json.loads(server.tool("list_sessions").text())["sessions"]


def refused(server, text, tool="create_session"):
    """The arguments, as JSON text, are refused, and nothing has come of them."""
    before = sessions(server)
    request = server.build("tools/call", {"name": tool, "arguments": "HERE"})
    server.send_raw(json.dumps(request).replace('"HERE"', text).encode() + b"\n")
    try:
        result = server.result(request["id"], 20)
        assert result["isError"], result
    except RpcError as error:
        assert error.code in (-32700, -32602)
    assert sessions(server) == before


def test_the_control(server):
    """What is within policy passes: the refusals below are the policy's."""
    for arguments in ({"memory_mib": 2048}, {"disk_mib": 64}, {"timeout_seconds": 60},
                      {"idle_timeout_seconds": 600}, {"max_lifetime_seconds": 1200},
                      {"network": "none"}, {"env": {"LD_PRELOAD": ""}}):
        made = server.tool("create_session", arguments)
        assert not made.is_error, made
        assert not server.tool("end_session", {"session": made.session}).is_error


@pytest.mark.parametrize("value", [
    "2049", "2048.0000001", "1e308", "9223372036854775807", "-1", "0", '"2048"', '"4096"',
    "true", "[4096]", '{"memory_mib": 4096}', "NaN_", "4096.0",
])
def test_memory(server, value):
    """Other ways to write more."""
    refused(server, f'{{"memory_mib": {value}}}' if value != "NaN_" else '{"memory_mib": "NaN"}')


@pytest.mark.parametrize("value", ["1e308", "1200.001", "-1", "0", '"1e9"', "[1]"])
@pytest.mark.parametrize("key", ["max_lifetime_seconds", "idle_timeout_seconds",
                                 "timeout_seconds"])
def test_times(server, key, value):
    """Other ways to live longer."""
    refused(server, f'{{"{key}": {value}}}')


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "99999999999999999999"])
def test_what_is_no_number_is_no_message(server, number):
    """The parser refuses it whole, and goes on."""
    before = sessions(server)
    server.exchange(b'{"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": '
                    b'"create_session", "arguments": {"max_lifetime_seconds": '
                    + number.encode() + b"}}}\n")
    assert sessions(server) == before


@pytest.mark.parametrize("key, value", [
    ("backend", '"docker"'), ("isolation", '"none"'), ("cells", '"solo"'), ("kernel", '"jupyter"'),
    ("python", '"/bin/sh"'), ("command", '["sh"]'), ("url", '"http://127.0.0.1"'),
    ("token", '"x"'), ("headers", "{}"), ("host", '"unix:///var/run/docker.sock"'),
    ("runtime", '"runc"'), ("user", '"0"'), ("read_only_root", "false"), ("processes", "65536"),
    ("max_timeout_seconds", "604800"), ("pool", "16"), ("apt_packages", '["x"]'),
    ("shares", '[{"type": "mount", "source": "/", "dest": "/host"}]'), ("kernel_id", '"x"'),
    ("secrets", '["x"]'), ("attach", '"s-22222222"'), ("policy", "{}"),
    ("Memory_mib", "4096"), ("memory_mib ", "4096"),
])
def test_keys_of_an_environment_that_are_none_of_the_tool(server, key, value):
    """The tool's schema has no other keys, also not with null beside them."""
    refused(server, f'{{"{key}": {value}}}')
    refused(server, f'{{"memory_mib": null, "{key}": {value}}}')


def test_a_key_twice(server):
    """The first and the last of two would not be the same."""
    refused(server, '{"memory_mib": 64, "memory_mib": 4096}')


@pytest.mark.parametrize("image", [
    "python:3.12", "Python:3.13", " python:3.13", "python:3.13 ", "python:3.13\\n", "./python:3.13",
    "docker.io/library/python:3.13", "python:3.13@sha256:0", "python:3.13\\u0000", "owner\\u0000x",
    "--privileged", "http://evil/x", "", "*",
])
def test_images(server, image):
    """Letter by letter."""
    refused(server, f'{{"environment": "box", "image": "{image}"}}')


@pytest.mark.parametrize("package", [
    "pandas==1", "pandas[x]", "Pandas", "pandas @ http://evil/x", "--index-url=http://evil",
    "-r/etc/passwd", "pandas\\npolars", "pandas\\u0000", "../x", "git+http://evil", "", "*",
])
def test_packages(server, package):
    """Letter by letter, also beside one that is allowed."""
    refused(server, f'{{"environment": "box", "packages": ["pandas", "{package}"]}}')


@pytest.mark.parametrize("network", ['"all"', '"ALL"', '"packages"', '"example.org"',
                                     '"none\\u0000"', '["all"]', "true", '""', '"none,all"'])
def test_networks(server, network):
    """Only none."""
    refused(server, f'{{"network": {network}}}')


@pytest.mark.parametrize("env", [
    '{"": "x"}', '{"A=B": "x"}', '{"A B": "x"}', '{"1A": "x"}', '{"A\\n": "x"}', '{"é": "x"}',
    '{"A": 1}', '{"A": null}', '{"A": ["x"]}', '{"A": "x\\u0000y"}', '["A"]', '"A=1"',
])
def test_variables(server, env):
    """Names and texts that would be something else further on."""
    refused(server, f'{{"env": {env}}}')


def test_variables_stay_in_the_runs(server):
    """What a loader would take up reaches neither the sandbox's first process nor a zygote."""
    made = server.tool("create_session", {
        "memory_mib": 512, "env": {"LD_PRELOAD": "/nonexistent/evil.so", "BASH_ENV": "/x",
                                   "PYTHONPATH": "/x", "PYTHONSTARTUP": "/x"}})
    assert not made.is_error, made
    code = "import os; print(os.environ['LD_PRELOAD']); os.environ['LD_PRELOAD'] = ''"
    assert server.run(code, session=made.session).text("stdout") == "/nonexistent/evil.so\n"
    for pid in server.tree():
        try:
            with open(f"/proc/{pid[0]}/environ", "rb") as file:
                assert b"evil.so" not in file.read()
        except OSError:
            continue
    server.tool("end_session", {"session": made.session})


@pytest.mark.parametrize("seconds", ["1200.5", "1e308", "-1", "0", '"5"', "[5]", "true"])
def test_a_life_in_pieces(server, seconds):
    """update_session gives no more than create_session."""
    session = server.tool("create_session").session
    assert not server.tool("update_session", {"session": session, "timeout_seconds": 1100}).is_error
    refused(server, f'{{"session": "{session}", "timeout_seconds": {seconds}}}', "update_session")
    server.tool("end_session", {"session": session})


def test_a_name_that_says_it_is_another_session(server):
    """Ids are told from names by how they begin."""
    session = server.tool("create_session").session
    refused(server, f'{{"name": "{session}"}}')
    refused(server, '{"name": "s-22222222"}')
    refused(server, f'{{"session": "{session}", "name": "s-22222222"}}', "update_session")
    server.tool("end_session", {"session": session})


@pytest.mark.parametrize("tags", [
    '{"a\\nb": "x"}', '{"": "x"}', '{"a": "x\\ny"}', '{"a": "\\u001b[0m"}', '{"a": {"b": "c"}}',
    '["a"]', '{"a": "\\u0000"}',
])
def test_tags(server, tags):
    """What would break a line of a log, or is no text."""
    refused(server, f'{{"tags": {tags}}}')
