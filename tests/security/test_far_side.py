"""A far side that lies: what the command place gets when something else plays the python3 there.

The far side is a script that a command starts; its control is the same script in which the real
python3 gets the stream. Whatever comes, the server answers in time and clearly, stays small, and
leaves no process.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from attack import fill
from engine import at_once, far, left_of, other_user, peak_kib, wait_for
from support import processes

PEAK_KIB = 300 * 1024

PLAYER = '''
import json, os, signal, struct, sys, threading, time
def put(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
def frame(kind, payload=b"", size=None):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    put(struct.pack("<IB", len(data) if size is None else size, kind) + data)
def take(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            time.sleep(0.05)
            os._exit(0)
        data += more
    return data
def message():
    """The next frame of the server's: its type and its payload."""
    size, kind = struct.unpack("<IB", take(5))
    return kind, take(size)
def marker(version="3.11.2"):
    put(b"\\x02cellblock-stream-1 " + version.encode() + b"\\x03")
def package():
    take(*struct.unpack("<I", take(4)))
wanted_at_once = False  # a SETUP can ask for the first worker as well
def hello(**more):
    global wanted_at_once
    kind, setup = message()
    assert kind == 0x20, kind
    wanted_at_once = json.loads(setup)["start"]
    frame(0x30, {"cellblock": 1, "python": "3.11.2", "implementation": "CPython",
                 "folder": "/tmp/far-side-folder", "output": True, **more})
def until(wanted):
    global wanted_at_once
    if wanted == 0x21 and wanted_at_once:
        wanted_at_once = False
        return b""
    while True:
        kind, payload = message()
        if kind == wanted:
            return payload
def started():
    until(0x21)
    frame(0x31, {"pid": 7})
    frame(0x10, {"cellblock": 1, "python": "3.11.2", "implementation": "CPython", "ipython": None})
def up():
    marker(); package(); hello(); started()
def begun():
    """A run has come; its id."""
    run = json.loads(until(0x01))["run"]
    frame(0x32)
    return run
def done(run, **more):
    frame(0x1f, {"run": run, "status": "ok", "exit_code": None, "signal": None, "error": None,
                 "execution_count": 1, "cpu_ms": 0, "peak_rss_kib": 0, **more})
def stay():
    """Reads what comes until the stream ends."""
    while True:
        message()
'''


@contextlib.contextmanager
def player(script, *args, **environment):
    """A server whose far side is this script."""
    word = f"far-side-{os.getpid()}-{threading.get_ident()}"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(PLAYER + script)
        file.flush()
        with far("command", *args, environment={"network": "all", "command": [
                "env", sys.executable, file.name, word], **environment}) as one:
            yield one
            assert peak_kib(one.client.pid) < PEAK_KIB
        wait_for(lambda: not left_of(word), 8, "the end of the far side")


def attacked(script, limit=45, timeout_seconds=3, code="print(6 * 7)"):
    """The result of a run there, which came in time; the server goes on."""
    with player(script) as one:
        started = time.monotonic()
        result = one.client.run(code, timeout_seconds=timeout_seconds)
        assert time.monotonic() - started < limit, result
        again = one.client.request("tools/list")
        assert again["tools"]
        text = result.text()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text), repr(text)
        assert len(text) < 100_000
        return result


def test_the_script_plays_its_part():
    """The control: one that speaks as it should is believed, and answers again and again."""
    with player("up()\nwhile True:\n    run = begun()\n    frame(0x11, b'42\\n')\n"
                "    done(run)") as one:
        session = None
        for _ in range(3):
            result = one.client.run("1", **({"session": session} if session else {}))
            session = result.session
            assert result.cause == "ok" and result.text("stdout") == "42\n", result


BEFORE = {
    "closes at once": "os._exit(3)",
    "closes stdout only": "os.close(1); time.sleep(30)",
    "garbage": "put(os.urandom(30000)); os._exit(1)",
    "an endless banner": "while True: put(b'welcome to the machine\\n' * 100)",
    "an endless banner without lines": "while True: put(b'x' * 65536)",
    "control characters": "put(b'\\x1b[2J\\x07\\x1b]0;t\\x07hi\\r\\n\\0\\xff\\xfe'); os._exit(1)",
    "half a marker": "put(b'\\x02cellblock-stream-1 3.11'); time.sleep(0.2); os._exit(1)",
    "many half markers": "put(b'\\x02cellblock-stream-1 ' * 5000); os._exit(1)",
    "a version that is none": "marker('three'); os._exit(1)",
    "a version with much in it": "marker('3.11.' + '1' * 20000); os._exit(1)",
    "a version that is too large": "marker('99999999999.9'); time.sleep(1)",
    "an old version": "marker('3.5.2'); time.sleep(1)",
    "python 2": "marker('2.7.18'); time.sleep(1)",
    "a marker, then the end": "marker(); os._exit(1)",
    "a marker, then garbage": "marker(); put(os.urandom(100000)); time.sleep(1)",
    "a marker, then text": "marker(); put(b'Traceback (most recent call last)\\n'); time.sleep(1)",
    "the package taken, then the end": "marker(); package(); os._exit(1)",
    "a greeting with a relative folder": "marker(); package(); hello(folder='tmp/x'); stay()",
    "a greeting with no folder": "marker(); package(); hello(folder=None); stay()",
    "a greeting with a number for a folder": "marker(); package(); hello(folder=7); stay()",
    "a greeting with a long folder": "marker(); package(); hello(folder='/' + 'x' * 60000); stay()",
    "a greeting with dots": "marker(); package(); hello(folder='/tmp/../etc'); os._exit(1)",
    "a greeting of another version": "marker(); package(); hello(cellblock=2); stay()",
    "a greeting of a huge version": "marker(); package(); hello(cellblock=1 << 62); stay()",
    "a greeting with a list": "marker(); package(); hello(python=[]); stay()",
    "a greeting that is a list": "marker(); package(); frame(0x30, b'[1]'); stay()",
    "a greeting that is deep": "marker(); package(); frame(0x30, b'[' * 60000); stay()",
    "a greeting that is no UTF-8":
        "marker(); package(); frame(0x30, b'{\"python\":\"\\xff\"}'); stay()",
    "a greeting that is too long": "marker(); package(); frame(0x30, b'', 0xffffffff); stay()",
    "two greetings": "marker(); package(); hello(); frame(0x30, {'cellblock': 1, 'python': '3',"
                     " 'folder': '/tmp/x'}); stay()",
    "an end before a start": "marker(); package(); hello(); frame(0x33, {'how': 'code'}); stay()",
    "a worker nobody asked for": "marker(); package(); hello(); frame(0x31, {'pid': 1});"
                                 " frame(0x31, {'pid': 1}); stay()",
    "output before a worker": "marker(); package(); hello(); frame(0x11, b'x'); stay()",
    "a receipt for nothing": "marker(); package(); hello(); frame(0x34, {'id': 1, 'bytes': 1});"
                             " stay()",
    "the end of no copy": "marker(); package(); hello(); frame(0x35, {'id': 9, 'error': None});"
                          " stay()",
    "a run begun too early": "marker(); package(); hello(); frame(0x32); stay()",
    "a frame of ours": "marker(); package(); hello(); frame(0x21); stay()",
    "no such type": "marker(); package(); hello(); frame(0xee); stay()",
    "the worker fails": "marker(); package(); hello(); until(0x21); frame(0x33, {'how': 'failed',"
                        " 'text': 'making \\x1b[2J its process: no'}); stay()",
    "the worker fails for ever":
        "marker(); package(); hello()\nwhile True: until(0x21); frame(0x33, {'how': 'failed'})",
    "a worker of another version": "marker(); package(); hello(); until(0x21); frame(0x31,"
                                   " {'pid': 1}); frame(0x10, {'cellblock': 9}); stay()",
    "a flood before the worker is used":
        "marker(); package(); hello(); until(0x21); frame(0x31, {'pid': 1})\n"
        "while True: frame(0x15, {'text': 'x' * 5000})",
}


def test_starts_that_go_wrong():
    """No run is begun; the error says what came, and nothing of it as a terminal would read it."""
    at_once(BEFORE, start_goes_wrong)


def start_goes_wrong(name):
    """One of BEFORE."""
    result = attacked(BEFORE[name])
    assert result.is_error and result.cause == "lost", result
    assert len(result.text()) > 30, result


def test_endless_errors_before_a_greeting():
    """Who waits in a queue may say so for long. It is little that is kept, and a cancel ends it."""
    with player("while True: os.write(2, b'\\x1b[31mwaiting\\x07\\n' * 1000)") as one:
        token = one.client.begin_tool("run_code", {"code": "1"}, token="t")
        time.sleep(2)
        assert one.client.request("tools/list")["tools"]
        assert len(one.client.progress("t")) <= 60
        assert all("\x1b" not in p.get("message", "") for p in one.client.progress("t"))
        one.client.cancel(token)


def test_what_it_printed_is_quoted():
    """A refusal that a person would have seen is in the answer, without its control characters."""
    result = attacked("put(b'\\x1b[31mAccount locked\\x07: ask the desk\\n'); os._exit(1)")
    assert "Account locked: ask the desk" in result.text().replace("[31m", ""), result
    result = attacked("os.write(2, b'no route to host\\n'); os._exit(255)")
    assert "no route to host" in result.text() and "255" in result.text(), result


DURING = {
    "closes": "os._exit(9)",
    "closes before it has begun": "",
    "an end with a negative code": "frame(0x33, {'how': 'code', 'code': -1}); stay()",
    "an end with a huge code": "frame(0x33, {'how': 'code', 'code': 1 << 60}); stay()",
    "an end with a code past all": "frame(0x33, b'{\"how\":\"code\",\"code\":' + b'9' * 400 + b'}')"
                                   "; stay()",
    "an end with a float": "frame(0x33, {'how': 'code', 'code': 1.5}); stay()",
    "an end with no such signal": "frame(0x33, {'how': 'signal', 'signal': 4000}); stay()",
    "an end with a text for a number": "frame(0x33, {'how': 'memory', 'used': 'all'}); stay()",
    "an end of no such kind": "frame(0x33, {'how': 'bliss'}); stay()",
    "an end of no kind": "frame(0x33, {}); stay()",
    "an end with huge numbers": "frame(0x33, {'how': 'memory', 'used': (1 << 63) - 1,"
                                " 'limit': (1 << 63) - 1, 'cpu_ms': (1 << 63) - 1}); stay()",
    "an end with a text of megabytes": "frame(0x33, {'how': 'failed', 'text': 'x' * 5000000})"
                                       "; stay()",
    "an end with control characters": "frame(0x33, {'how': 'failed', 'text': '\\x1b[2J\\x07'})"
                                      "; stay()",
    "two ends": "frame(0x33, {'how': 'code', 'code': 1}); frame(0x33, {'how': 'code'}); stay()",
    "begun twice": "frame(0x32); frame(0x32); stay()",
    "another worker": "frame(0x31, {'pid': 2}); stay()",
    "done of another run": "done('r-aaaaaaaa'); stay()",
    "done with wrong types": "frame(0x1f, {'run': run, 'status': 7, 'error': 'x'}); stay()",
    "done with wrong numbers": "done(run, cpu_ms=-5, execution_count=1 << 70); stay()",
    "a huge frame": "frame(0x13, b'', 0x7fffffff); stay()",
    "a huge output": "frame(0x11, b'', 0xffffffff); stay()",
    "half a frame": "put(b'\\xff\\xff\\0\\0\\x13{'); os._exit(0)",
    "half a header": "put(b'\\xff\\xff'); os._exit(0)",
    "deep JSON": "frame(0x13, b'{\"a\":' * 500000); stay()",
    "random bytes": "put(os.urandom(1 << 20)); stay()",
    "never answers": "stay()",
    "never reads": "time.sleep(60)",
    "ignores all signals":
        "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 17, 19)]\n"
        "time.sleep(60)",
    "a count of output past all": "frame(0x38, {'stream': 'stdout', 'bytes': (1 << 63) - 1,"
                                  " 'lines': 0}); stay()",
    "counts that add up to too much": "while True: frame(0x38, {'stream': 'stdout',"
                                      " 'bytes': 1 << 49, 'lines': 0})",
    "a count of output that goes down": "frame(0x38, {'stream': 'stdout', 'bytes': 9, 'lines': 1});"
                                        " frame(0x38, {'stream': 'stdout', 'bytes': -9,"
                                        " 'lines': 0}); stay()",
    "a count of no stream": "frame(0x38, {'stream': 'stdin', 'bytes': 9, 'lines': 1}); stay()",
    "a sample of no stream": "frame(0x39, b'\\x09text'); stay()",
    "a file of fewer bytes than none": "frame(0x3a, {'stdout': -1}); stay()",
    "floods with samples": "while True: frame(0x39, b'\\0' + b'x' * 60000)",
    "floods with counts": "while True: frame(0x38, {'stream': 'stdout', 'bytes': 1, 'lines': 1})",
    "floods stdout": "while True: frame(0x11, b'x' * 60000)",
    "floods with leftovers": "while True: frame(0x12, b'x' * 60000)",
    "floods with notes": "while True: frame(0x15, {'text': 'note' * 1000})",
    "floods with displays": "while True: frame(0x13, {'kind': 'display', 'data': {'text/plain':"
                            " 'x' * 50000}, 'metadata': {}, 'display_id': None, 'sync': False})",
    "floods with empty frames": "while True: put(struct.pack('<IB', 0, 0x11) * 10000)",
    "floods its errors": "while True: os.write(2, b'x' * 60000)",
}


def test_runs_that_go_wrong():
    """Each ends in time, and never as one that went well; most do not react when they are ended."""
    at_once(DURING, run_goes_wrong)


def run_goes_wrong(name):
    """One of DURING."""
    begin = "up(); until(0x01); os._exit(9)" if not DURING[name] else "up(); run = begun()\n"
    result = attacked(begin + DURING[name], limit=60, timeout_seconds=2)
    assert result.is_error and result.cause in (
        "lost", "killed", "timeout", "exit", "out_of_memory"), result
    assert result.parts("note"), result


def test_ok_without_running():
    """A machine that says that all went well is believed for what it is: its own word. It changes
    nothing for a session on another one."""
    with player('up()\nwhile True:\n    done(begun())') as liar, far(
            "command", environment={"network": "all", "command": ["env"]}) as honest:
        one, other = liar.cell(), honest.cell()
        assert one.run("1 / 0").cause == "ok"
        assert other.run("1 / 0").cause == "error"
        other.answers()


OUTPUT = '''
up()
run = begun()
frame(0x11, b'h' * 20000)
frame(0x38, {'stream': 'stdout', 'bytes': 1 << 50, 'lines': 7})
frame(0x11, b't' * 20000)
frame(0x3a, {'stdout': KEPT})
done(run)
stay()
'''


@pytest.mark.parametrize("kept", [1 << 26, 1 << 27, 1 << 62])
def test_output_that_is_not_there(kept):
    """What was left out is the far side's word, and so is the file. The answer is as small as
    any; a file of more bytes than one may have is none; and one that is named is looked for when it
    is read."""
    with player(OUTPUT.replace("KEPT", str(kept))) as one:
        result = one.client.run("1", timeout_seconds=5)
        assert result.cause == "ok" and len(result.text()) < 45_000, result
        assert f"{(1 << 50) + 40_000:,} bytes" in result.text("note")
        assert f"{1 << 50:,} bytes, 7 lines left out" in result.text("stdout")
        assert (".cellblock" in result.text("note")) == (kept == 1 << 26)


def test_a_run_larger_than_its_ear():
    """A far side that does not read: what cannot be sent is not kept without end."""
    with player("up()\ntime.sleep(60)") as one:
        code = "x = '" + "y" * 8_000_000 + "'"
        result = one.client.run(code, timeout_seconds=2)
        assert result.cause in ("timeout", "lost", "killed"), result


COPIES = {
    "another's number": "frame(0x35, {'id': 77, 'error': None}); stay()",
    "the end before the end": "frame(0x35, {'id': number, 'error': None}); stay()",
    "more than was sent": "frame(0x34, {'id': number, 'bytes': 1 << 50}); stay()",
    "less than before": "frame(0x34, {'id': number, 'bytes': 0}); frame(0x34, {'id': number,"
                        " 'bytes': -1}); stay()",
    "a reason with control characters": "frame(0x35, {'id': number, 'error': {'kind': 'refused',"
                                        " 'text': '\\x1b[2J\\x07no' * 1000}}); stay()",
    "a reason of no kind": "frame(0x35, {'id': number, 'error': {}}); stay()",
    "a reason of no known kind": "frame(0x35, {'id': number, 'error': {'kind': 'x' * 50000}})"
                                 "; stay()",
    "a reason that is a list": "frame(0x35, {'id': number, 'error': [1]}); stay()",
    "an id that is a text": "frame(0x35, {'id': '1', 'error': None}); stay()",
    "closes": "os._exit(4)",
}


def test_copies_that_go_wrong():
    """The share's error is told; nothing waits for ever."""
    at_once(COPIES, copy_goes_wrong)


def copy_goes_wrong(name):
    """One of COPIES."""
    script = "up()\nrun = begun(); done(run)\nnumber = json.loads(until(0x24))['id']\n"
    with player(script + COPIES[name]) as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"  # the control: it can be used until then
        source = one.shares / "big"
        source.write_bytes(bytes(3 << 20))
        started = time.monotonic()
        result = cell.share(source, "/workspace/big")
        assert result.is_error and time.monotonic() - started < 30, result
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.text()), result
        assert one.client.request("tools/list")["tools"]


def test_a_copy_that_nobody_reads():
    """A share of 40 MiB to a far side that has stopped reading is not kept in memory."""
    with player("up()\ndone(begun())\ntime.sleep(60)") as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"
        source = one.shares / "big"
        with source.open("wb") as file:
            file.truncate(40 << 20)
        token = one.client.begin_tool("add_share", {
            "type": "copy", "source": str(source), "dest": "/workspace/big",
            "session": cell.session})
        time.sleep(2)
        assert peak_kib(one.client.pid) < 60 * 1024
        one.client.cancel(token)
        assert one.client.tool("reset_session", {"session": cell.session}).is_error is False


LIES = {
    "more than was asked": "bytes_(entry(size=1001) + b'x' * 1001); end()",
    "an answer without end": "while True: bytes_(b'x' * 60000)",
    "an answer that is too long": "frame(0x36, b'', 0x7fffffff); stay()",
    "no entry": "end()",
    "half an entry": "bytes_(b'\\0\\0\\0'); end()",
    "a type that is none": "bytes_(entry(kind=9)); end()",
    "a folder that is read": "bytes_(entry(kind=1)); end()",
    "a mode that is none": "bytes_(entry(mode=0xffff)); end()",
    "a size past all": "bytes_(entry(size=(1 << 64) - 1)); end()",
    "a name that nobody asked for": "bytes_(entry(name=b'x')); end()",
    "a name longer than all that came": "bytes_(entry(name=b'x', length=60000)); end()",
    "a target of a file": "bytes_(entry(target=b'x')); end()",
    "bytes for another request": "bytes_(entry(), number + 1); end()",
    "bytes without a number": "frame(0x36, b'x'); end()",
    "another's end": "bytes_(entry()); end(id=number + 1)",
    "the end of a copy": "frame(0x35, {'id': number, 'error': None}); stay()",
    "an end that is a text": "bytes_(entry()); end(id=str(number))",
    "an end that is negative": "bytes_(entry()); end(id=-number)",
    "an end without an error": "bytes_(entry()); frame(0x37, {'id': number, 'more': 0}); stay()",
    "an error of no kind": "end(error={})",
    "an error that is a list": "end(error=[1])",
    "an error with megabytes": "end(error={'kind': 'refused', 'text': 'x' * 5_000_000})",
    "more of a file": "bytes_(entry()); end(more=True)",
    "bytes taken that nobody sent": "frame(0x34, {'id': number, 'bytes': 1}); stay()",
    "the end of the stream": "bytes_(entry()); os._exit(1)",
    "an error with control characters":
        "end(error={'kind': 'refused', 'text': '\\x1b[2J\\x07\\u202eno\\n'})",
    "an error of an unknown kind": "end(error={'kind': 'x' * 5000, 'text': ''})",
}
ANSWER = """up()
run = begun(); done(run)
number = json.loads(until(0x27))['id']
def entry(kind=0, mode=0o644, size=0, name=b'', target=b'', length=None):
    length = len(name) if length is None else length
    return struct.pack('<BHQqHH', kind, mode, size, 0, length, len(target)) + name + target
def bytes_(data, id=None):
    frame(0x36, struct.pack('<I', number if id is None else id) + data)
def end(**more):
    frame(0x37, {'id': number, 'more': False, 'error': None, **more}); stay()
"""


def test_answers_about_files_that_lie():
    """Each is an error and no content; the server is up, and a file is not larger than asked."""
    at_once(LIES, file_goes_wrong)


def file_goes_wrong(name):
    """One of LIES."""
    with player(ANSWER + LIES[name], "--toolsets", "files") as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"  # the control: it can be used until then
        started = time.monotonic()
        result = one.client.tool("read_file", {
            "path": "f", "length": 1000, "session": cell.session})
        assert result.is_error and time.monotonic() - started < 30, (name, result)
        assert len(result.text()) > 10 and len(result.text()) < 2000, (name, result)
        assert not re.search("[\x00-\x1f\x7f\u202e]", result.text()), (name, result)
        assert one.client.request("tools/list")["tools"]


LISTS = {
    "a name that leads out": "bytes_(entry(name=b'../../etc/passwd'))",
    "an absolute name": "bytes_(entry(name=b'/etc/passwd'))",
    "an empty name": "bytes_(entry())",
    "a name with a NUL": "bytes_(entry(name=b'a\\0b'))",
    "a name of a folder below": "bytes_(entry(name=b'a/b'))",
    "a name twice": "bytes_(entry(name=b'a') * 2)",
    "names out of order": "bytes_(entry(name=b'b') + entry(name=b'a'))",
    "entries without end":
        "\nfor n in range(1 << 30): bytes_(b''.join(entry(name=b'%08d' % (n * 1000 + k)) for k in"
        " range(1000)))",
}


def test_lists_that_lie():
    """None of it gets into the result."""
    at_once(LISTS, list_goes_wrong)


def list_goes_wrong(name):
    """One of LISTS."""
    with player(ANSWER + LISTS[name] + "\nend()", "--toolsets", "files") as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"
        result = one.client.tool("list_files", {"path": ".", "session": cell.session})
        assert result.is_error and len(result.text()) < 2000, (name, result)
        assert one.client.request("tools/list")["tools"]


def test_the_file_that_is_played():
    """The control: one that answers as it should is believed, names that are odd are shown."""
    script = ANSWER + ("bytes_(entry(size=5) + b'hello')\n"
                       "frame(0x37, {'id': number, 'more': False, 'error': None})\n"
                       "number = json.loads(until(0x27))['id']\n"
                       "bytes_(entry(name=b'a\\n\\xff') + entry(2, name=b'b', target=b'../c'))\n"
                       "end()")
    with player(script, "--toolsets", "files") as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"
        result = one.client.tool("read_file", {"path": "f", "session": cell.session})
        assert not result.is_error and "hello" in result.text(), result
        result = one.client.tool("list_files", {"path": ".", "session": cell.session})
        assert not result.is_error and "a\\n\\xff" in result.text(), result


def test_files_that_nobody_answers():
    """A request has its own limit; the session can be had anew while it waits."""
    with player("up()\ndone(begun())\nwhile True: message()", "--toolsets", "files") as one:
        cell = one.cell()
        assert cell.run("1").cause == "ok"
        waiting = [one.client.begin_tool("stat_file", {"path": "f", "session": cell.session})
                   for _ in range(70)]
        time.sleep(0.5)
        assert one.client.request("tools/list")["tools"]
        one.client.tool("reset_session", {"session": cell.session})
        texts = [one.client.tool_result(token) for token in waiting]
        assert all(result.is_error for result in texts)
        assert sum("64" in result.text() for result in texts) == 6, texts[0]


# ---- the real far side, attacked by the code in it ----


@pytest.fixture(scope="module")
def near():
    """A command that is a process of another user (as root), or of this one."""
    with far("command", environment={"network": "all", "command": other_user(),
                                     "python": "/usr/bin/python3", "env": {"MARK": "x"}}) as one:
        yield one


@pytest.fixture
def there(near):
    """A session of the test's own."""
    one = near.cell()
    yield one
    one.reset()


SUPERVISOR = {
    "SIGKILL": "os.kill(os.getppid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getppid(), signal.SIGTERM)",
    "SIGSTOP": "os.kill(os.getppid(), signal.SIGSTOP)",
}


@pytest.mark.parametrize("name", SUPERVISOR)
def test_killing_the_supervisor(there, near, name):
    """The code's own session is lost, which is said; the next is a new one; no folder stays."""
    neighbour = near.cell()
    neighbour.open()
    made = there.run("import os\nprint(os.path.dirname(os.getcwd()))")
    folder = made.text("stdout").strip()
    assert os.path.basename(folder).startswith("cellblock-far-"), made
    result = there.run(fill(SUPERVISOR[name] + "\ntime.sleep(20)", {}), timeout_seconds=2)
    assert result.cause in ("lost", "timeout", "killed") and result.text("note"), result
    neighbour.answers()
    there.answers()

    def swept():
        """The next start looks for what nobody owns any more."""
        one = near.cell()
        one.answers()
        one.reset()
        return not os.path.exists(folder)

    wait_for(swept, 15, "the removal of its folder")
    neighbour.reset()


REACH = '''
def reach():
    """What of the supervisor's can be opened: its descriptors, memory, and its tracing."""
    found, pid = [], os.getppid()
    for name in (f"/proc/{pid}/mem", f"/proc/{pid}/environ", *(f"/proc/{pid}/fd/{n}"
                                                              for n in range(1024))):
        try:
            os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
            found.append(name)
        except OSError:
            continue
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, None, None) == 0:
        found.append("ptrace")
    return found
attempt(reach, bool)
'''


def test_the_supervisor_cannot_be_looked_into(there):
    """Of the same user and yet shut; the control is any other parent."""
    result = there.run(fill(REACH, {}))
    assert "HELD" in result.text("stdout"), result
    control = subprocess.run([*other_user(), "/usr/bin/python3", "-c",
                              "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', "
                              f"{fill(REACH, {})!r}], capture_output=True, text=True).stdout)"],
                             capture_output=True, text=True, timeout=30, check=False)
    assert "ESCAPED" in control.stdout, f"vacuous: {control}"


def test_daemons_end(there):
    """What the code has left running ends with its session."""
    word = f"daemon-{os.getpid()}-far"
    result = there.run(fill('''
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/usr/bin/env", ["env", "sh", "-c", "while :; do sleep 1; done", @word@])
        os._exit(0)
time.sleep(0.3)
''', {"word": word}))
    assert result.cause == "ok" and left_of(word), result
    there.reset()
    wait_for(lambda: not left_of(word), 8, "the daemons' end")


LINKS = '''
import os
os.makedirs("@folder@elsewhere", exist_ok=True)
os.symlink("@folder@elsewhere", "folder")
os.symlink("@folder@elsewhere/target", "link")
os.symlink("/nowhere", "dangling")
os.mkfifo("fifo")
'''


def test_a_link_in_the_way_of_a_copy(there, near, tmp_path):
    """A copy goes where it was told to or nowhere; never through a link that the code has made."""
    source = near.shares / "gift"
    source.write_text("a gift", encoding="utf-8")
    assert there.run(LINKS.replace("@folder@", "../tmp/")).cause == "ok"
    for dest in ("/workspace/folder/gift", "/workspace/folder/deep/gift", "/workspace/link",
                 "/workspace/link/gift", "/workspace/dangling", "/workspace/dangling/gift",
                 "/workspace/fifo", "/workspace/fifo/gift"):
        assert there.share(source, dest).is_error, dest
    seen = there.run("import os\nprint(os.listdir('../tmp/elsewhere'))")
    assert seen.text("stdout") == "[]\n", seen
    assert not there.share(source, "/workspace/plain/gift").is_error  # the control
    assert there.run("print(open('plain/gift').read())").text("stdout") == "a gift\n"


def test_swapping_the_way_of_a_copy(there, near):
    """While a copy is on its way the code swaps the folder it goes to for a link: nothing lands
    at the link's end."""
    source = near.shares / "many"
    source.mkdir(exist_ok=True)
    for number in range(300):
        (source / str(number)).write_bytes(bytes(2000))
    there.run("import os\nos.makedirs('../tmp/elsewhere')\nos.mkdir('way')")
    token = there.begin('''
import os, time
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        os.rename("way", "held")
        os.symlink(os.path.realpath("../tmp/elsewhere"), "way")
        os.unlink("way")
        os.rename("held", "way")
    except OSError: pass
print(os.listdir("../tmp/elsewhere"))
''', timeout_seconds=10)
    time.sleep(0.2)
    for number in range(10):
        there.share(source, f"/workspace/way/{number}")  # it may go well or not
    result = there.client.tool_result(token)
    assert result.text("stdout") == "[]\n", result


def test_the_servers_variables(near, there):
    """A secret of the server's environment does reach what it starts here: a command is the user's
    own, with the user's environment. It must not be in what is sent to it."""
    result = there.run("import sys\nprint(any('marker-of-the-' + 'server' in str(m) "
                       "for m in sys.argv))")
    assert result.text("stdout") == "False\n", result
    assert processes.pss_kib(near.client.pid) < PEAK_KIB
    assert json.dumps(there.run("1").raw).count("marker-of-the-server") == 0
