"""The official Python SDK and fastmcp, in both eras."""

import asyncio

import pytest
from support.client import binary, default_args

MODES = ["legacy", "auto", "2026-07-28"]
VERSIONS = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}


def part(result, name):
    """The text of one part of a CallToolResult."""
    return "".join(b.text for b in result.content if (b.meta or {}).get("cellblock/part") == name)


def sdk(mode, *args, **options):
    """A client of the official SDK."""
    from mcp.client.stdio import StdioServerParameters

    from mcp import Client
    return Client(StdioServerParameters(command=binary(), args=[*default_args(), *args]), mode=mode,
                  **options)


@pytest.mark.parametrize("mode", MODES)
def test_sdk(mode):
    """List, call, keep state, fail, and leave."""
    async def talk():
        async with sdk(mode) as client:
            assert client.protocol_version == VERSIONS[mode]
            if mode != "2026-07-28":  # a pinned version is not asked for
                assert client.server_info.name == "cellblock"
            tools = await client.list_tools()
            assert [t.name for t in tools.tools] == ["run_code", "add_share", "reset_session"]
            first = await client.call_tool("run_code", {"code": "x = 6\nprint('hi')\nx * 7"})
            assert part(first, "stdout") == "hi\n" and part(first, "result") == "42"
            session = {"session": first.meta["cellblock/session"]}
            again = await client.call_tool("run_code", {"code": "x", **session})
            assert part(again, "result") == "6"
            failed = await client.call_tool("run_code", {"code": "1 / 0", **session})
            assert failed.is_error and "ZeroDivisionError" in part(failed, "error")
            bad = await client.call_tool("run_code", {"code": 7})
            assert bad.is_error
    asyncio.run(talk())


@pytest.mark.parametrize("mode", MODES)
def test_sdk_structured(mode):
    """The SDK checks structuredContent against the outputSchema itself."""
    async def talk():
        async with sdk(mode, "--structured") as client:
            await client.list_tools()
            result = await client.call_tool("run_code", {"code": "print('out'); 1"})
            assert result.structured_content["stdout"] == "out\n"
            assert result.structured_content["result"] == "1"
            failed = await client.call_tool("run_code", {"code": "1 / 0"})
            assert failed.is_error
            assert failed.structured_content["error"]["etype"] == "ZeroDivisionError"
    asyncio.run(talk())


@pytest.mark.parametrize("mode", MODES)
def test_sdk_progress(mode):
    """progress_callback gets the newest lines."""
    seen = []

    async def on_progress(progress, total, message):
        seen.append((progress, message))

    async def talk():
        async with sdk(mode) as client:
            await client.call_tool("run_code", {"code": "import time\nfor n in range(4):\n"
                                                        " print('step', n, flush=True)\n"
                                                        " time.sleep(.2)"},
                                   progress_callback=on_progress)
    asyncio.run(talk())
    assert any("step" in (message or "") for _, message in seen)
    assert [p for p, _ in seen] == sorted({p for p, _ in seen})


@pytest.mark.parametrize("mode", MODES)
def test_sdk_request_timeout_cancels(mode):
    """The SDK's own time-out takes the call back; the server goes on."""
    async def talk():
        async with sdk(mode) as client:
            first = await client.call_tool("run_code", {"code": "x = 1"})
            session = {"session": first.meta["cellblock/session"]}
            with pytest.raises(Exception, match="(?i)timed? ?out"):
                await client.call_tool("run_code", {"code": "while True: pass", **session},
                                       read_timeout_seconds=1)
            after = await client.call_tool("run_code", {"code": "x", **session})
            assert part(after, "result") == "1"
    asyncio.run(talk())


def test_sdk_roots(tmp_path):
    """A legacy client's roots callback is asked, and what it offers may be shared."""
    import shutil
    import tempfile
    from pathlib import Path

    import mcp_types
    folder = Path(tempfile.mkdtemp(prefix="cellblock-share-"))
    folder.chmod(0o755)
    (folder / "f.txt").write_text("shared")
    (folder / "f.txt").chmod(0o644)

    async def roots(context):
        return mcp_types.ListRootsResult(roots=[mcp_types.Root(uri=folder.as_uri())])

    async def talk():
        async with sdk("legacy", list_roots_callback=roots) as client:
            result = await client.call_tool("add_share", {
                "type": "copy", "source": str(folder / "f.txt"), "dest": "/data/f.txt"})
            assert not result.is_error, result
            read = await client.call_tool("run_code", {"code": "open('/data/f.txt').read()"})
            assert part(read, "result") == "'shared'"
    try:
        asyncio.run(talk())
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["accept", "decline"])
def test_sdk_elicitation(mode, action, tmp_path):
    """What policy leaves to be asked for reaches the SDK's callback, in both eras."""
    import json

    import mcp_types
    asked = []
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"policy": {"ask": {"max_memory_mib": 2048}}}))

    async def elicit(context, params):
        asked.append(params)
        content = {"allow": True} if action == "accept" else None
        return mcp_types.ElicitResult(action=action, content=content)

    async def talk():
        async with sdk(mode, "--config", str(config), "--toolsets", "sessions",
                       elicitation_callback=elicit) as client:
            result = await client.call_tool("create_session", {"memory_mib": 2048})
            assert result.is_error == (action == "decline"), result
            assert (result.content[0].text.count("said no")) == (action == "decline")
    asyncio.run(talk())
    assert len(asked) == 1 and "2048 MiB of memory" in asked[0].message
    assert asked[0].requested_schema["required"] == ["allow"]


@pytest.mark.parametrize("mode", MODES)
def test_sdk_in_parallel(mode):
    """Twenty calls at once in sessions of their own."""
    async def talk():
        async with sdk(mode) as client:
            results = await asyncio.gather(*(
                client.call_tool("run_code", {"code": f"{n} * 2", "ephemeral": True})
                for n in range(20)))
            assert [part(r, "result") for r in results] == [str(n * 2) for n in range(20)]
    asyncio.run(talk())


@pytest.mark.parametrize("mode", MODES)
def test_fastmcp(mode):
    """fastmcp's client, with images and errors."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    async def talk():
        transport = StdioTransport(binary(), default_args(), keep_alive=False)
        async with Client(transport, mode=mode) as client:
            assert [t.name for t in await client.list_tools()] == ["run_code", "add_share",
                                                                   "reset_session"]
            result = await client.call_tool_mcp("run_code", {
                "code": "class P:\n def _repr_png_(self):\n"
                        "  return b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * 32\nP()"})
            assert [b.mime_type for b in result.content if b.type == "image"] == ["image/png"]
            failed = await client.call_tool("run_code", {"code": "1 / 0"}, raise_on_error=False)
            assert failed.is_error
    asyncio.run(talk())
