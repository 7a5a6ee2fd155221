"""The legacy handshake in every revision, and what each revision may be sent."""

import json

import pytest

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


def keys_of(value):
    """Every key anywhere in a value."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    return set()


@pytest.mark.parametrize("version", LEGACY)
def test_a_supported_version_is_echoed(start, version):
    """initialize answers with the version that was asked for."""
    client = start(version=version)
    result = client.initialized
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "cellblock" and result["serverInfo"]["version"]
    assert "tools" in result["capabilities"] and "logging" in result["capabilities"]
    assert 0 < len(result.get("instructions", "x")) < 2048
    assert client.request("ping") == {}


@pytest.mark.parametrize("version", ["2026-07-28", "2023-01-01", "2099-12-31", "1", ""])
def test_another_version_never_fails(start, version):
    """Rejecting on version breaks clients: our latest legacy one is the answer."""
    assert start(version=version).initialized["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize("params", [{"protocolVersion": 5}, {"protocolVersion": None}])
def test_a_broken_initialize(start, params):
    """A version of a wrong type is invalid params, and the next try works."""
    client = start(version=None)
    answer = client.wait(client.begin("initialize", {"capabilities": {}, "clientInfo": {
        "name": "x", "version": "1"}, **params}), 10)
    assert answer["error"]["code"] == -32602
    assert client.initialize()["protocolVersion"] == "2025-11-25"


def test_requests_before_initialize(start):
    """Without handshake and without modern _meta a request is -32602; ping is allowed."""
    client = start(version=None)
    assert client.request("ping") == {}
    for method, params in (("tools/list", {}), ("tools/call", {"name": "run_code", "arguments": {
            "code": "1"}})):
        answer = client.wait(client.begin(method, params), 10)
        assert answer["error"]["code"] == -32602
        assert "initialize" in answer["error"]["message"]


def test_initialize_twice_does_no_harm(client):
    """A second handshake is answered (with a result or an error), and work goes on."""
    client.wait(client.begin("initialize", {"protocolVersion": "2025-06-18", "capabilities": {},
                                            "clientInfo": {"name": "x", "version": "1"}}), 10)
    assert client.request("ping") == {}


def test_a_client_that_forgets_initialized(start):
    """Some clients never send notifications/initialized; they are served."""
    client = start(version=None)
    client.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                  "clientInfo": {"name": "x", "version": "1"}})
    assert len(client.request("tools/list")["tools"]) == 3


ALLOWED = {
    "2024-11-05": {"name", "description", "inputSchema"},
    "2025-03-26": {"name", "description", "inputSchema", "annotations"},
    "2025-06-18": {"name", "description", "inputSchema", "annotations", "title", "outputSchema",
                   "_meta"},
    "2025-11-25": {"name", "description", "inputSchema", "annotations", "title", "outputSchema",
                   "_meta", "icons", "execution"},
}


@pytest.mark.parametrize("version", LEGACY)
def test_tools_list_has_only_what_the_revision_knows(start, version):
    """Fields that are newer than the negotiated revision are not sent."""
    for tool in start("--structured", version=version).request("tools/list")["tools"]:
        assert set(tool) <= ALLOWED[version], tool["name"]
        assert ("annotations" in tool) == (version != "2024-11-05")
        assert ("title" in tool) == (version >= "2025-06-18")
        assert ("outputSchema" in tool) == (version >= "2025-06-18"
                                            and tool["name"] == "run_code")


@pytest.mark.parametrize("version", LEGACY)
def test_results_have_only_what_the_revision_knows(start, version):
    """No structuredContent before 2025-06-18, no resultType before 2026-07-28."""
    result = start("--structured", version=version).run("print(1); 2")
    assert ("structuredContent" in result.raw) == (version >= "2025-06-18")
    assert "resultType" not in result.raw
    assert "1" in result.text() and "2" in result.text()


def test_progress_has_no_message_in_2024_11_05(start):
    """Progress messages came with 2025-03-26."""
    for version in LEGACY:
        client = start(version=version)
        client.tool("run_code", {"code": "import time\nfor n in range(3):\n print(n, flush=True)\n"
                                         " time.sleep(.2)"}, token="p")
        assert client.progress("p")
        assert all(("message" in p) == (version != "2024-11-05") for p in client.progress("p"))


def test_initialize_of_2024_11_05_has_no_newer_fields(start):
    """serverInfo.title and description are newer."""
    info = start(version="2024-11-05").initialized["serverInfo"]
    assert set(info) == {"name", "version"}


def test_tools_list_is_fit_for_hosts(client):
    """What Claude Code, VS Code and the API refuse is not in the list."""
    tools = client.request("tools/list")["tools"]
    assert [t["name"] for t in tools] == ["run_code", "add_share", "reset_session"]
    assert client.request("tools/list")["tools"] == tools
    for tool in tools:
        schema = tool["inputSchema"]
        assert schema["type"] == "object" and schema["additionalProperties"] is False
        assert not {"oneOf", "anyOf", "allOf", "not", "if", "$ref", "$defs"} & set(schema)
        assert "$ref" not in keys_of(schema)
        assert len(tool["description"].encode()) <= 2048
        assert set(tool["annotations"]) - {"title"} == {"readOnlyHint", "destructiveHint",
                                                        "idempotentHint", "openWorldHint"}
        assert "outputSchema" not in tool
        for name, one in schema["properties"].items():
            assert one.get("description"), f"{tool['name']}.{name} has no description"
    assert len(json.dumps(tools)) < 12_000


def test_the_arguments_are_those_of_the_design(client):
    """Names, and which of them are required."""
    tools = {t["name"]: t["inputSchema"] for t in client.request("tools/list")["tools"]}
    assert set(tools["run_code"]["properties"]) == {
        "code", "language", "session", "environment", "ephemeral", "timeout_seconds", "stdin",
        "env"}
    assert tools["run_code"]["required"] == ["code"]
    assert {"type", "source", "dest", "read_only", "session"} <= set(
        tools["add_share"]["properties"])
    assert set(tools["reset_session"]["properties"]) == {"session", "keep_shares"}


def test_any_cursor_is_a_bad_cursor(client):
    """The list has one page."""
    answer = client.wait(client.begin("tools/list", {"cursor": "page2"}), 10)
    assert answer["error"]["code"] == -32602


def test_schemas_are_valid_2020_12(start):
    """Checked with an implementation that is not ours."""
    from jsonschema import Draft202012Validator
    for tool in start("--structured").request("tools/list")["tools"]:
        Draft202012Validator.check_schema(tool["inputSchema"])
        if "outputSchema" in tool:
            Draft202012Validator.check_schema(tool["outputSchema"])
            assert tool["outputSchema"]["type"] == "object"


@pytest.mark.parametrize("level", ["debug", "info", "notice", "warning", "error", "critical",
                                   "alert", "emergency"])
def test_logging_levels(client, level):
    """Every level of syslog is accepted."""
    assert client.request("logging/setLevel", {"level": level}) == {}


@pytest.mark.parametrize("params", [{}, {"level": "loud"}, {"level": 3}, {"level": None}])
def test_a_bad_logging_level(client, params):
    """Another one is invalid params and says which there are."""
    answer = client.wait(client.begin("logging/setLevel", params), 10)
    assert answer["error"]["code"] == -32602
    assert "warning" in answer["error"]["message"]


def test_log_messages_only_from_the_level_on(start):
    """With `error` no ordinary message reaches the client."""
    client = start()
    client.request("logging/setLevel", {"level": "error"})
    client.run("1")
    assert not [n for n in client.notifications("notifications/message")
                if n["params"]["level"] in ("debug", "info", "notice", "warning")]
