"""SIGINT: during a run it interrupts, at no other time does it do anything."""

import os
import signal
import time

import pytest

LOOPS = {
    "busy": "while True: pass",
    "sleep": "import time\ntime.sleep(60)",
    "await": "import asyncio\nawait asyncio.sleep(60)",
    "asyncio.run": "import asyncio\nasyncio.run(asyncio.sleep(60))",
    "command": "!sleep 60",
    "subprocess": "import subprocess\nsubprocess.run(['sleep', '60'])",
    "print": "while True: print('x' * 100)",
    "display": "while True: display(1)",
}


def start(worker, code):
    """Starts code and waits until it runs."""
    worker.start("print('started')\n" + code)
    worker.finish(until=lambda result: result.events)
    time.sleep(0.1)


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_interrupt(worker, kind):
    worker.run("kept = 1")
    start(worker, LOOPS[kind])
    begun = time.monotonic()
    worker.interrupt()
    result = worker.finish()
    assert time.monotonic() - begun < 2
    assert (result.status, result.error["etype"]) == ("interrupted", "KeyboardInterrupt")
    assert result.traceback.rstrip().endswith("KeyboardInterrupt")
    assert "cellblock" not in result.traceback
    assert worker.run("kept").text == "1"
    assert worker.run("import asyncio\nawait asyncio.sleep(0, 5)").text == "5"


def test_interrupt_runs_cleanup_of_coroutines(worker):
    start(worker, "import asyncio\ntry:\n    await asyncio.sleep(60)\nfinally:\n    print('clean')")
    worker.interrupt()
    result = worker.finish()
    assert result.status == "interrupted"
    assert "clean\n" in result.out


def test_interrupt_of_a_shell_run(worker):
    worker.start("echo started; sleep 60; echo after", "shell")
    worker.finish(until=lambda result: result.events)
    time.sleep(0.05)
    worker.interrupt()
    result = worker.finish()
    assert result.status == "interrupted"
    assert "after" not in result.out


def test_interrupt_of_a_shell_that_does_not_listen(worker):
    worker.start("trap '' INT TERM; echo started; while :; do sleep 0.05; done", "shell")
    worker.finish(until=lambda result: result.events)
    worker.interrupt()
    begun = time.monotonic()
    assert worker.finish().status == "interrupted"
    assert time.monotonic() - begun < 1


def test_interrupt_between_runs(worker):
    for _ in range(20):
        worker.interrupt()
        assert worker.run("1 + 1").status in ("ok", "interrupted")
    worker.interrupt()
    time.sleep(0.05)
    assert worker.run("1 + 1").text == "2"


def test_interrupts_at_any_moment(fresh):
    """Whatever the moment, frames stay whole and each run is answered once."""
    ends = set()
    for number in range(150):
        fresh.start("for i in range(60): display(i)" if number % 2 else "x = 1")
        time.sleep(number % 15 / 3000)
        fresh.interrupt()
        ends.add(fresh.finish().status)
    assert ends <= {"ok", "interrupted"} and "interrupted" in ends
    time.sleep(0.05)
    assert fresh.run("'alive'").text == "'alive'"


AT_THE_END = """import os, signal, sys
def at(frame, event, _):
    if event == "call" and frame.f_code.co_name == "leave":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)
sys.setprofile(at)
"""


def test_interrupt_at_the_very_end_of_a_run(fresh):
    """It arrives as the run is left, before the worker has turned deaf to it."""
    fresh.run(AT_THE_END)
    fresh.interrupt()  # nothing is going: nothing happens
    time.sleep(0.05)
    assert fresh.run("'alive'").text == "'alive'"


def test_code_that_swallows_the_interrupt(worker):
    start(worker, "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt: pass\n'on'")
    worker.interrupt()
    result = worker.finish()
    assert (result.status, result.text) == ("ok", "'on'")


def test_figures_and_text_survive_an_interrupt(system):
    start(system, "import matplotlib.pyplot as plt, time\nplt.plot([1])\n"
          "print('half', end='')\nimport os\nos.write(2, b'there')\ntime.sleep(60)")
    system.finish(until=lambda result: "there" in result.err)
    system.interrupt()
    result = system.finish()
    assert result.status == "interrupted"
    assert result.out.endswith("half")
    assert len(result.displays) == 1


def test_handlers_of_the_user_last_for_their_run(worker):
    worker.run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    start(worker, LOOPS["sleep"])
    worker.interrupt()
    assert worker.finish().status == "interrupted"
    text = worker.run("signal.getsignal(signal.SIGINT) is signal.default_int_handler").text
    assert text == "True"


def test_alarm_between_runs_does_not_kill(worker):
    worker.run("import signal\ndef ring(*_): raise RuntimeError('ring')\n"
               "signal.signal(signal.SIGALRM, ring); signal.setitimer(signal.ITIMER_REAL, 0.05);")
    time.sleep(0.15)
    assert worker.run("pass").status in ("ok", "error")
    worker.run("signal.signal(signal.SIGALRM, signal.SIG_DFL);")
    assert worker.run("1").text == "1"


def test_signals_of_children_are_usual(worker):
    code = "import subprocess\nsubprocess.run(['sh', '-c', 'kill -INT $$; sleep 1']).returncode"
    assert worker.run(code).text == str(-signal.SIGINT)
    assert worker.sh("grep SigBlk /proc/self/status").out.split()[1].strip("0") == ""


def test_os_exit_ends_the_worker(fresh):
    fresh.start("import os; os._exit(7)")
    with pytest.raises(Exception, match="ended"):
        fresh.finish()
    assert fresh.process.wait(5) == 7
    assert os.path.exists(fresh.cwd)
