"""Revision 2026-07-28: each request by itself."""

import pytest
from support.client import META, MODERN, ToolResult


def error_of(client, method, params=None, meta=None, drop=()):
    """The error that a modern request gets, `drop` left out of its _meta."""
    request = client.build(method, params, meta=meta)
    for key in drop:
        request["params"]["_meta"].pop(META + key)
    client.send(request)
    answer = client.wait(request["id"], 10)
    assert "error" in answer, answer
    return answer["error"]


def test_discover(modern):
    """server/discover tells all that initialize told."""
    result = modern.request("server/discover")
    assert MODERN in result["supportedVersions"]
    assert "tools" in result["capabilities"]
    assert result["resultType"] == "complete"
    assert result["ttlMs"] >= 0 and result["cacheScope"] in ("public", "private")
    assert result["_meta"][META + "serverInfo"]["name"] == "cellblock"


def test_tools_list(modern):
    """The list is the same in both eras and may be cached."""
    result = modern.request("tools/list")
    assert [t["name"] for t in result["tools"]] == ["run_code", "add_share", "reset_session"]
    assert result["resultType"] == "complete"
    assert result["ttlMs"] >= 0 and result["cacheScope"] in ("public", "private")


def test_a_call_and_its_session(modern):
    """A call without session makes one and says how to pass it on; state is in the handle."""
    first = modern.run("x = 41")
    assert first.raw["resultType"] == "complete"
    assert first.session.startswith("s-") and first.session in first.text("note")
    assert first.outcome["session"] == first.session
    assert modern.run("x + 1", session=first.session).text("result") == "42"
    other = modern.run("x")
    assert other.session != first.session and other.outcome["error"]["etype"] == "NameError"


def test_reset_needs_a_session(modern):
    """There is no default session to reset."""
    result = modern.tool("reset_session", {})
    assert result.is_error and "session" in result.text()


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel",
                                    "resources/subscribe"])
def test_what_the_modern_era_has_not(modern, method):
    """Gone methods are not found."""
    assert error_of(modern, method, {"level": "info"})["code"] == -32601


def test_missing_capabilities(modern):
    """clientCapabilities is required."""
    assert error_of(modern, "tools/list", drop=["clientCapabilities"])["code"] == -32602


def test_client_info_is_optional(modern):
    """clientInfo is not."""
    request = modern.build("tools/list")
    del request["params"]["_meta"][META + "clientInfo"]
    modern.send(request)
    assert modern.result(request["id"])["tools"]


@pytest.mark.parametrize("version", ["2099-01-01", "2025-11-25", "nonsense", ""])
def test_unsupported_version(modern, version):
    """-32022 says what there is."""
    error = error_of(modern, "tools/list", meta={META + "protocolVersion": version})
    assert error["code"] == -32022
    assert MODERN in error["data"]["supported"] and error["data"]["requested"] == version


@pytest.mark.parametrize("version", [7, None, [], {}])
def test_version_of_a_wrong_type(modern, version):
    """Not a version at all."""
    error = error_of(modern, "tools/list", meta={META + "protocolVersion": version})
    assert error["code"] in (-32602, -32022)


def test_no_meta_at_all(modern):
    """Neither handshake nor _meta."""
    modern.send({"jsonrpc": "2.0", "id": "bare", "method": "tools/list"})
    assert modern.wait("bare", 10)["error"]["code"] == -32602


def test_both_eras_on_one_connection(client):
    """The era is decided for each message; sessions of one process are known to both."""
    legacy = client.run("x = 5")
    client.era = "modern"
    assert client.request("tools/list")["resultType"] == "complete"
    assert client.run("x", session=legacy.session).text("result") == "5"
    fresh = client.run("1")
    assert fresh.session != legacy.session
    client.era = "legacy"
    assert "resultType" not in client.request("tools/list")
    assert client.run("x").text("result") == "5"


def test_nothing_after_cancelled(modern):
    """A cancelled request gets no answer, in the modern era no progress either."""
    id_ = modern.begin_tool("run_code", {"code": "import time\nwhile True:\n print(1, flush=True)\n"
                                                 " time.sleep(.05)"}, token="p")
    modern.wait_notification("notifications/progress")
    modern.cancel(id_)
    modern.request("tools/list")
    seen = len(modern.messages)
    modern.run("1")
    after = modern.messages[seen:]
    assert not modern.answers(id_) and not [m for m in after if "method" in m], after


def test_unknown_tool_and_bad_values(modern):
    """As in the legacy era."""
    assert error_of(modern, "tools/call", {"name": "nope", "arguments": {}})["code"] == -32602
    result = modern.tool("run_code", {"code": 7})
    assert result.is_error and result.raw["resultType"] == "complete"


def test_log_messages_only_where_asked(modern):
    """notifications/message only for a request that carries a logLevel."""
    modern.run("print(1)")
    assert not modern.notifications("notifications/message")
    id_ = modern.begin_tool("run_code", {"code": "1"}, meta={META + "logLevel": "debug"})
    assert not ToolResult(modern.result(id_)).is_error


def test_no_requests_to_the_client(start):
    """The server asks a modern client nothing, whatever it declares."""
    modern = start(era="modern", roots=["/tmp"])
    result = modern.tool("add_share", {"type": "copy", "source": "/tmp", "dest": "/data"})
    assert result.is_error and "--share-root" in result.text()
    assert not modern.server_requests
