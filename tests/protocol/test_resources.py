"""Artifacts as MCP's resources: links in results, resources/list and resources/read, both eras."""

import base64
import re
from urllib.parse import unquote

import pytest
from support.client import Client, RpcError

ERAS = ["legacy", "modern"]
NOT_FOUND = {"legacy": -32002, "modern": -32602}
INVALID = -32602
CHANGED = "notifications/resources/list_changed"
PNG = ("import struct, zlib\n"
       "def chunk(kind, data):\n"
       "    return (struct.pack('>I', len(data)) + kind + data\n"
       "            + struct.pack('>I', zlib.crc32(kind + data)))\n"
       "png = (b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0,"
       " 0))\n       + chunk(b'IDAT', zlib.compress(b'\\0\\xff')) + chunk(b'IEND', b''))\n")


@pytest.fixture(scope="module", params=ERAS)
def client(request):
    """One server for the tests of an era; each makes a session of its own."""
    with Client("--toolsets", "sessions,commands,runs", era=request.param) as found:
        yield found


@pytest.fixture
def session(client):
    """A new session's id; it is ended."""
    made = client.tool("create_session", {}).session
    yield made
    client.tool("end_session", {"session": made, "how": "kill"})


def links(result):
    """The resource_link blocks by name."""
    return {b["name"]: b for b in result.parts("artifact") if b["type"] == "resource_link"}


def read(client, uri):
    """The one content of a resource."""
    result = client.request("resources/read", {"uri": uri})
    if client.era == "modern":
        assert result["ttlMs"] == 0 and result["cacheScope"] == "private"
    contents, = result["contents"]
    assert contents["uri"] == uri
    return contents


def refused(client, uri):
    """The error of a read."""
    with pytest.raises(RpcError) as caught:
        client.request("resources/read", {"uri": uri})
    return caught.value


def listed(client, session=""):
    """All that resources/list gives of a session, page after page."""
    found, cursor = [], None
    while True:
        page = client.request("resources/list", {"cursor": cursor} if cursor else {})
        found += page["resources"]
        cursor = page.get("nextCursor")
        if not cursor:
            return [r for r in found if session in r["uri"]]


def test_it_is_offered(client):
    """The capability, and no templates."""
    hello = client.initialized if client.era == "legacy" else client.request("server/discover")
    assert hello["capabilities"]["resources"] == {"listChanged": True}
    assert client.request("resources/templates/list")["resourceTemplates"] == []


def test_what_a_run_made_is_linked_and_read(client, session):
    """Name, size and type in the link; text as text, bytes as a blob; unchanged files are not."""
    made = client.run("import os\nos.mkdir('out')\nopen('out/table ü.csv', 'w').write('a,b\\n')\n"
                      "open('raw.bin', 'wb').write(bytes(range(256)))\n"
                      "open('Makefile', 'w').write('all:\\n')\n"
                      "open('.hidden', 'w').write('x')\n"
                      "os.mkdir('__pycache__'); open('__pycache__/a.pyc', 'w').write('x')",
                      session=session)
    found = links(made)
    assert set(found) == {"out/table ü.csv", "raw.bin", "Makefile"}
    table = found["out/table ü.csv"]
    assert table["size"] == 4 and table["mimeType"] == "text/csv"
    assert table["_meta"]["cellblock/session"] == session
    run = made.outcome["run"]
    assert table["uri"] == f"cellblock://{session}/{run}/out/table%20%C3%BC.csv"
    parts = [b["_meta"]["cellblock/part"] for b in made.content]
    assert parts.index("artifact") > max([0, *(i for i, p in enumerate(parts) if p == "result")])
    assert read(client, table["uri"])["text"] == "a,b\n"
    assert read(client, found["Makefile"]["uri"])["mimeType"] == "text/plain"
    blob = read(client, found["raw.bin"]["uri"])
    assert base64.b64decode(blob["blob"]) == bytes(range(256))
    assert {r["uri"] for r in listed(client, session)} == {b["uri"] for b in found.values()}
    quiet = client.run("1 + 1", session=session)
    assert not quiet.parts("artifact") and quiet.text("result") == "2"


def test_a_changed_file_stands_for_the_older_link(client, session):
    """One entry in the list; both links give what is there now. A command's files count too."""
    first = links(client.run("open('a.txt', 'w').write('one')", session=session))["a.txt"]
    second = links(client.tool("run_command", {"script": "printf three >> a.txt; touch b",
                                               "session": session}))
    assert set(second) == {"a.txt", "b"} and second["a.txt"]["uri"] != first["uri"]
    for uri in (first["uri"], second["a.txt"]["uri"]):
        assert read(client, uri)["text"] == "onethree"
    assert {r["name"] for r in listed(client, session)} == {"a.txt", "b"}


def test_after_the_session(client, session):
    """Text and a blob stay; what is too big was not kept, and the error says so."""
    found = links(client.run("open('kept.txt', 'w').write('still here')\n"
                             "open('big', 'wb').truncate(5 << 20)", session=session))
    big = refused(client, found["big"]["uri"])
    assert big.code == INVALID and "read_file" in big.message and "5,242,880" in big.message
    client.tool("end_session", {"session": session})
    assert read(client, found["kept.txt"]["uri"])["text"] == "still here"
    gone = refused(client, found["big"]["uri"])
    assert gone.code == NOT_FOUND[client.era] and "was not kept" in gone.message
    assert [r["name"] for r in listed(client, session)] == ["kept.txt"]


def test_after_a_reset_and_of_a_fresh_sandbox(client, session):
    """What was there before a reset stays, and so does what an ephemeral run made."""
    before = links(client.run("open('a', 'w').write('before')", session=session))["a"]
    fresh = links(client.run("open('a', 'w').write('fresh')", session=session,
                             ephemeral=True))["a"]
    client.tool("reset_session", {"session": session})
    after = links(client.run("open('a', 'w').write('after')", session=session))["a"]
    assert [read(client, one["uri"])["text"] for one in (before, fresh, after)] == [
        "before", "fresh", "after"]


def test_images_come_inline(client, session):
    """By their first bytes, not by their names; behind their links, and only small ones."""
    result = client.run(PNG + "open('dot', 'wb').write(png)\n"
                        "open('no.png', 'w').write('not an image')\n"
                        "open('huge.png', 'wb').write(png + bytes(300000))", session=session)
    assert set(links(result)) == {"dot", "no.png", "huge.png"}
    image, = result.images()
    at = result.content.index(image)
    assert result.content[at - 1]["name"] == "dot" and image["mimeType"] == "image/png"
    assert image["_meta"]["cellblock/part"] == "artifact"
    assert read(client, links(result)["dot"]["uri"])["blob"] == image["data"]
    assert read(client, links(result)["no.png"]["uri"])["mimeType"] == "application/octet-stream"


def test_full_output_is_linked(client, session):
    """What the result left out is a resource, and not an artifact of the run's own."""
    result = client.run("for i in range(20000): print(i)", session=session)
    link, = result.parts("artifact")
    assert link["name"].endswith(".stdout") and link["mimeType"] == "text/plain"
    text = read(client, link["uri"])["text"]
    assert text.startswith("0\n1\n") and text.endswith("\n19999\n") and len(text) == link["size"]


def test_a_background_run(client, session):
    """Its links come with its end."""
    run = client.run("open('late', 'w').write('x')", session=session, background=True)
    run = re.search(r"\br-[a-z2-7]{8}\b", run.text()).group()
    ended = client.tool("poll_run", {"run": run, "wait_seconds": 30})
    while "late" not in links(ended):
        ended = client.tool("poll_run", {"run": run, "wait_seconds": 30})
    assert read(client, links(ended)["late"]["uri"])["text"] == "x"


def test_many(client, session):
    """Links are capped, the newest first, and the rest counted; the list has pages."""
    result = client.run("for i in range(140): open(f'n{i:03}', 'w').close()", session=session)
    found = list(links(result))
    assert len(found) == 32 and "108 more files" in result.text("note")
    page = client.request("resources/list")
    assert len(page["resources"]) <= 100
    names = [r["name"] for r in listed(client, session)]
    assert len(names) == len(set(names)) == 64 and set(found) <= set(names)


def test_bad_questions(client):
    """Cursors and URIs that are none of ours."""
    for cursor in ("", "r1-0000000000", "x", 7):
        for method in ("resources/list", "resources/templates/list"):
            with pytest.raises(RpcError) as caught:
                client.request(method, {"cursor": cursor})
            assert caught.value.code == INVALID
    for params in ({}, {"uri": 7}):
        with pytest.raises(RpcError) as caught:
            client.request("resources/read", params)
        assert caught.value.code == INVALID
    error = refused(client, "cellblock://s-aaaaaaaa/r-aaaaaaaa/x")
    assert error.code == NOT_FOUND[client.era] and error.data["uri"].endswith("/x")


def test_a_file_that_went_away(client, session):
    """The error says so, and the list forgets it."""
    uri = links(client.run("open('short', 'w').write('lived')", session=session))["short"]["uri"]
    client.run("import os; os.remove('short')", session=session)
    error = refused(client, uri)
    assert error.code == NOT_FOUND[client.era] and "short" in error.message
    assert not listed(client, session)
    assert unquote(uri).endswith("/short")


def test_who_is_told_that_the_list_changed(client, session):
    """A legacy client always, a modern one on the subscription that asked for it."""
    before = len(client.notifications(CHANGED))
    if client.era == "legacy":
        client.run("open('a', 'w').close()", session=session)
        assert len(client.notifications(CHANGED)) == before + 1
        client.run("1", session=session)
        assert len(client.notifications(CHANGED)) == before + 1
        return
    asked = client.begin("subscriptions/listen", {"notifications": {"resourcesListChanged": True}})
    deaf = client.begin("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    key = "io.modelcontextprotocol/subscriptionId"
    acknowledged = {one["_meta"][key]: one["notifications"] for one in (
        client.wait_notification("notifications/subscriptions/acknowledged",
                                 lambda p, i=i: p["_meta"][key] == i) for i in (asked, deaf))}
    assert acknowledged == {asked: {"resourcesListChanged": True}, deaf: {}}
    client.run("open('a', 'w').close()", session=session)
    told = client.notifications(CHANGED)[before:]
    assert [one["params"]["_meta"][key] for one in told] == [asked]
    client.cancel(asked)
    client.run("open('b', 'w').close()", session=session)
    assert len(client.notifications(CHANGED)) == before + 1
    client.cancel(deaf)


def test_structured():
    """artifacts[] has the links, and there is no image."""
    with Client("--structured") as client:
        result = client.run(PNG + "open('dot.png', 'wb').write(png)")
        entry, = result.structured["artifacts"]
        assert entry["name"] == "dot.png" and entry["mimeType"] == "image/png"
        assert entry["size"] and set(links(result)) == {"dot.png"} and not result.images()
        assert client.run("1").structured["artifacts"] == []


def test_clients_without_links():
    """Before 2025-06-18 a link is a line of text."""
    with Client(version="2024-11-05") as client:
        result = client.run("open('a.txt', 'w').write('x')")
        text, = (b["text"] for b in result.content if "a.txt" in b.get("text", ""))
        name, uri = text.split(": ", 1)
        assert name == "a.txt" and client.request("resources/read", {"uri": uri})["contents"]
        assert "size" not in client.request("resources/list")["resources"][0]
