"""The worker's shell, on the namespace and the IPython of a kernel."""

import sys
import types

from cellblock_worker import ipy as worker_ipy

_BORROWED = (
    "_note_format",
    "_record",
    "ask_exit",
    "showindentationerror",
    "showsyntaxerror",
    "showtraceback",
    "simple_is_simple",
    "system_raw",
)


class _Quiet:
    """What ipykernel expects of its own classes and ours have no use for."""

    def set_parent(self, parent):
        """Who asked is known to the channel."""

    set_thread_parent = set_parent

    def reset_thread_parent(self, token):
        """Nothing was set."""


class _DisplayPublisher(_Quiet, worker_ipy._Publisher):
    """display() and clear_output() by way of our publisher."""


class _DisplayHook(_Quiet, worker_ipy._DisplayHook):
    """Values of code that goes through IPython's own run_cell."""


class Shell(worker_ipy.IPythonShell):
    """The worker's shell on the namespace and the IPython of the kernel."""

    def __init__(self, publisher, kernel):
        super().__init__(publisher)
        self.kernel = kernel

    def start(self):
        """Takes the kernel's shell as it is."""
        self.ip = ip = self.kernel.shell
        self.module, self.namespace = ip.user_module, ip.user_ns
        self._inputs = (ip.history_manager.input_hist_parsed, ip.history_manager.input_hist_raw)
        self._magics = ip.magics_manager.magics["line"]
        self._callbacks = ip.events.callbacks
        self._usual_transformers = self._transformers()
        self._usual_runner = ip.loop_runner
        self._formatter = None
        self._hook = _DisplayHook(parent=ip, shell=ip, cache_size=ip.cache_size)
        self._publisher = _DisplayPublisher(parent=ip, shell=ip)
        self._before = None
        self._magics_before = {}
        self.fresh = dict(self.namespace)

    def enter(self):
        """Our ways of showing, of exits and of errors take the place of the kernel's."""
        if self._before is not None:
            return
        ip = self.ip
        self._before = {
            "attributes": {n: vars(ip).get(n, self) for n in _BORROWED + ("enable_matplotlib",)},
            "system": (vars(ip).get("system", self), vars(ip).get("system_piped", self)),
            "names": {n: self.namespace.get(n, self) for n in ("exit", "quit")},
            "hook": (ip.displayhook, ip.display_trap.hook, sys.displayhook),
            "publisher": ip.display_pub,
            "formatter": ip.display_formatter,
        }
        ip.outlet, ip.failure, ip.format_failed = self.publisher, None, False
        for name in _BORROWED:
            setattr(ip, name, types.MethodType(getattr(worker_ipy.Shell, name), ip))
        ip.system = ip.system_piped = ip.system_raw
        ip.enable_matplotlib = self._enable_matplotlib
        leave = worker_ipy._Exit(ip)
        self.namespace.update(exit=leave, quit=leave)
        ip.displayhook = ip.display_trap.hook = self._hook
        ip.display_pub = self._publisher
        self._take_formatter()
        ip.builtin_trap.__enter__()

    def _take_formatter(self):
        """The kernel's formatter with everything that was registered, and figures as we show
        them."""
        ip = self.ip
        if self._formatter is None:
            ip._printers = None
            self._formatter = worker_ipy._Formatter(parent=ip)
            ip.display_formatter = self._formatter
            worker_ipy.register_figures(self._formatter)
            ip.configurables.append(worker_ipy.InlineBackend(parent=ip))
        ip.display_formatter = self._formatter

    def _enable_matplotlib(self, gui=None):
        """Figures are shown in any case."""
        if gui in (None, "inline", "auto", "agg"):
            return "inline", "agg"
        return type(self.ip).enable_matplotlib(self.ip, gui)

    def leave(self):
        """Everything is as the kernel had it."""
        before, self._before = self._before, None
        if before is None:
            return
        ip = self.ip
        ip.builtin_trap.__exit__(None, None, None)
        for name, value in before["attributes"].items():
            _put_back(ip, name, value, self)
        _put_back(ip, "system", before["system"][0], self)
        _put_back(ip, "system_piped", before["system"][1], self)
        for name, value in before["names"].items():
            if value is self:
                self.namespace.pop(name, None)
            else:
                self.namespace[name] = value
        ip.displayhook, ip.display_trap.hook, sys.displayhook = before["hook"]
        ip.display_pub = before["publisher"]
        ip.display_formatter = before["formatter"]


def _put_back(obj, name, value, absent):
    """Gives an instance its attribute back, or takes ours away."""
    if value is absent:
        vars(obj).pop(name, None)
    else:
        setattr(obj, name, value)
