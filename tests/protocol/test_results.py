"""What run_code answers: design section 3, "Result of run_code" and "Decided in detail"."""

import base64
import re

import pytest
from jsonschema import Draft202012Validator

from protocol.result_schemas import ORDER, OUTCOME, RESULT

RUNS = {
    "value": ("1 + 1", "ok"),
    "output": ("print('a'); import sys; print('b', file=sys.stderr); 3", "ok"),
    "nothing": ("x = 1", "ok"),
    "empty": ("", "ok"),
    "error": ("print('before')\n1 / 0", "error"),
    "syntax error": ("def (:", "error"),
    "exit": ("import sys; sys.exit(3)", "exit"),
    "exit with 0": ("import sys; sys.exit(0)", "ok"),
    "os._exit": ("import os; os._exit(0)", "exit"),
    "crash": ("import os; os.kill(os.getpid(), 11)", "killed"),
    "display": ("class A:\n def _repr_html_(self): return '<b>a</b>'\nA()", "ok"),
}


def check_result(result):
    """Every rule that holds for every result."""
    Draft202012Validator(RESULT).validate(result.raw)
    parts = [b["_meta"]["cellblock/part"] for b in result.content]
    assert [ORDER.index(p) for p in parts] == sorted(ORDER.index(p) for p in parts), parts
    assert result.is_error == (result.cause != "ok")
    assert result.outcome["success"] == (result.cause == "ok")
    assert result.outcome["session"] == result.session
    assert "\x1b" not in result.text("error")
    assert all(b.get("text", "x") != "" for b in result.content)


@pytest.mark.parametrize("code, cause", RUNS.values(), ids=RUNS.keys())
def test_shape(client, code, cause):
    """The shape of plain results, by a schema of our own."""
    result = client.run(code)
    check_result(result)
    assert result.cause == cause, result
    assert result.structured is None


@pytest.mark.parametrize("code, cause", RUNS.values(), ids=RUNS.keys())
def test_structured_shape(start, code, cause):
    """With --structured: valid for the listed outputSchema, complete, also for failures."""
    client = start("--structured")
    schema = next(t for t in client.request("tools/list")["tools"]
                  if t["name"] == "run_code")["outputSchema"]
    result = client.run(code)
    check_result(result)
    data = result.structured
    Draft202012Validator(schema).validate(data)
    assert data["cause"] == cause
    for key in OUTCOME["required"]:
        assert data[key] == result.outcome[key], key
    for key in ("stdout", "stderr", "result", "rich_outputs", "error", "artifacts"):
        assert key in data, key
    assert data["stdout"] == result.text("stdout")
    assert data["artifacts"] == []
    assert not result.images()


def test_parts(client):
    """Each output is in its own part."""
    result = client.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n'value'")
    assert result.text("stdout") == "out\n"
    assert result.text("stderr") == "err\n"
    assert result.text("result") == "'value'"
    assert not result.parts("error") and not result.parts("note")


def test_order_of_arrival(client):
    """content is ordered by part, seq by arrival."""
    result = client.run("import sys\nprint('e', file=sys.stderr, flush=True)\n"
                        "import time; time.sleep(.2)\nprint('o', flush=True)\ntime.sleep(.2)\n9")
    seq = {b["_meta"]["cellblock/part"]: b["_meta"]["cellblock/seq"] for b in result.content}
    assert seq["stderr"] < seq["stdout"] < seq["result"]


def test_semicolon_and_none(client):
    """The value is shown unless it is None or the line ends in `;`."""
    assert client.run("None").content == []
    assert client.run("5;").content == []
    assert client.run("5").text() == "5"


def test_state_and_count(client):
    """Stateful: names stay, runs are counted, ids differ."""
    first, second = client.run("x = 1"), client.run("x")
    assert second.text("result") == "1"
    assert second.outcome["execution_count"] > first.outcome["execution_count"]
    assert second.outcome["run"] != first.outcome["run"] and second.session == first.session


def test_error(client):
    """A traceback of the user's own lines, without colours."""
    result = client.run("def f():\n    return 1 / 0\n\nf()")
    assert result.outcome["error"] == {"etype": "ZeroDivisionError", "evalue": "division by zero"}
    text = result.text("error")
    assert "ZeroDivisionError" in text and "line 2" in text.replace("in <cell line: 2>", "line 2")
    assert "cellblock_worker" not in text and "/IPython/" not in text


def test_exit_codes(client):
    """sys.exit and os._exit."""
    assert client.run("import sys; sys.exit(7)").outcome["exit_code"] == 7
    assert client.run("raise SystemExit").outcome["exit_code"] == 0
    assert client.run("import os; os._exit(9)").outcome["exit_code"] == 9


def test_signal_is_named(client):
    """A crash says which signal and that the variables are gone; the next run works."""
    result = client.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert result.outcome["signal"] == "SIGSEGV" and "SIGSEGV" in result.text("note")
    assert client.run("2").text("result") == "2"


def test_a_crash_keeps_what_was_printed(client):
    """Nothing printed before a crash is lost, and the answer comes at once."""
    result = client.run("print('last words', flush=True)\nimport os\nos.kill(os.getpid(), 9)",
                        timeout=10)
    assert result.text("stdout") == "last words\n" and result.outcome["signal"] == "SIGKILL"


def test_timeout(client):
    """The limit is told with its number; output and variables are kept."""
    result = client.run("x = 42\nprint('start', flush=True)\nwhile True: pass", timeout_seconds=1)
    assert result.cause == "timeout" and result.outcome["error"]["etype"] == "TimeoutError"
    assert result.text("stdout") == "start\n" and "1 s" in result.text("note")
    assert 900 < result.outcome["duration_ms"] < 3000
    assert client.run("x").text("result") == "42"


def test_timeout_of_one_that_swallows_interrupts(client):
    """Interrupt, then kill; the note says that the variables are gone."""
    result = client.run("import time\nwhile True:\n    try:\n        while True: time.sleep(1)\n"
                        "    except BaseException: pass", timeout_seconds=0.5)
    assert result.cause == "timeout" and result.outcome["duration_ms"] < 6000
    assert "gone" in result.text("note")
    assert client.run("2").text("result") == "2"


def test_shell(client):
    """language shell shares the files, and has exit codes."""
    client.run("open('made', 'w').write('by python')")
    assert client.run("cat made", language="shell").text("stdout") == "by python"
    result = client.run("echo out; echo err >&2; exit 5", language="shell")
    assert result.cause == "exit" and result.outcome["exit_code"] == 5
    assert result.text("stdout") == "out\n" and result.text("stderr") == "err\n"
    late = client.run("sleep 30", language="shell", timeout_seconds=1)
    assert late.cause == "timeout" and late.outcome["exit_code"] == 124


def test_unsupported_language(client):
    """Another language is `unsupported` and the text says which there are."""
    result = client.run("1", language="cobol")
    assert result.is_error and "python" in result.text() and "shell" in result.text()
    assert result.cause in (None, "unsupported")


def test_stdin_and_env(client):
    """Both are for this run only; without stdin input() ends at once."""
    assert client.run("input() + input()", stdin="a\nb\n").text("result") == "'ab'"
    assert client.run("input()", timeout=10).outcome["error"]["etype"] == "EOFError"
    assert client.run("import os; os.environ['A']", env={"A": "é"}).text("result") == "'é'"
    assert client.run("import os; os.environ.get('A')").content == []


def test_big_output_is_cut_in_the_middle(client):
    """10 MB: head and tail, how much is left out, where the full output is, and it is there."""
    result = client.run("for n in range(1_000_000): print(f'{n:9}')", timeout_seconds=60)
    text = result.text("stdout")
    assert result.outcome["truncated"] is True and len(text.encode()) < 45_000
    assert text.startswith("        0\n") and text.endswith("   999999\n")
    path = re.search(r"/workspace/\.cellblock/r-\w+\.stdout", result.text("note"))
    assert path and result.outcome["run"] in path[0]
    assert client.run(f"len(open('{path[0]}').read())").text("result") == "10000000"


def test_the_cut_is_valid_text(client):
    """Cut on a line and character boundary."""
    result = client.run("print('é☃𝄞' * 100_000)")
    assert result.outcome["truncated"] and "\ufffd" not in result.text("stdout")


def test_bytes_that_are_no_text(client):
    """Bad UTF-8 becomes U+FFFD, NUL stays."""
    result = client.run("import os; os.write(1, b'a\\xff\\x00b\\n');")
    assert result.text("stdout") == "a\ufffd\0b\n"


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 64).decode()


def test_images(client, start):
    """Images are image blocks; with --structured they are in rich_outputs only."""
    code = ("import base64\nclass P:\n def _repr_png_(self):\n  return base64.b64decode("
            f"'{PNG}')\n def __repr__(self): return 'P!'\nP()")
    result = client.run(code)
    assert [(i["mimeType"], i["data"]) for i in result.images()] == [("image/png", PNG)]
    assert result.text("result") == "P!"
    structured = start("--structured").run(code)
    assert not structured.images()
    (rich,) = structured.structured["rich_outputs"]
    assert rich["output_type"] == "execute_result" and rich["data"]["image/png"].strip() == PNG


def test_forged_image(client):
    """What is no PNG is not sent as one."""
    result = client.run("class P:\n def _repr_png_(self): return b'<script>'\n"
                        " def __repr__(self): return 'P!'\nP()")
    assert not result.images() and "P!" in result.text()


def test_figures_without_a_show(client):
    """A matplotlib figure, without a line of set-up, as one PNG."""
    result = client.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", timeout_seconds=50)
    assert result.cause == "ok", result
    (image,) = result.images()
    assert image["mimeType"] == "image/png"
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG")


def test_ephemeral_runs(client):
    """A fresh cell: nothing comes in and nothing stays."""
    client.run("x = 1")
    assert client.run("x", ephemeral=True).outcome["error"]["etype"] == "NameError"
    client.run("x = 2", ephemeral=True)
    assert client.run("x").text("result") == "1"


def test_mode_ephemeral(start):
    """--mode ephemeral makes every run fresh."""
    client = start("--mode", "ephemeral")
    assert client.run("x = 1; x").text("result") == "1"
    assert client.run("x").cause == "error"


def test_runs_of_one_session_are_queued_in_order(client):
    """Sent at once, they run one after the other."""
    client.run("log = []")
    ids = [client.begin_tool("run_code", {"code": f"log.append({n}); log"}) for n in range(20)]
    results = [client.tool_result(i) for i in ids]
    assert results[-1].text("result") == str(list(range(20)))


def test_sessions_do_not_wait_for_each_other(modern):
    """A long run in one session holds up nobody."""
    one, two = modern.run("1").session, modern.run("2").session
    long = modern.begin_tool("run_code", {"code": "import time; time.sleep(30)", "session": one})
    assert modern.run("3", session=two, timeout=5).text("result") == "3"
    modern.cancel(long)
    assert modern.run("4", session=one, timeout=10).text("result") == "4"
    assert not modern.answers(long)


def test_reset(client):
    """Variables and files are gone, the id stays."""
    before = client.run("x = 1; open('f', 'w').write('x');")
    result = client.tool("reset_session", {})
    assert not result.is_error and result.session == before.session
    after = client.run("import os; ('x' in globals(), os.path.exists('f'))")
    assert after.text("result") == "(False, False)" and after.session == before.session


def test_reset_during_a_run(client):
    """That run is answered as cancelled."""
    client.run("1")
    id_ = client.begin_tool("run_code", {"code": "import time; time.sleep(60)"})
    assert not client.tool("reset_session", {}, timeout=20).is_error
    assert client.tool_result(id_, 10).cause == "cancelled"


def test_reset_of_an_unknown_session(client):
    """Says which id was given."""
    result = client.tool("reset_session", {"session": "s-aaaaaaaa"})
    assert result.is_error and "s-aaaaaaaa" in result.text()
