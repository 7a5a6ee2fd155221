"""The stdin of code while it goes on."""

import pytest

HELLO = "name = input('who? ')\nprint('hello', name)\nprint(input())"
FORKED = """
import os, sys
ready, told = os.pipe()
child = os.fork()
if not child:
    os.close(ready)
    got = os.read(0, 1)
    os.write(told, b'x')
    os._exit(0)
os.close(told)
os.read(ready, 1)
print('told', flush=True)
print(repr(sys.stdin.read()))
os.waitpid(child, 0);
"""
LINGERS = """
import os, sys
child = os.fork()
if not child:
    import time
    time.sleep(60)
print(repr(sys.stdin.read()))
os.kill(child, 9)
os.waitpid(child, 0);
"""


def seen(text):
    """Becomes true when the code has printed it."""
    return lambda result: text in result.out


def begin(worker, code, until=None, **fields):
    """Starts code with an open stdin; what it has printed by then."""
    worker.start(code, stdin_open=True, **fields)
    return worker.finish(until=seen(until)) if until else None


def test_input_waits_for_a_line(worker):
    assert begin(worker, HELLO, "who? ").out == "who? "
    worker.write(b"w\xc3\xbc")
    worker.write(b"rm\nr")
    assert worker.finish(until=seen("\n")).out == "hello würm\n"
    worker.write(b"est", eof=True)
    result = worker.finish()
    assert (result.out, result.status) == ("rest\n", "ok")


def test_its_end_is_an_eof_error(worker):
    begin(worker, "print('a', flush=True); input()", "a")
    worker.write(b"", eof=True)
    worker.write(b"too late\n")
    result = worker.finish()
    assert result.error["etype"] == "EOFError" and "stdin was given" not in result.error["evalue"]
    assert "stdin was given" in worker.run("input()").error["evalue"]


def test_what_was_given_comes_first(worker):
    begin(worker, "print([input(), input()])", stdin="ü\n")
    worker.write(b"\xff\n")
    assert worker.finish().out == "['ü', '\\udcff']\n"


def test_what_is_not_read_is_not_for_the_next_run(worker):
    begin(worker, "print(input())")
    worker.write(b"one\ntwo\n" + b"x" * 1_000_000)
    assert worker.finish().out == "one\n"
    worker.write(b"late\n")
    assert worker.run("input()").error["etype"] == "EOFError"
    assert worker.run("print(input())", stdin="mine\n").out == "mine\n"
    begin(worker, "print(input())")
    worker.write(b"other\n", run="r-none")
    worker.write(b"new\n")
    assert worker.finish().out == "new\n"


def test_more_than_a_pipe_holds(worker):
    begin(worker, "import sys; print(len(sys.stdin.buffer.read()))", stdin="x" * 100_000)
    for _ in range(10):
        worker.write(b"y" * 300_000)
    worker.write(b"", eof=True)
    assert worker.finish().out == "3100000\n"


def test_children_read_it(worker):
    begin(worker, "import subprocess; subprocess.run(['cat']); print('end')")
    worker.write(b"for cat ")
    worker.finish(until=seen("for cat "))
    worker.write(b"rest ", eof=True)
    assert worker.finish().out == "rest end\n"


@pytest.mark.parametrize("code, text", [(FORKED, "told\n'est'\n"), (LINGERS, "'rest'\n")],
                         ids=["reads", "lingers"])
def test_a_fork(worker, code, text):
    """Its end comes though a child has all descriptors."""
    begin(worker, code)
    worker.write(b"rest", eof=True)
    assert worker.finish().out == text


def test_a_shell_script(worker):
    worker.start("read a; echo got $a; cat", "shell", stdin_open=True)
    worker.write(b"one\n")
    worker.finish(until=seen("got one\n"))
    worker.write(b"two", eof=True)
    assert worker.finish().out == "two"


def test_another_thread_reads_it(worker):
    begin(worker, "import threading\nt = threading.Thread(target=lambda: print(input()))\n"
                  "t.start()\nprint('on', flush=True)\nt.join()", "on")
    worker.write(b"line\n")
    assert worker.finish().out == "line\n"


def test_displays_wait_for_their_acknowledgement(worker):
    """Which another thread reads now."""
    begin(worker, "print('text')\nfor i in range(50):\n    display(i)\n    print('after', i)\n"
                  "print(input())")
    worker.write(b"line\n")
    order = worker.finish().order()
    assert order[:3] == [("stdout", "text\n"), ("display", "0"), ("stdout", "after 0\n")]
    assert order[-1] == ("stdout", "after 49\nline\n") and len(order) == 101


def test_an_interrupt_ends_the_waiting(worker):
    for wait in ("input()", "import sys; sys.stdin.buffer.read()"):
        begin(worker, "kept = 5; print('on', flush=True); " + wait, "on")
        worker.write(b"no line")
        worker.interrupt()
        assert worker.finish().status == "interrupted"
    assert worker.run("kept").text == "5"


def test_code_that_closes_it(worker):
    """Nor does a pipe without readers end the worker."""
    worker.run("import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
    begin(worker, "import os, time\nos.close(0)\nprint('closed', flush=True)\ntime.sleep(0.2)",
          "closed")
    worker.write(b"x" * 1_000_000, eof=True)
    assert worker.finish().status == "ok"
    worker.run("signal.signal(signal.SIGPIPE, signal.SIG_IGN)")
    begin(worker, "print(input())")
    worker.write(b"again\n")
    assert worker.finish().out == "again\n"


def test_runs_that_come_meanwhile_wait(worker):
    begin(worker, "print(input())")
    worker.start("6 * 7")
    worker.write(b"go\n", run="r-%d" % (worker.count - 1))
    worker.count -= 1
    assert worker.finish().out == "go\n"
    worker.count += 1
    assert worker.finish().text == "42"


def test_nothing_of_it_is_left(fresh):
    look = "import os; print(len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task')))"
    fresh.run(look)
    before = fresh.run(look).out
    for _ in range(5):
        begin(fresh, "1")
        fresh.write(b"x")
        assert fresh.finish().status == "ok"
    assert fresh.run(look).out == before


def test_where_no_thread_can_be_had(fresh):
    begin(fresh, "1")
    fresh.finish()
    fresh.run("import cellblock_worker.inflow as i\ndef start(*_): raise RuntimeError('no thread')"
              "\nkept, i.start_new_thread = i.start_new_thread, start")
    begin(fresh, "input()")
    result = fresh.finish()
    assert result.error["etype"] == "EOFError" and "no thread" in result.notes[0]
    fresh.run("i.start_new_thread = kept")
    begin(fresh, "print(input())")
    fresh.write(b"x\n")
    assert fresh.finish().out == "x\n"
