"""What is put into a Python kernel, so that a run there is what it is with the runner.

Sent as one silent request when a session starts (see ../bundle.py), together with the worker's
package, of which it uses the shell, the streams, tracebacks, commands and figures. It leaves no
name with the user: all of it lives in modules of sys.modules. Two ways lead in afterwards:

- execute requests whose code begins with MARK are taken before the kernel sees them; what follows
  is one JSON object, in a comment. A kernel that was replaced meanwhile runs nothing then, and its
  reply lacks the member `cellblock`: nothing is ever run by a kernel that has no helper.
- messages of type `cellblock_request` on the control channel, which has a thread of its own: so
  interrupts and copies work while code is running.

Standard library and what every IPython kernel has.
"""

import asyncio
import collections
import inspect
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

from cellblock_jupyter_files import Files, Puts, end_before, end_processes
from cellblock_jupyter_pump import Kept, Mailbox, Pump, find_senders, wait_for_senders
from cellblock_jupyter_shell import Shell
from cellblock_worker import (
    commands,
    coroutines,
    figures,
    frames,
    interrupts,
    packages,
    session,
    streams,
)
from cellblock_worker import ipy as worker_ipy
from cellblock_worker.display import Publisher
from cellblock_worker.streams import find_c_stdout, keep_high

MARK = "# cellblock "
MARKER = "CELLBLOCK_SESSION"
VERSION = "@VERSION@"
INTERRUPT_PATIENCE = 0.9
FLUSH_PAUSE = 0.05
SEEN = 64  # requests whose ids are remembered
_KINDS = {"result": "execute_result", "display": "display_data", "update": "update_display_data"}


class Channel(Mailbox):
    """Where the worker sends its frames: they become messages of the kernel."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel
        self.parent = {}
        self.run = None
        self.done = None
        self.notes = []
        self.displays = 0
        self.closed = False
        self.kept = Kept()
        self._order = threading.RLock()  # a handler of signals may display something, too
        self.pump = Pump(self._stream)

    def begin(self, parent, run):
        """A run begins: what was printed up to now belongs to what was before."""
        self.pump.settle()
        with self._order:
            self.parent, self.run = parent, run
            self.kept.forget()
        self.done = None
        self.notes = []
        self.displays = 0
        self.pump.sent = [0, 0]

    def close_in_child(self):
        """After a fork made by the user's code."""
        self.closed = True

    def send(self, kind, payload, wait=False):
        """One frame of the worker."""
        if self.closed:
            return
        if kind == frames.DONE:
            self.pump.settle(last=True)
            self.done = payload
        elif kind == frames.NOTE:
            self.notes.append(payload["text"])
        else:
            found = json.loads(payload)
            with interrupts.shielded():
                if wait:
                    self.pump.settle()
                self.displays += 1
                self._display(kind, found, len(payload))

    def _display(self, kind, found, size):
        """A display, or the order to clear."""
        if kind == frames.CLEAR:
            self.publish("clear_output", {"wait": found["wait"]}, size)
            return
        content = {"data": found["data"], "metadata": found["metadata"], "transient": {}}
        if found["display_id"] is not None:
            content["transient"]["display_id"] = found["display_id"]
        if found["kind"] == "result":
            content["execution_count"] = self.kernel.shell.execution_count
        self.publish(_KINDS[found["kind"]], content, size)

    def _stream(self, name, text):
        """Text that was printed."""
        self.publish("stream", {"name": name, "text": text}, len(text))

    def publish(self, kind, content, size):
        """Sends to everybody who listens."""
        topic = ("kernel.%s.%s" % (self.kernel.ident, kind)).encode()
        with self._order:
            self.kept.add(kind, content, size)
            self.kernel.session.send(
                self.kernel.iopub_socket, kind, content, parent=self.parent, ident=topic
            )

    def kept_since(self, run, number):
        """What this run has put out, from a number on."""
        with self._order:
            return self.kept.since(number) if run == self.run else []


_usual_writer = streams._writer


class _Output(io.TextIOWrapper):
    """sys.stdout or sys.stderr."""

    helper = None

    def flush(self):
        """Out of this process, if somebody asks for it outright."""
        if self.closed and not interrupts.running_here():
            return  # the kernel's own threads flush it too, and would stumble
        super().flush()
        if self.helper is not None:
            self.helper.flushed()


class Helper:
    """One of our sessions in this kernel."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.current = None
        self.last = None
        self.folder = None
        self.own = True
        self.tag = None
        self.puts = self.files = None
        self.begun = -1
        self.seen = collections.deque(maxlen=SEEN)
        self._next_flush = 0.0
        self._left = 0  # pieces of output that are known to have left this process
        self._senders = None  # ZeroMQ's threads; found when they are first waited for
        self.channel = self.worker = self.shell = None
        self._original = kernel.do_execute
        self._kept_streams = None

    # ---- coming and going ----

    def install(self):
        """Takes requests that are ours before the kernel does."""
        kernel, original = self.kernel, self._original
        if inspect.iscoroutinefunction(original):

            async def do_execute(code, silent, *args, **options):
                """Ours, or the kernel's own."""
                if code.startswith(MARK):
                    return self.answer(code)
                return await original(code, silent, *args, **options)

        else:

            def do_execute(code, silent, *args, **options):
                """Ours, or the kernel's own."""
                if code.startswith(MARK):
                    return self.answer(code)
                return original(code, silent, *args, **options)

        kernel.do_execute = do_execute
        kernel.control_handlers["cellblock_request"] = self.on_control

    def uninstall(self):
        """Leaves the kernel as it was."""
        if self.shell is not None:
            self.shell.leave()
        vars(self.kernel).pop("do_execute", None)
        if not inspect.iscoroutinefunction(self._original) or self._original is not getattr(
            self.kernel, "do_execute", None
        ):
            self.kernel.do_execute = self._original
        self.kernel.control_handlers.pop("cellblock_request", None)
        for name in list(sys.modules):
            if name.startswith(("cellblock_worker", "cellblock_jupyter")):
                del sys.modules[name]

    def hello(self, request):
        """The session's folder and environment; what this kernel is."""
        if request.get("attach"):
            return self._found_again()
        self.tag = request.get("tag")
        self.own = bool(request.get("own", True))
        end_before(request.get("before"))
        self._make_folder(request)
        begun = self._open_marker(request)
        self.puts = Puts(self.folder or "")
        self.files = Files(self.workspace if self.own else os.getcwd(), self.folder)
        if self.own:
            self._settle_in(request)
        commands.home = self.workspace if self.own else os.getcwd()
        if self.worker is None:
            self._make_worker()
        return self._greeting(begun)

    def _found_again(self):
        """A session that was left goes on as it is: the tag says that it is the right one."""
        if self.tag is None or self.worker is None:
            raise LookupError("no session was left in this kernel")
        begun = os.pread(self.begun, 64, 0).decode("ascii", "replace").strip()
        return dict(self._greeting(begun), tag=self.tag)

    def _greeting(self, begun):
        """What this kernel is."""
        greeting = json.loads(session._greeting_of(self.shell))
        greeting.update(
            folder=self.folder,
            pid=os.getpid(),
            begun=begun,
            threads=getattr(self.kernel, "control_thread", None) is not None,
            execution_count=self.kernel.shell.execution_count - 1,
        )
        return greeting

    def _make_folder(self, request):
        """The folder of before, or a new one; none where a workspace is given."""
        if request.get("workspace"):
            self.folder = None
            self.workspace = request["workspace"]
            return
        folder = request.get("folder")
        if not folder:
            folder = tempfile.mkdtemp(prefix="cellblock-")
        for name in ("workspace", "tmp"):
            os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
        self.folder = folder
        self.workspace = os.path.join(folder, "workspace")

    def _open_marker(self, request):
        """The file that says which run has begun last: when a kernel dies, the next one tells."""
        name = ".begun-%s" % request.get("session", "")
        own = os.environ.get("JUPYTER_RUNTIME_DIR", "")
        folder = self.folder or (own if os.path.isdir(own) else tempfile.gettempdir())
        path = os.path.join(folder, name)
        if self.begun >= 0:
            os.close(self.begun)
        self.marker = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self.begun = keep_high(fd)
        os.close(fd)
        return os.pread(self.begun, 64, 0).decode("ascii", "replace").strip()

    def _settle_in(self, request):
        """Home, temporary files, packages and working directory are the session's own."""
        end_processes(request.get("session", ""), MARKER)
        figures.choose_backend()
        environ = os.environ
        environ[MARKER] = request.get("session", "")
        environ["HOME"] = self.workspace
        if self.folder:
            environ["TMPDIR"] = os.path.join(self.folder, "tmp")
            environ["PIP_TARGET"] = os.path.join(self.workspace, ".local/cellblock-packages")
        for name, value in (request.get("env") or {}).items():
            environ[name] = str(value)
        time.tzset()
        tempfile.tempdir = None
        os.makedirs(self.workspace, exist_ok=True)
        os.chdir(self.workspace)
        if "PIP_TARGET" in environ:
            packages.prepare_path()
        if hasattr(self.kernel, "_execute_sleep"):
            self.kernel._execute_sleep = 0

    def _make_worker(self):
        """The worker's parts, put together for this kernel."""
        kept = self._keep_streams()
        find_c_stdout()
        streams._writer = self._writer
        self.channel = Channel(self.kernel)
        self.channel.pump.start()
        self.shell = Shell(Publisher(), self.kernel)
        self.shell.start()
        if self.own:
            self.shell.enter()
            worker_ipy._add_magics(self.shell.ip)
        session._known_builtins.update(vars(session.builtins))
        if self.own:
            self.watch_ends()
        self.worker = session.Worker(self.shell, self.channel)
        if not self.own:
            self._kept_streams = kept
            self._give_streams_back()

    # ---- streams ----

    def _writer(self, fd, name):
        """As the worker's, and an outright flush() sees to it that the text leaves the process."""
        usual = _usual_writer(fd, name)
        stream = _Output(usual.detach(), "utf-8", "backslashreplace", "\n", line_buffering=True)
        stream.helper = self
        return stream

    def flushed(self):
        """Somebody flushed, perhaps since a crash is next. Now and then only: it takes 1 ms."""
        now = time.monotonic()
        if self.current is None or now < self._next_flush or not interrupts.running_here():
            return
        with interrupts.shielded():
            self.channel.pump.settle()
            if self.channel.pump.pieces != self._left:  # also what its thread has just taken
                self._left = self.channel.pump.pieces
                self._leave_process(0.001)
                self._next_flush = time.monotonic() + FLUSH_PAUSE

    def _leave_process(self, patience):
        """What was published goes out: first our side's thread, then ZeroMQ's."""
        thread = getattr(self.kernel.iopub_socket, "io_thread", None)
        if thread is not None:
            sent = threading.Event()
            thread.schedule(sent.set)
            sent.wait(1)
        if self._senders is None:
            self._senders = find_senders()
        if self._senders:
            wait_for_senders(self._senders)
        else:
            time.sleep(patience)

    def _keep_streams(self):
        names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
        kept = {"objects": {name: getattr(sys, name) for name in names}, "fds": {}}
        if not self.own:
            for fd in (0, 1, 2):
                try:
                    kept["fds"][fd] = os.dup(fd)
                except OSError:
                    continue
        return kept

    def _give_streams_back(self):
        """The kernel's own streams, until the next run of ours."""
        for fd, copy in self._kept_streams["fds"].items():
            os.dup2(copy, fd)
        for name, value in self._kept_streams["objects"].items():
            setattr(sys, name, value)

    # ---- requests on the shell channel ----

    def answer(self, code):
        """The reply to one request of ours; it never fails itself."""
        reply = {"status": "ok", "user_expressions": {}, "payload": []}
        try:
            request = json.loads(code[len(MARK) :])
            found = self.hello(request) if request["op"] == "hello" else self.run(request)
            reply["cellblock"] = json.loads(frames.encode(found))
        except BaseException as error:
            reply["cellblock"] = {"failed": "%s: %s" % (type(error).__name__, error)}
        reply["execution_count"] = self.kernel.shell.execution_count - 1
        return reply

    def run(self, request):
        """One run of the user's code, from beginning to end; once, however often it is sent."""
        parent = self._parent()
        if parent.get("msg_id") in self.seen:
            return self._remembered(parent["msg_id"])
        self.seen.append(parent.get("msg_id"))
        run = request.get("run")
        ip = self.kernel.shell
        self.channel.begin(parent, run)
        self.shell.execution_count = ip.execution_count - 1
        if not self.own:
            self.shell.enter()
        outer = _leave_loop()
        try:
            os.pwrite(self.begun, run.ljust(64).encode("ascii"), 0)
        except OSError:
            pass  # the code has closed it: then its next end counts as one within a run
        self.current, self.last = run, None
        try:
            self.worker._answer(request)
        finally:
            self.current = None
            self._mend_streams()
            _back_to_loop(outer)
            if self.worker.pid == os.getpid():
                ip.execution_count = self.shell.execution_count + 1
            if not self.own:
                self.shell.leave()
                self._give_streams_back()
        done = dict(self.channel.done)
        done.update(
            sent=self.channel.pump.sent, displays=self.channel.displays, notes=self.channel.notes
        )
        self.last = done
        return done

    def _mend_streams(self):
        """Before the reply: the kernel flushes sys.stdout then, and sends none if that fails."""
        if self.worker.pid == os.getpid():
            self.worker.stdio.begin(None)

    def _remembered(self, message):
        """The answer to a run that was sent again, since the connection was cut."""
        if self.last is None or self.seen[-1] != message:
            raise LookupError("this run was here before, and its answer is lost")
        return self.last

    def last_words(self):
        """What was printed gets out before this process ends; for ends that are asked for."""
        if self.worker is None or self.worker.pid != os.getpid():
            return
        self.worker.stdio.flush()
        self.channel.pump.settle(last=True)
        self._leave_process(0.05)

    def watch_ends(self):
        """os._exit, os.abort, and signals to this process."""
        helper, pid = self, os.getpid()

        def wrapped(real):
            def end(*args):
                helper.last_words()
                return real(*args)

            end.__name__ = end.__qualname__ = real.__name__
            end.__module__ = "posix"
            return end

        def audit(event, args):
            if event == "os.kill" and args[0] == pid and args[1] in _FATAL and _is_default(args[1]):
                helper.last_words()

        session._exit = os._exit
        os._exit, os.abort = wrapped(os._exit), wrapped(os.abort)
        sys.addaudithook(audit)

    def _parent(self):
        """The request that is being answered, as the parent of what it puts out."""
        get = getattr(self.kernel, "get_parent", None)
        found = get() if get is not None else self.kernel._parent_header
        return found.get("header", found)

    # ---- requests on the control channel ----

    def on_control(self, stream, ident, parent):
        """A message of type cellblock_request."""
        content = parent.get("content") or {}
        name = content.get("op", "")
        try:
            op = getattr(self, "op_" + name, None)
            if op is None:
                raise ValueError("no such op: %s" % name)
            reply = op(content, parent.get("buffers") or ()) or {}
        except Exception as error:
            reply = {"error": str(error) or type(error).__name__, "errno": _errno(error)}
        self.kernel.session.send(stream, "cellblock_reply", reply, parent, ident=ident)

    def op_ping(self, _content, _buffers):
        """Is it there?"""

    def op_interrupt(self, content, _buffers):
        """Ctrl-C for a run: when it has begun, and never for another one."""
        run = content.get("run")
        end = time.monotonic() + INTERRUPT_PATIENCE
        while time.monotonic() < end:
            if self.current == run and interrupts._inside:
                _interrupt_group()
                return {"done": True}
            last = self.last
            if last is not None and last.get("run") == run:
                break
            time.sleep(0.002)
        return {"done": False}

    def op_signal(self, content, _buffers):
        """A signal to the process group of a run that is a command."""
        run = str(content.get("run"))
        data = frames.encode({"run": run, "signal": content.get("signal")})
        return self._for_command(run, frames.SIGNAL, data)

    def op_write(self, content, buffers):
        """More stdin of such a run, or its end."""
        run = str(content.get("run"))
        head = bytes((bool(content.get("eof")), len(run))) + run.encode("ascii")
        return self._for_command(run, frames.STDIN, head + b"".join(map(bytes, buffers)))

    def _for_command(self, run, kind, data):
        """Hands a frame on, unless its run is over."""
        last = self.last
        if last is not None and last.get("run") == run:
            return {"done": False}
        self.channel.arrives(kind, data)
        return {"done": True}

    def op_kept(self, content, _buffers):
        """What the newest run has put out, from a number on: the connection was cut."""
        run = content.get("run")
        return {"run": run, "messages": self.channel.kept_since(run, content.get("from"))}

    def op_die(self, _content, _buffers):
        """Ends this process and all that it started, at once."""
        end_processes(os.environ.get(MARKER, ""), MARKER)
        os.kill(os.getpid(), signal.SIGKILL)

    def op_put(self, content, buffers):
        """A piece of a copy: see Puts."""
        return self.puts.step(content, buffers)

    def op_file(self, content, buffers):
        """A step of a request about files: see Files."""
        return self.files.step(content, buffers)

    def op_bye(self, _content, _buffers):
        """The session ends: its processes and its folder go."""
        if self.own:
            end_processes(os.environ.get(MARKER, ""), MARKER)
        try:
            os.unlink(self.marker)
        except OSError:
            pass
        if self.folder:
            os.chdir("/")
            shutil.rmtree(self.folder, ignore_errors=True)
            if os.path.isdir(self.folder):
                _open_up(self.folder)
                shutil.rmtree(self.folder, ignore_errors=True)
        if not self.own:
            self.uninstall()


_FATAL = frozenset(
    getattr(signal, "SIG" + name)
    for name in "ABRT ALRM BUS FPE HUP ILL KILL PIPE QUIT SEGV SYS TERM TRAP USR1 USR2".split()
)


def _is_default(number):
    return signal.getsignal(number) in (signal.SIG_DFL, None)


def _errno(error):
    return error.errno if isinstance(error, OSError) else None


def _open_up(folder):
    """The code may have taken our own right to look into its folders away."""
    for base, names, _files in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def _interrupt_group():
    """SIGINT to this process, and to its children where the group is its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGINT)


def _leave_loop():
    """Puts the kernel's running loop aside: code that calls asyncio.run must not see it."""
    events = asyncio.events
    loop = events._get_running_loop()
    if loop is None:
        return None, None
    task = coroutines._leave_task(loop)
    events._set_running_loop(None)
    asyncio.set_event_loop(coroutines._session_loop())
    return loop, task


def _back_to_loop(outer):
    """Takes it up again."""
    loop, task = outer
    if loop is not None:
        asyncio.events._set_running_loop(loop)
        coroutines._enter_task(loop, task)
        asyncio.set_event_loop(loop)


def start():
    """Called by the setup request, in the kernel."""
    from IPython import get_ipython

    ip = get_ipython()
    kernel = getattr(ip, "kernel", None)
    wanted = ("do_execute", "control_handlers", "session", "iopub_socket", "shell")
    missing = [name for name in wanted if not hasattr(kernel, name)]
    if missing:
        raise RuntimeError("this kernel is no IPython kernel as ipykernel makes them")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("this kernel runs code outside of its main thread")
    interrupts.install()
    helper = Helper(kernel)
    helper.install()
    return helper

