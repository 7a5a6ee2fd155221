"""The config file as its owner meets it: found, checked, and beaten by the command line."""

import json

import pytest


@pytest.fixture
def config(home):
    """Writes the default config file, from text or from something for JSON."""

    def write(content):
        path = home / ".config" / "cellblock" / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def environment(**keys):
    """A config with one environment, which is the default one."""
    return {"default_environment": "e", "environments": {"e": keys}}


def test_the_default_file_is_read(cellblock, config):
    """~/.config/cellblock/config.json, and XDG_CONFIG_HOME first."""
    path = config(environment(env={"GREETING": "hello"}))
    code = "import os; print(os.environ['GREETING'])"
    assert cellblock("run", "-", input=code).stdout == "hello\n"
    done = cellblock("run", "-", input=code, env={"XDG_CONFIG_HOME": str(path.parent / "none")})
    assert done.returncode == 1
    elsewhere = {"XDG_CONFIG_HOME": "", "HOME": str(path.parents[2])}
    assert cellblock("run", "-", input=code, env=elsewhere).stdout == "hello\n"


def test_a_named_file_must_exist(cellblock, tmp_path):
    """Only the default one may be absent."""
    done = cellblock("--config", tmp_path / "none.json")
    assert done.returncode == 2 and "none.json" in done.stderr


@pytest.mark.parametrize(("content", "words"), [
    ("", ["line 1"]),
    ("{", ["line 1"]),
    ('{"environments": {}, "environments": {}}', ["duplicate", "environments"]),
    ("[]", ["object"]),
    ({"enviroments": {}}, ["enviroments", "environments"]),
    ({"polcy": {}}, ["polcy", "policy"]),
    ({"max_foreground_seconds": -1}, ["max_foreground_seconds", "-1"]),
    ({"policy": {"max_memory": 1}}, ["policy", "max_memory", "max_memory_mib"]),
    ({"policy": {"max_sessions": 257}}, ["policy.max_sessions", "257", "256"]),
    ({"policy": {"networks": ["packages"]}}, ["policy.networks[0]", "packages", "none"]),
    ({"policy": {"images": "python"}}, ["policy.images", "python"]),
    ({"policy": {"ask": {"shares": ["/none/such"]}}}, ["policy.ask.shares[0]", "/none/such"]),
    ({"policy": {"ask": {"shares": ["docs"]}}}, ["policy.ask.shares[0]", "docs", "absolute"]),
    ({"policy": {"ask": {"max_memory": 1}}}, ["policy.ask", "max_memory", "max_memory_mib"]),
    ({"policy": {"ask": {"max_sessions": 9}}}, ["policy.ask", "max_sessions"]),
    (environment(title="a\nb"), ["environments.e", "title"]),
    (environment(memory_mb=1), ["environments.e", "memory_mb", "memory_mib"]),
    (environment(mode="statefull"), ["environments.e.mode", "statefull", "stateful"]),
    (environment(network="packages"), ["environments.e.network", "not supported yet"]),
    (environment(backend="dockr"), ["environments.e", "backend", "dockr", "local"]),
    (environment(memory_mib="1024"), ["environments.e.memory_mib", "1024", "whole number"]),
    (environment(pool=17), ["environments.e.pool", "17", "16"]),
    (environment(timeout_seconds=0), ["environments.e.timeout_seconds", "0"]),
    (environment(timeout_seconds=9, max_timeout_seconds=3), ["9", "3", "max_timeout_seconds"]),
    (environment(env={"A": 1}), ["environments.e.env.A", "string"]),
    (environment(env={"A-B": "x"}), ["A-B", "variable"]),
    (environment(python="bin/python3"), ["python", "absolute"]),
    (environment(shares=[{"type": "copy", "source": "/x"}]), ["shares", "dest"]),
    (environment(shares=[{"type": "cloud", "source": "/x", "dest": "/y"}]), ["type", "cloud"]),
    (environment(shares=[{"type": "copy", "source": "x", "dest": "/y"}]), ["source", "absolute"]),
    ({"environments": {"a b": {}}}, ["a b", "name"]),
    ({"environments": {"x" * 65: {}}}, ["name", "64"]),
    ({"default_environment": "dat", "environments": {"data": {}}}, ["dat", "data"]),
])
def test_what_is_wrong_is_named(cellblock, config, content, words):
    """The file, the field, what was given and what is allowed; unsupported is 3, wrong is 2."""
    path = config(content)
    done = cellblock("serve")
    assert done.returncode == (3 if "not supported yet" in words else 2)
    assert str(path) in done.stderr and done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_not_utf8(cellblock, config):
    """Bytes that are no text."""
    path = config("")
    path.write_bytes(b'{"default_environment": "\xff"}')
    done = cellblock()
    assert done.returncode == 2 and "UTF-8" in done.stderr


def test_too_large(cellblock, config):
    """More than 1 MiB."""
    config(" " * (1 << 20) + "{}")
    done = cellblock()
    assert done.returncode == 2 and "1 MiB" in done.stderr


def test_a_directory_and_a_pipe_are_no_config(cellblock, tmp_path):
    """Neither is waited for."""
    assert "directory" in cellblock("--config", tmp_path).stderr
    assert "regular file" in cellblock("--config", "/dev/null").stderr


def test_the_command_line_beats_the_file(cellblock, config):
    """For the default environment, whichever that is."""
    config({"default_environment": "a", "environments": {
        "a": {"timeout_seconds": 1, "env": {"NAME": "a"}},
        "b": {"timeout_seconds": 1, "env": {"NAME": "b"}}}})
    code = "import os, time; time.sleep(2); print(os.environ['NAME'])"
    assert cellblock("run", "-", input=code).returncode == 124
    assert cellblock("run", "--timeout", "20", "-", input=code).stdout == "a\n"
    done = cellblock("run", "--timeout=20", "--environment=b", "-", input=code)
    assert done.stdout == "b\n"


@pytest.mark.parametrize(("keys", "shares", "words"), [
    ({}, [("copy", "/usr/share/doc", "/workspace/d"), ("copy", "/usr/share/zoneinfo",
                                                       "/workspace/d/z")],
     "dest: /workspace/d/z is taken"),
    ({"isolation": "landlock"}, [("mount", "/usr/share/doc", "/data/d")],
     'not supported by backend "local" with isolation "landlock"'),
    ({}, [("copy", "/nonexistent", "/workspace/d")], "/nonexistent"),
])
def test_shares_that_cannot_be_brought_in(cellblock, config, keys, shares, words):
    """Nothing is left out in silence: no session starts without them."""
    listed = [dict(zip(("type", "source", "dest"), share, strict=True)) for share in shares]
    config(environment(shares=listed, **keys))
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "run_code", "arguments": {"code": "1"},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                  "io.modelcontextprotocol/clientCapabilities": {}}}}
    served = cellblock(input=json.dumps(request) + "\n")
    result = json.loads(served.stdout)["result"]
    assert result["isError"] and words in result["content"][0]["text"]
    done = cellblock("run", "-", input="print('ran')")
    assert done.returncode != 0 and words in done.stderr and "ran" not in done.stdout


OPENAI = {"openai": {"variable": "OPENAI_API_KEY", "env": "OWNERS_KEY"}}


def test_secrets_are_in_a_run_and_not_in_what_it_prints(cellblock, config):
    """`cellblock run`; without its value nothing is run."""
    config({"secrets": OPENAI, **environment(secrets=["openai"])})
    code = ("import os, sys\nv = os.environ['OPENAI_API_KEY']\nprint(len(v), v)\n"
            "print(v, file=sys.stderr)\nraise ValueError(v)")
    done = cellblock("run", "-", input=code, env={"OWNERS_KEY": "sk-0123456789"})
    assert done.returncode == 1 and done.stdout == "13 [secret openai]\n"
    assert done.stderr.count("[secret openai]\n") == 2 and "sk-0123456789" not in done.stderr
    done = cellblock("run", "-", input="print(1)", env={"OWNERS_KEY": "2shrt"})
    assert done.returncode != 0 and done.stdout == "" and "2shrt" not in done.stderr
    assert 'secret "openai" is not there' in done.stderr


@pytest.mark.parametrize(("content", "words"), [
    (environment(secrets=["openai"]), ["environments.e", 'no secret "openai"']),
    ({"secrets": OPENAI, **environment(secrets=["opnai"])}, ['did you mean "openai"']),
    ({"secrets": OPENAI, "policy": {"secrets": ["x"]}}, ["policy.secrets[0]", 'no secret "x"']),
    ({"secrets": {"openai": {"env": "X"}}}, ["secrets.openai", "variable"]),
    ({"secrets": {"openai": {"variable": "V"}}}, ["secrets.openai", "env, file and secret_tool"]),
])
def test_a_table_of_secrets_that_is_wrong(cellblock, config, content, words):
    """The field, and the nearest name."""
    config(content)
    done = cellblock("run", "-", input="1")
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
