"""Progress, cancellation, and what goes on beside a long run."""

import time

import pytest

LOOP = "import time\nfor n in range({n}):\n    print('line', n, flush=True)\n    time.sleep({s})\n"


def test_no_token_no_progress(client):
    """Without a progressToken nothing but the result."""
    client.run(LOOP.format(n=5, s=0.05))
    assert not client.notifications()


@pytest.mark.parametrize("token", ["a", 7, 0, ""])
def test_progress(client, token):
    """Strictly increasing, the token as it came, the newest lines as message, then the result."""
    id_ = client.begin_tool("run_code", {"code": LOOP.format(n=5, s=0.2)}, token=token)
    client.wait(id_)
    got = client.progress(token)
    values = [p["progress"] for p in got]
    assert len(got) >= 3 and values == sorted(set(values))
    assert any("line 3" in p["message"] for p in got)
    assert all(len(p["message"].encode()) <= 4096 for p in got)
    last = client.messages[-1]
    client.request("ping")
    assert client.messages[-2] is last and last["id"] == id_


def test_progress_starts_early(client):
    """From the first 50 ms on."""
    client.run("1")
    started = time.monotonic()
    id_ = client.begin_tool("run_code", {"code": "print('now', flush=True)\nimport time\n"
                                                 "time.sleep(2)"}, token="t")
    client.wait_notification("notifications/progress", lambda p: "now" in p.get("message", ""))
    assert time.monotonic() - started < 1
    client.cancel(id_)


def test_at_most_twenty_a_second(client):
    """A flood is thinned out."""
    client.run("1")
    client.tool("run_code", {"code": "import time\nend = time.time() + 2\n"
                                     "while time.time() < end: print('x', flush=True)"}, token="t")
    assert 5 < len(client.progress("t")) <= 45


@pytest.mark.parametrize("token", [None, 1.5, [], {}, True])
def test_a_token_of_a_wrong_type(client, token):
    """No progress under it: an error or a plain answer."""
    id_ = client.begin("tools/call", {"name": "run_code", "arguments": {"code": "print(1)"},
                                      "_meta": {"progressToken": token}})
    answer = client.wait(id_)
    assert "result" in answer or answer["error"]["code"] == -32602
    assert not client.notifications("notifications/progress")


def test_ping_during_a_long_run(client):
    """A long run never holds up ping."""
    client.run("1")
    id_ = client.begin_tool("run_code", {"code": "while True: pass"})
    time.sleep(0.2)
    for _ in range(20):
        started = time.monotonic()
        client.request("ping", timeout=2)
        assert time.monotonic() - started < 0.5
    client.cancel(id_)


def test_cancel_stops_the_code(client):
    """The work ends, the variables stay, nothing is sent, the server lives."""
    client.run("x = 5")
    id_ = client.begin_tool("run_code", {"code": "import time\nwhile True: time.sleep(.1)"})
    time.sleep(0.3)
    client.cancel(id_)
    result = client.run("x", timeout=10)
    assert result.text("result") == "5"
    assert not client.answers(id_)


def test_cancel_of_a_queued_run(client):
    """It never starts; the others go on."""
    client.run("seen = []")
    first = client.begin_tool("run_code", {"code": "import time; time.sleep(1); seen.append(1)"})
    second = client.begin_tool("run_code", {"code": "seen.append(2)"})
    third = client.begin_tool("run_code", {"code": "seen.append(3); seen"})
    client.cancel(second)
    assert client.tool_result(third).text("result") == "[1, 3]"
    assert client.answers(first) and not client.answers(second)


def test_cancel_in_the_first_moment(client):
    """Also while the sandbox still starts."""
    id_ = client.begin_tool("run_code", {"code": "open('/workspace/ran', 'w')"})
    client.cancel(id_)
    assert client.run("2").text("result") == "2"
    assert not client.answers(id_)


def test_cancel_of_what_is_done_or_unknown(client):
    """Nothing happens."""
    id_ = client.begin_tool("run_code", {"code": "1"})
    client.wait(id_)
    client.cancel(id_)
    client.cancel("never")
    assert client.run("x = 1; x").text("result") == "1"


def test_cancel_with_an_id_of_another_type(client):
    """"5" does not cancel 5."""
    client.run("1")
    client.begin_tool("run_code", {"code": "import time; time.sleep(.5); 'done'"}, id_=5000)
    client.cancel("5000")
    assert client.tool_result(5000).text("result") == "'done'"


def test_many_cancels(client):
    """Fifty runs begun and taken back; the server is as before."""
    client.run("1")
    for _ in range(50):
        client.cancel(client.begin_tool("run_code", {"code": "import time; time.sleep(9)"}))
    assert client.run("7", timeout=20).text("result") == "7"
