"""Messages that are broken, huge, or hostile: a clear error each, and the connection goes on."""

import json

import pytest

PARSE_ERROR, INVALID_REQUEST, NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
CAP = 16 * 1024 * 1024


def still_answers(client):
    """The connection is as good as before."""
    assert client.request("ping", timeout=10) == {}


def refused(client, data, *codes):
    """The bytes get exactly one error with one of the codes, and the connection goes on."""
    answer = client.exchange(data)
    assert answer["jsonrpc"] == "2.0" and "result" not in answer
    assert answer["error"]["code"] in codes, answer
    assert len(answer["error"]["message"]) > 5
    seen = len(client.messages)
    still_answers(client)
    assert len(client.messages) == seen + 1, client.messages[seen:]
    return answer


MALFORMED = {
    "not JSON": b"hello\n",
    "cut off": b'{"jsonrpc":"2.0","id":1,"method":"ping"\n',
    "two values": b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}\n',
    "trailing comma": b'{"jsonrpc":"2.0","id":1,"method":"ping",}\n',
    "single quotes": b"{'jsonrpc':'2.0'}\n",
    "NaN": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}\n',
    "Infinity": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":Infinity}}\n',
    "huge real": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":1e999}}\n',
    "duplicate key": b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}\n',
    "duplicate key inside": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"a":2}}\n',
    "not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xff\xfe"}}\n',
    "overlong UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xc0\xaf"}}\n',
    "raw surrogate": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xed\xa0\x80"}}\n',
    "raw NUL": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"a\x00b"}}\n',
    "NUL after": b'{"jsonrpc":"2.0","id":1,"method":"ping"}\x00\n',
    "UTF-16": '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16-le") + b"\n",
    "control character": b'{"jsonrpc":"2.0","id":1,"method":"pi\x01ng"}\n',
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(client, data):
    """What is no JSON text is a parse error."""
    answer = refused(client, data, PARSE_ERROR)
    assert answer["id"] in (None, 1)


INVALID = {
    "number": b"42\n",
    "string": b'"ping"\n',
    "null": b"null\n",
    "empty object": b"{}\n",
    "no jsonrpc": b'{"id":901,"method":"ping"}\n',
    "wrong jsonrpc": b'{"jsonrpc":"1.0","id":901,"method":"ping"}\n',
    "method no string": b'{"jsonrpc":"2.0","id":901,"method":7}\n',
    "null id": b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n',
    "object id": b'{"jsonrpc":"2.0","id":{},"method":"ping"}\n',
    "boolean id": b'{"jsonrpc":"2.0","id":true,"method":"ping"}\n',
    "fractional id": b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}\n',
    "array": b'[{"jsonrpc":"2.0","id":901,"method":"ping"}]\n',
    "empty array": b"[]\n",
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
def test_invalid_request(client, data):
    """JSON that is no request is an invalid request (2025-11-25 has no batches either)."""
    refused(client, data, INVALID_REQUEST)


@pytest.mark.parametrize("params", [b"[]", b"7", b'"x"', b"true"])
def test_params_of_a_wrong_type(client, params):
    """Params are an object in MCP."""
    refused(client, b'{"jsonrpc":"2.0","id":901,"method":"tools/list","params":' + params + b"}\n",
            INVALID_REQUEST, INVALID_PARAMS)


@pytest.mark.parametrize("depth", [200, 5000, 1_000_000])
def test_deep_message(client, depth):
    """Nesting has a limit; the stack does not depend on the sender."""
    data = (b'{"jsonrpc":"2.0","id":901,"method":"ping","params":{"x":'
            + b"[" * depth + b"]" * depth + b"}}\n")
    refused(client, data, PARSE_ERROR, INVALID_REQUEST)


def test_huge_message(client):
    """Past 16 MiB a message is answered with an error and skipped, however long it is."""
    head = b'{"jsonrpc":"2.0","id":901,"method":"ping","params":{"x":"'
    answer = refused(client, head + b"a" * (CAP + 1000) + b'"}}\n', PARSE_ERROR, INVALID_REQUEST)
    assert "16" in answer["error"]["message"]
    refused(client, head + b"a" * (3 * CAP) + b'"}}\n', PARSE_ERROR, INVALID_REQUEST)


def test_huge_message_is_not_kept_in_memory(client):
    """A line of 200 MB does not make a process of 200 MB."""
    seen = len(client.messages)
    block = b"x" * (1 << 20)
    for _ in range(200):
        client.send_raw(block)
    client.send_raw(b"\n")
    client.wait_until(lambda: len(client.messages) > seen, 30)
    still_answers(client)
    with open(f"/proc/{client.pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    if "asan" not in client.command[0]:
        assert peak < 80 * 1024, f"{peak} KiB"


def test_message_just_below_the_cap(client):
    """15 MiB is a message like any other."""
    assert client.request("ping", {"_meta": {"pad": "a" * (15 << 20)}}) == {}


def test_a_message_past_64_kib_in_many_pieces(client):
    """No line limit of 64 KiB, and pieces of any size."""
    request = json.dumps(client.build("ping", {"_meta": {"pad": "é" * 100_000}}, id_="pieces"),
                         ensure_ascii=False).encode() + b"\n"
    for start in range(0, len(request), 1021):
        client.send_raw(request[start:start + 1021])
    assert client.result("pieces") == {}


def test_bytes_one_by_one(client):
    """Also one byte at a time."""
    for byte in b'{"jsonrpc":"2.0","id":"slow","method":"ping"}\n':
        client.send_raw(bytes([byte]))
    assert client.result("slow") == {}


def test_carriage_returns_and_empty_lines(client):
    """A trailing CR is tolerated; empty lines are nothing."""
    client.send_raw(b'\n\r\n  \n{"jsonrpc":"2.0","id":"crlf","method":"ping"}\r\n')
    assert client.result("crlf") == {}


@pytest.mark.parametrize("id_", [0, -1, 7, 2**31, 2**53 + 1, 2**63 - 1, -2**63, "", "a", "1", "é☃𝄞",
                                 'quo"te\\', "x" * 10_000])
def test_ids_come_back_exactly(client, id_):
    """An id is an opaque string or integer."""
    client.send({"jsonrpc": "2.0", "id": id_, "method": "ping"})
    assert client.wait(id_, 10)["id"] == id_


def test_same_id_as_number_and_string(client):
    """1 and "1" are two ids."""
    client.send({"jsonrpc": "2.0", "id": 801, "method": "ping"})
    client.send({"jsonrpc": "2.0", "id": "801", "method": "ping"})
    assert client.result(801) == {} and client.result("801") == {}


def test_an_id_that_is_in_flight_is_refused(client):
    """The second request with the id of a running one is an error; the first gets its answer."""
    client.begin_tool("run_code", {"code": "import time; time.sleep(1); 'first'"}, id_="twice")
    client.begin_tool("run_code", {"code": "'second'"}, id_="twice")
    client.wait_until(lambda: len(client._answers.get('"twice"', ())) == 2, 60)
    errors = [a for a in client.answers("twice") if "error" in a]
    results = [a for a in client.answers("twice") if "result" in a]
    assert len(errors) == 1 and errors[0]["error"]["code"] == INVALID_REQUEST
    assert "first" in json.dumps(results[0])


def test_unknown_method(client):
    """Methods that are not offered are -32601."""
    for method in ("no/such", "resources/subscribe", "prompts/list", "", "tools/call/x"):
        answer = client.wait(client.begin(method), 10)
        assert answer["error"]["code"] == NOT_FOUND, method


def test_unknown_notifications_are_ignored(client):
    """A notification never gets an answer, however wrong it is."""
    seen = len(client.messages)
    client.notify("notifications/no_such", {"x": 1})
    client.notify("ping")
    client.notify("notifications/cancelled", {"requestId": "never was"})
    client.notify("notifications/cancelled", {"requestId": {"no": "id"}})
    client.notify("notifications/cancelled")
    client.notify("notifications/progress", {"progressToken": 1, "progress": 1})
    still_answers(client)
    assert len(client.messages) == seen + 1


def test_answers_to_nothing_are_ignored(client):
    """A response that nobody waits for is no request."""
    seen = len(client.messages)
    client.send({"jsonrpc": "2.0", "id": 99, "result": {}})
    client.send({"jsonrpc": "2.0", "id": "roots-1", "error": {"code": -1, "message": "no"}})
    still_answers(client)
    assert len(client.messages) == seen + 1


@pytest.mark.parametrize("name", ["run_cod", "RUN_CODE", "", "no_such_tool", "run_code\x00"])
def test_unknown_tool(client, name):
    """An unknown tool is invalid params, and the message helps."""
    answer = client.wait(client.begin("tools/call", {"name": name, "arguments": {}}), 10)
    assert answer["error"]["code"] == INVALID_PARAMS
    assert "run_code" in answer["error"]["message"]


@pytest.mark.parametrize("params", [{}, {"name": 7}, {"name": None}, {"name": "run_code",
                                                                     "arguments": []},
                                    {"name": "run_code", "arguments": "x"}])
def test_malformed_tools_call(client, params):
    """A tools/call that is none is invalid params."""
    answer = client.wait(client.begin("tools/call", params), 10)
    assert answer["error"]["code"] == INVALID_PARAMS


BAD_ARGUMENTS = {
    "code missing": ({}, "code"),
    "code a number": ({"code": 1}, "code"),
    "code a list": ({"code": ["print(1)"]}, "code"),
    "code null": ({"code": None}, "code"),
    "time-out a string": ({"code": "1", "timeout_seconds": "5"}, "timeout_seconds"),
    "time-out negative": ({"code": "1", "timeout_seconds": -1}, "timeout_seconds"),
    "time-out zero": ({"code": "1", "timeout_seconds": 0}, "timeout_seconds"),
    "time-out too long": ({"code": "1", "timeout_seconds": 1e9}, "timeout_seconds"),
    "time-out a boolean": ({"code": "1", "timeout_seconds": True}, "timeout_seconds"),
    "unknown argument": ({"code": "1", "timeout": 5}, "timeout_seconds"),
    "language": ({"code": "1", "language": ["python"]}, "language"),
    "env a list": ({"code": "1", "env": ["A=1"]}, "env"),
    "env value a number": ({"code": "1", "env": {"A": 1}}, "env"),
    "env name": ({"code": "1", "env": {"A=B": "1"}}, "env"),
    "stdin an object": ({"code": "1", "stdin": {}}, "stdin"),
    "session a number": ({"code": "1", "session": 1}, "session"),
    "unknown session": ({"code": "1", "session": "s-aaaaaaaa"}, "s-aaaaaaaa"),
    "unknown environment": ({"code": "1", "environment": "nowhere"}, "nowhere"),
    "ephemeral a string": ({"code": "1", "ephemeral": "yes"}, "ephemeral"),
}


@pytest.mark.parametrize("arguments, named", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_argument_values_are_tool_errors(client, arguments, named):
    """SEP-1303: the model can read what is wrong, and nothing was run."""
    result = client.tool("run_code", arguments, 10)
    assert result.is_error
    assert named in result.text(), result
    assert result.cause in (None, "refused")  # the schema's refusals are no runs, policy's are
    assert result.structured is None


def test_nulls_for_optional_arguments_are_left_out(client):
    """Strict-schema hosts send null for all that they do not use."""
    result = client.tool("run_code", {"code": "1 + 1", "language": None, "session": None,
                                      "environment": None, "ephemeral": None, "stdin": None,
                                      "timeout_seconds": None, "env": None})
    assert result.text("result") == "2" and not result.is_error


def test_nul_and_odd_characters_in_code(client):
    """A NUL escape reaches Python, which refuses it; the rest of Unicode arrives as it is."""
    result = client.run("x = 'a\0b'")
    assert result.is_error and result.cause == "error"
    assert client.run("print('é☃𝄞\u2028')").text("stdout") == "é☃𝄞\u2028\n"
    assert client.run(r"print('a\0b')").text("stdout") == "a\0b\n"


def test_a_lone_surrogate_escape(client):
    r"""\ud800 is no character: an error, not a crash."""
    answer = client.exchange(b'{"jsonrpc":"2.0","id":901,"method":"tools/call","params":{"name":'
                             b'"run_code","arguments":{"code":"print(\'\\ud800\')"}}}\n', 60)
    assert "error" in answer or answer["result"]["isError"]
    still_answers(client)


def test_code_of_several_megabytes(client):
    """Big code is legal."""
    result = client.run("x = '" + "a" * 5_000_000 + "'\nlen(x)")
    assert result.text("result") == "5000000"


def test_many_requests_at_once(client):
    """Thousands of small requests in one write are all answered."""
    client.send_raw(b"".join(b'{"jsonrpc":"2.0","id":"many-%d","method":"ping"}\n' % n
                             for n in range(5000)))
    for n in range(5000):
        assert client.result(f"many-{n}") == {}
