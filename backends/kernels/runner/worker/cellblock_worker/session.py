"""The life of a worker: prepare once, then serve runs until the socket ends."""

import _socket
import builtins
import gc
import os
import resource
import sys
import time

from cellblock_worker import (
    changes,
    commands,
    errors,
    figures,
    frames,
    interrupts,
    packages,
    running,
    seeds,
)
from cellblock_worker.display import Publisher
from cellblock_worker.plain import PlainShell
from cellblock_worker.streams import Stdio, find_c_stdout, keep_high, write_err

_getpid = os.getpid
_exit = os._exit
_cpu = time.process_time
_rusage = resource.getrusage
_SELF = resource.RUSAGE_SELF
_CHILDREN = resource.RUSAGE_CHILDREN
_environ = os.environ
_builtins = vars(builtins)
_len = len
_shell = None
_forked_warm = False
_known_builtins = {}
_greeting = b""


def _make_shell(late):
    """IPython's shell if it can be had, else the plain one."""
    publisher = Publisher()
    if late:
        from cellblock_worker.late import LateShell, find_version

        version = find_version()
        if version is not None:
            return LateShell(publisher, version)
    try:
        import IPython  # noqa: F401
    except ImportError:
        return PlainShell(publisher)
    from cellblock_worker.ipy import make_shell

    return make_shell(publisher)


_NEEDED = (  # by runs that do something with it, when they do; no fork of ours waits for them
    "ast inspect json linecache platform signal socket subprocess traceback "
    "cellblock_worker.magics cellblock_worker.inflow"
).split()


def prepare(plain=False, warm=True, late=False):
    """Imports and builds all that a worker needs, once, before it is forked.

    `plain` leaves IPython out though it is there; `warm=False` skips what only pays when many
    workers are forked from this process; `late` leaves IPython to the worker (late.py).
    """
    global _shell, _greeting, _forked_warm
    if _shell is not None:
        return
    figures.choose_backend()
    if not late:
        for name in _NEEDED:
            __import__(name)
    _shell = PlainShell(Publisher()) if plain else _make_shell(late)
    _shell.start()
    find_c_stdout()
    if warm:
        import asyncio  # noqa: F401

        _warm_up(_shell)
        _forked_warm = True
    _known_builtins.update(_builtins)
    _greeting = _greeting_of(_shell)
    gc.collect()
    if hasattr(gc, "freeze"):  # not in PyPy
        gc.freeze()


def interpreter():
    """What a greeting says of the interpreter, in the words of the module platform."""
    name = sys.implementation.name
    return {
        "python": sys.version.split()[0],
        "implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(name, name),
    }


def _greeting_of(shell):
    """What the first frame says, made before the fork since it takes a while."""
    return frames.encode({"cellblock": 1, **interpreter(), "ipython": shell.ipython_version})


_REHEARSAL = "print(end='')\n[0]"


def _warm_up(shell):
    """One run of everything that costs something the first time, with no one looking."""
    for code in ("1+1", "x = 'y'\n[x]", "if 1:\n !", "raise KeyError(1)"):
        try:
            shell.plan(code, "<run 0>")
            shell.run(code)
            shell.finish()
        except BaseException as error:
            errors.describe(error)
    shell.reset()


class Outcome:
    """How a run ended."""

    __slots__ = ("status", "exit_code", "signal", "error")

    def __init__(self, status, exit_code=None, signal=None, error=None):
        self.status = status
        self.exit_code = exit_code
        self.signal = signal
        self.error = error


def outcome_of(exc, had_stdin):
    """The outcome that an exception means; text that goes with an exit is printed."""
    if isinstance(exc, SystemExit):
        status, code, text = errors.exit_status(exc)
        if text:
            write_err(text)
        return Outcome(status, exit_code=code)
    if not had_stdin:
        errors.explain_eof(exc)
    status = "interrupted" if isinstance(exc, KeyboardInterrupt) else "error"
    return Outcome(status, error=errors.describe(exc))


class Worker:
    """One session."""

    def __init__(self, shell, channel):
        self.shell = shell
        self.channel = channel
        self.pid = _getpid()
        self.stdio = Stdio()
        self.publisher = shell.publisher
        self.publisher.attach(channel, self.stdio)
        self.count = 0
        self._child_cpu = 0.0
        self._entered = False
        self._trouble = None
        self._inflow = None
        figures.adopt()
        figures.install(shell.present)
        self._builtin_count = _len(_known_builtins)
        shell.mend = self._mend
        shell.on_grown = self._grown
        shell.on_delay = self._delay
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self):
        """In a child made by the user's code."""
        self.channel.close_in_child()
        if self._inflow is not None:
            self._inflow.close_in_child()
            self._inflow = None

    def _grown(self, shell):
        """IPython has come: its shell takes the place of the one that did without."""
        _known_builtins.clear()
        _known_builtins.update(_builtins)
        self._builtin_count = _len(_known_builtins)
        self._trouble, self.shell = self.shell.trouble, shell
        figures.install(shell.present)

    def _delay(self, begins):
        """A run that is going, or that comes, has to wait for IPython."""
        self.channel.send(frames.DELAYED if begins else frames.BEGIN, b"")

    def greet(self):
        """The first frame."""
        self.channel.send(frames.GREETING, _greeting)

    def rehearse(self):
        """One whole run with no one at the other end.

        After a fork: the pages that a run writes to become this process's own now, while it waits
        for work, and not in the middle of its first run.
        """
        mine, theirs = _socket.socketpair()
        before = self.channel.swap(mine.fileno())
        request = {"run": "", "language": "python", "code": _REHEARSAL}
        try:
            theirs.sendall(frames.frame(frames.RUN, request) + frames.frame(frames.ACK, {}))
            self._answer(self.channel.next_request())
        finally:
            self.channel.swap(before)
            mine.close()
            theirs.close()
            self.shell.reset()
            self.publisher.new_run()

    def loop(self):
        """Serves runs until the socket ends."""
        while True:
            try:
                self._use_the_time()
                request = self.channel.next_request()
                self._answer(request)
            except frames.Closed:
                return

    def _use_the_time(self):
        """Prepares what later runs may need, when there has been nothing else to do for a while."""
        patience = self.shell.patience()
        if patience is not None and not self.channel.waits(patience):
            self.shell.grow_first()

    def _answer(self, request):
        """One run, from the request to its DONE frame."""
        before = changes.look()
        cpu = _cpu()
        self.publisher.new_run()
        if self._trouble is not None:
            self.publisher.note(self._trouble)
            self._trouble = None
        outcome = self._guarded(request)
        self._mend()
        if request.get("language") == "shell":
            self.shell.execution_count += 1
        children = _rusage(_CHILDREN)
        child_cpu = children.ru_utime + children.ru_stime
        cpu = _cpu() - cpu + child_cpu - self._child_cpu
        self._child_cpu = child_cpu
        done = {
            "run": frames.safe_text(request.get("run", "")),
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            "error": outcome.error,
            "execution_count": self.shell.execution_count,
            "cpu_ms": max(0, int(cpu * 1000 + 0.5)),
            "peak_rss_kib": max(_rusage(_SELF).ru_maxrss, children.ru_maxrss),
        }
        changed = changes.since(before)
        if changed is not None:
            done["changed"] = changed
        self.channel.send(frames.DONE, done)

    def _mend(self):
        """Builtins that were deleted come back."""
        if _len(_builtins) < self._builtin_count:
            for name, value in _known_builtins.items():
                _builtins.setdefault(name, value)

    def _guarded(self, request):
        """Runs with SIGINT meaning KeyboardInterrupt; nothing gets past here."""
        outcome = None
        had_stdin = request.get("stdin") is not None or bool(request.get("stdin_open"))
        env = request.get("env") or None
        undo = None
        try:
            try:
                self._open_streams(request)
                undo = _set_environment(env) if env else None
                interrupts.enter()
                outcome = self._run(request, had_stdin)
                self.stdio.flush()
            finally:
                interrupts.leave()
        except frames.Closed:
            raise
        except BaseException as error:
            interrupts.leave()  # a signal may have cut it off at its first step
            self._end_of_child(error)
            if outcome is None:
                outcome = outcome_of(error, had_stdin)
        if self._inflow is not None:
            self._inflow.stop()
            self._inflow = None
        self.stdio.end()
        if undo:
            _restore_environment(env, undo)
        return outcome

    def _open_streams(self, request):
        """The standard streams of a run; a command is given an open stdin of its own."""
        text, pipe = request.get("stdin"), None
        if request.get("stdin_open"):
            text = None
            if not _is_command(request):
                from cellblock_worker import inflow

                try:
                    self._inflow = inflow.Inflow(self.channel, request)
                    pipe = self._inflow.reader
                except RuntimeError as error:
                    self.publisher.note("stdin is empty: %s" % error)
        self.stdio.begin(text, pipe)

    def _run(self, request, had_stdin):
        """Runs the code of the request."""
        if request.get("folder") and not self._entered:
            try:
                running.enter(request["folder"])
            except running.NoFolder as error:
                return _no_folder(error)
            self._entered = True
        if _is_command(request):
            return _run_command(self.channel, request)
        language = request.get("language", "python")
        if language != "python":
            raise ValueError("this worker runs python and shell, not %r" % (language,))
        failure = None
        code = request.get("code", "")
        try:
            self.shell = self.shell.choose(code)
            self.shell.run(code)
        except BaseException as error:
            failure = error
        self._end_of_child(failure)
        return self._conclude(failure, had_stdin)

    def _conclude(self, failure, had_stdin):
        """The figures that are left, then the outcome."""
        try:
            self.shell.finish()
        except BaseException as error:
            failure = failure or error
        late = self.shell.late_failure()
        if failure is None:
            return Outcome("ok", exit_code=None) if late is None else Outcome("error", error=late)
        if isinstance(failure, frames.Closed):
            raise failure
        self._mend()
        return outcome_of(failure, had_stdin)

    def _end_of_child(self, failure):
        """A child that the code forked ends where the code ends."""
        if _getpid() == self.pid:
            return
        status = 0
        if isinstance(failure, SystemExit):
            _name, status, text = errors.exit_status(failure)
            if text:
                write_err(text)
        elif failure is not None:
            status = 1
            write_err(errors.traceback_text(failure))
        self.stdio.flush()
        _exit(status)


def _is_command(request):
    """Whether a run is a command: a program, or a script for the shell."""
    return request.get("argv") is not None or request.get("language") == "shell"


def _run_command(channel, request):
    """A run that is a command."""
    try:
        status = running.Running(channel, request).status()
    except running.NotStarted as error:
        write_err("%s\n" % error)
        return Outcome("exit", exit_code=error.code)
    except running.NoFolder as error:
        return _no_folder(error)
    except KeyboardInterrupt:
        return Outcome("interrupted")
    if status < 0:
        return Outcome("signal", signal=-status)
    return Outcome("exit" if status else "ok", exit_code=status)


def _no_folder(error):
    """The run has not begun."""
    return Outcome("error", error={"etype": "NoFolder", "evalue": str(error), "traceback": None})


def _set_environment(values):
    """Sets the variables of one run; returns what was there before."""
    before = {name: _environ.get(name) for name in values}
    for name, value in values.items():
        _environ[name] = str(value)
    return before


def _restore_environment(values, before):
    """Undoes it where the code has not set something else itself."""
    for name, old in before.items():
        if _environ.get(name) != str(values[name]):
            continue
        if old is None:
            del _environ[name]
        else:
            _environ[name] = old


def serve(frames_fd):
    """Runs a worker on the socket `frames_fd` until it ends."""
    prepare()
    kept = keep_high(frames_fd)
    if kept >= 0:
        os.close(frames_fd)
        frames_fd = kept
    os.set_inheritable(frames_fd, False)
    sys.argv = [""]
    commands.home = os.getcwd()
    packages.prepare_path()
    seeds.renew()
    interrupts.install()
    worker = Worker(_shell, frames.Channel(frames_fd))
    try:
        if _forked_warm:
            worker.rehearse()
        worker.greet()
        worker.loop()
    except frames.Closed:
        pass


def main(argv):
    """`python -m cellblock_worker [--plain] [--cold] [--late] FD`."""
    numbers = [word for word in argv[1:] if word.isdigit()]
    if len(numbers) != 1:
        sys.stderr.write("usage: python -m cellblock_worker [--plain] [--cold] [--late] FD\n")
        return 2
    late = "--late" in argv
    prepare(plain="--plain" in argv, warm="--cold" not in argv and not late, late=late)
    serve(int(numbers[0]))
    return 0
