"""JSON-RPC batches: 2025-03-26 must accept them, no other revision has them."""

import json


def batch(client, items):
    """Sends a batch and returns the array that answers it."""
    with client._changed:
        seen = len(client.messages)
    client.send(items)
    client.wait_until(lambda: any(isinstance(m, list) for m in client.messages[seen:]), 60)
    return next(m for m in client.messages[seen:] if isinstance(m, list))


def ping(id_):
    """One request."""
    return {"jsonrpc": "2.0", "id": id_, "method": "ping"}


def test_one_array_answers_a_batch(start):
    """All answers in one line, notifications without."""
    client = start(version="2025-03-26")
    got = batch(client, [ping("a"), {"jsonrpc": "2.0", "method": "notifications/x"}, ping("b"),
                         {"jsonrpc": "2.0", "id": "c", "method": "nope"}, 7])
    assert len(got) == 4
    by_id = {json.dumps(m["id"]): m for m in got}
    assert by_id['"a"']["result"] == {} and by_id['"b"']["result"] == {}
    assert by_id['"c"']["error"]["code"] == -32601
    assert by_id["null"]["error"]["code"] == -32600


def test_slow_calls_in_a_batch_hold_up_nobody_else(start):
    """The array comes when all are done; others are answered meanwhile."""
    client = start(version="2025-03-26")
    client.run("1")
    call = client.build("tools/call", {"name": "run_code", "arguments": {
        "code": "import time; time.sleep(1); 'slow'"}})
    client.send([call, ping("quick")])
    assert client.request("ping", timeout=0.8) == {}
    assert not client.answers("quick")
    assert "slow" in json.dumps(client.wait(call["id"]))
    assert client.answers("quick")


def test_a_batch_of_notifications_has_no_answer(start):
    """Nothing to say is nothing said."""
    client = start(version="2025-03-26")
    seen = len(client.messages)
    client.send([{"jsonrpc": "2.0", "method": "notifications/x"}] * 3)
    assert client.request("ping") == {}
    assert len(client.messages) == seen + 1


def test_an_empty_batch_is_invalid(start):
    """As JSON-RPC says: one error, not an array."""
    client = start(version="2025-03-26")
    answer = client.exchange(b"[]\n")
    assert answer["error"]["code"] == -32600


def test_a_cancelled_member_is_left_out(start):
    """The batch is answered without it."""
    client = start(version="2025-03-26")
    client.run("1")
    call = client.build("tools/call", {"name": "run_code", "arguments": {
        "code": "import time; time.sleep(60)"}})
    client.send([call, ping("other")])
    client.cancel(call["id"])
    assert client.result("other", 20) == {}
    assert not client.answers(call["id"])


def test_a_large_batch(start):
    """A thousand members."""
    client = start(version="2025-03-26")
    assert len(batch(client, [ping(f"n{n}") for n in range(1000)])) == 1000


def test_other_revisions_refuse_batches(start):
    """-32600, once, and the connection goes on."""
    for version in ("2024-11-05", "2025-06-18", "2025-11-25"):
        client = start(version=version)
        answer = client.exchange(json.dumps([ping("a"), ping("b")]).encode() + b"\n")
        assert answer["error"]["code"] == -32600
        assert client.request("ping") == {}
