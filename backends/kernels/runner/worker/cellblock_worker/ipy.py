"""The shell for interpreters that have IPython: its magics, formatters and hooks, our frames.

IPython's run_cell is only used by what calls it itself (%%time, %%capture, %run …). Runs go
through our own few steps, which cost a fifth and leave every exception in our hands.
"""

import os
import re
import shlex
import sys

import IPython
from IPython.core import interactiveshell
from IPython.core.autocall import IPyAutocall
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from IPython.core.profiledir import ProfileDir
from traitlets import Bool, Dict, Set, Type, Unicode, default, observe
from traitlets.config import Config
from traitlets.config.configurable import Configurable

from cellblock_worker import bundles, commands, coroutines, errors, figures
from cellblock_worker.compiling import COROUTINE
from cellblock_worker.plain import IPYTHON_DIR, PlainShell, keep_input
from cellblock_worker.streams import write_err

FIGURE = ("matplotlib.figure", "Figure")
_HEAD = re.compile(r"\s*(\w+)")
_REPR = re.compile(r"_repr_\w*_\Z|_ipython_display_\Z|__repr__\Z")
_CATCHERS = ("catch_format_error", "wrapper")  # as IPython 8 and 9 name it
_SIMPLE = frozenset((int, str, bool, float, complex, bytes, list, dict, tuple, set))
_BY_REPR = frozenset((int, str, bool))


def _is_format_catcher(code):
    """Whether this is where IPython catches what a representation raises."""
    return code.co_name in _CATCHERS and code.co_filename.endswith("formatters.py")


class _Store(dict):
    """Stands in for IPython's database of values on disk."""

    def __init__(self, _root=None):
        super().__init__()

    def keys(self, pattern=None):
        """The keys, those that match a pattern."""
        if pattern is None:
            return list(super().keys())
        import fnmatch

        return fnmatch.filter(super().keys(), pattern)

    def hset(self, folder, key, value):
        """As the real one."""
        self[folder + "/" + key] = value

    def hget(self, folder, key, fallback=None):
        """As the real one."""
        return self.get(folder + "/" + key, fallback)


class _NoProfile(ProfileDir):
    """A profile folder that is never made nor read."""

    @observe("location")
    def _location_changed(self, change):
        """Makes nothing."""


class _Publisher(DisplayPublisher):
    """display() and clear_output() of IPython, as our frames."""

    def publish(self, data, metadata=None, *args, transient=None, update=False, **kwargs):
        """One bundle."""
        del args, kwargs
        kind = "update" if update else "display"
        display_id = (transient or {}).get("display_id")
        self.shell.outlet.publish(kind, data, metadata, display_id)

    def clear_output(self, wait=False):
        """No escape bytes."""
        self.shell.outlet.clear(wait)


class _DisplayHook(DisplayHook):
    """Values of code that goes through IPython's own run_cell."""

    def start_displayhook(self):
        """Nothing is printed around a value."""

    def write_output_prompt(self):
        """No prompt."""

    def finish_displayhook(self):
        """No newline."""

    def log_output(self, format_dict):
        """No log."""

    def cull_cache(self):
        """Forgets the oldest fifth of Out, without a warning about it."""
        names = self.shell.user_ns
        kept = names.get("_oh", {})
        for number in sorted(kept)[: max(len(kept) // 5, 2)]:
            names.pop("_%d" % number, None)
            kept.pop(number, None)

    def write_format_data(self, format_dict, md_dict=None):
        """One result frame."""
        self.shell.outlet.publish("result", format_dict, md_dict)


class _Formatter(DisplayFormatter):
    """Never without text/plain."""

    def format(self, obj, include=None, exclude=None):
        """The bundle of an object."""
        kind = type(obj)
        if kind in _SIMPLE and not include and not exclude:
            if self.parent.simple_is_simple(kind):
                if kind in _BY_REPR:
                    return {"text/plain": repr(obj)}, {}
                text = self.formatters["text/plain"](obj)
                if text is not None:
                    return {"text/plain": text}, {}
        self.parent.format_failed = False
        data, metadata = super().format(obj, include=include, exclude=exclude)
        wanted = data or self.parent.format_failed
        if wanted and "text/plain" not in data and not include and not exclude:
            data["text/plain"] = object.__repr__(obj)
        return data, metadata


class InlineBackend(Configurable):
    """What `%config InlineBackend.…` sets, by the names that it has in notebooks."""

    figure_formats = Set({"png"}).tag(config=True)
    figure_format = Unicode("png").tag(config=True)
    print_figure_kwargs = Dict({"bbox_inches": "tight"}).tag(config=True)
    close_figures = Bool(True).tag(config=True)
    rc = Dict({}).tag(config=True)

    @observe("figure_format")
    def _one(self, change):
        self.figure_formats = {change["new"]}

    @observe("figure_formats", "print_figure_kwargs", "close_figures")
    def _changed(self, _change):
        figures.options.formats = tuple(sorted(self.figure_formats))
        figures.options.print_arguments = dict(self.print_figure_kwargs)
        figures.options.close = self.close_figures
        register_figures(self.parent.display_formatter)

    @observe("rc")
    def _rc_changed(self, change):
        import matplotlib

        matplotlib.rcParams.update(change["new"])


def register_figures(formatter):
    """Has figures printed in the formats that are asked for."""
    wanted = {figures.MIME[name]: name for name in figures.options.formats if name in figures.MIME}
    for mime in sorted(set(figures.MIME.values())):
        of_mime = formatter.formatters[mime]
        of_mime.pop(".".join(FIGURE), None)
        if mime in wanted:
            of_mime.for_type_by_name(*FIGURE, func=figures.printer(wanted[mime]))


class _Exit(IPyAutocall):
    """exit and quit: end the run, not the session."""

    rewrite = False

    def __call__(self, code=None):
        raise SystemExit(code)


class Shell(InteractiveShell):
    """IPython's shell, quiet."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_DisplayHook)
    outlet = None
    failure = None
    format_failed = False
    _printers = None

    @observe("ipython_dir")
    def _ipython_dir_changed(self, change):
        """Nothing is made on disk."""

    @default("banner1")
    def _no_banner(self):
        return ""

    def init_profile_dir(self, profile_dir):
        """No profile."""
        self.profile_dir = _NoProfile(location=os.path.join(IPYTHON_DIR, "profile_default"))

    def init_virtualenv(self):
        """sys.path is as the interpreter made it."""

    def init_display_formatter(self):
        """Ours, which figures are known to."""
        self.display_formatter = _Formatter(parent=self)
        self.configurables.append(self.display_formatter)
        register_figures(self.display_formatter)
        self.configurables.append(InlineBackend(parent=self))

    def simple_is_simple(self, kind):
        """Whether nobody has registered a way of their own to print this type."""
        if self._printers is None:
            formatter = self.display_formatter
            known = formatter.formatters
            plain = known["text/plain"].type_printers
            printers = [known[m].type_printers for m in known if m != "text/plain"]
            printers.append(formatter.mimebundle_formatter.type_printers)
            printers.append(formatter.ipython_display_formatter.type_printers)
            self._plain = plain
            self._usual = {known_kind: plain.get(known_kind) for known_kind in _SIMPLE}
            self._printers = printers  # last: an interrupt may come at any moment
        if self._plain.get(kind) is not self._usual[kind]:
            return False
        for table in self._printers:
            if table and (kind in table or object in table):
                return False
        return True

    def ask_exit(self):
        """exit() of libraries that use it."""
        raise SystemExit(0)

    def enable_matplotlib(self, gui=None):
        """Figures are shown in any case; other window systems are as IPython has them."""
        if gui in (None, "inline", "auto", "agg"):
            return "inline", "agg"
        return super().enable_matplotlib(gui)

    def system_raw(self, cmd):
        """!command, with our own fds and without a terminal."""
        status = commands.system(self.var_expand(cmd, depth=1))
        self.user_ns["_exit_code"] = status

    system = system_piped = system_raw

    def showtraceback(self, exc_tuple=None, *args, **kwargs):
        """An exception that IPython caught: of a formatter, or of code that it ran itself."""
        del args, kwargs
        exc_type, value, tb = exc_tuple or sys.exc_info()
        if exc_type is None or value is None:
            return
        if tb is not None and _is_format_catcher(tb.tb_frame.f_code):
            self._note_format(value, tb)
        elif isinstance(value, UsageError):
            write_err("UsageError: %s\n" % value)
        else:
            self._record(value, tb)

    def showsyntaxerror(self, *args, **kwargs):
        """A syntax error in code that IPython compiles itself."""
        self.showtraceback()

    def showindentationerror(self):
        """Likewise."""
        self.showtraceback()

    def _record(self, value, tb):
        """The run fails by this, if by nothing else; an earlier one is printed."""
        if isinstance(value, (KeyboardInterrupt, SystemExit)):
            raise value
        if self.failure is not None:
            write_err(self.failure["traceback"])
        self.failure = errors.describe(value, tb)

    def _note_format(self, value, tb):
        """A representation raised: the display goes on without it."""
        self.format_failed = True
        local = tb.tb_frame.f_locals
        name = getattr(local.get("self"), "print_method", "a display formatter")
        obj = (local.get("args") or (None,))[0]
        step = tb
        while step is not None:
            found = step.tb_frame.f_code.co_name
            if _REPR.match(found):
                name = found
                break
            step = step.tb_next
        self.outlet.note(bundles.raised_note(name, obj, value))


def _configuration():
    """No history, no colours, nothing automatic."""
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.autocall = 0
    config.InteractiveShell.xmode = "Plain"
    config.InteractiveShell.display_page = True
    return config


def _instance(module):
    """The shell, made without touching the disk."""
    real = getattr(interactiveshell, "PickleShareDB", None)
    if real is not None:
        interactiveshell.PickleShareDB = _Store
    try:
        return Shell.instance(
            config=_configuration(),
            ipython_dir=IPYTHON_DIR,
            user_module=module,
            user_ns=vars(module),
        )
    finally:
        if real is not None:
            interactiveshell.PickleShareDB = real


def _add_magics(ip):
    """%pip, %%bash and %%sh of ours, which work without a terminal and without threads."""

    def pip(line):
        """Runs pip for this interpreter; a failure is an error."""
        commands.pip(shlex.split(line))

    def cell_magic(name, shell):
        usual = ip.find_cell_magic(name)

        def run_script(line, cell):
            """Runs the cell as a script of the shell."""
            if line.strip() and usual is not None:
                return usual(line, cell)
            return commands.cell_script(cell, shell)

        ip.register_magic_function(run_script, "cell", name)

    ip.register_magic_function(pip, "line", "pip")
    cell_magic("bash", None)
    cell_magic("sh", "/bin/sh")


class IPythonShell(PlainShell):
    """Runs code with IPython's language and displays."""

    ipython_version = IPython.__version__

    def start(self, module=None):
        """Makes the shell."""
        self._use(module)
        self.ip = ip = _instance(self.module)
        ip.outlet = self.publisher
        ip.db = _Store()
        _add_magics(ip)
        leave = _Exit(ip)
        ip.user_ns.update(exit=leave, quit=leave)
        ip.user_ns_hidden.update(exit=leave, quit=leave)
        ip.builtin_trap.__enter__()
        ip.display_trap.__enter__()
        self._inputs = (ip.history_manager.input_hist_parsed, ip.history_manager.input_hist_raw)
        self._magics = ip.magics_manager.magics["line"]
        self._callbacks = ip.events.callbacks
        self._usual_transformers = self._transformers()
        self._usual_runner = ip.loop_runner
        self.fresh = dict(self.namespace)

    def reset(self):
        """As if nothing had run."""
        self.execution_count = 0
        self.sources.clear()
        ip = self.ip
        ip.execution_count = 1
        ip.failure = None
        ip.user_ns["_oh"].clear()
        hook = ip.displayhook
        hook._ = hook.__ = hook.___ = ""
        for name in set(self.namespace) - set(self.fresh):
            del self.namespace[name]
        self.namespace.update(self.fresh)
        # IPython 9 tells by these whether `_` is its own or the user's.
        hidden = ip.user_ns_hidden
        for name in hidden.keys() & {"_", "__", "___"}:
            hidden[name] = self.namespace.get(name, "")
        for inputs in self._inputs:
            del inputs[1:]

    def resume(self, count, inputs, values, folder):
        """As if those runs had been its own."""
        ip = self.ip
        ip.user_ns["_dh"][:] = [folder]
        for number, value in values:
            ip.execution_count = number
            ip.displayhook.check_for_underscore()
            ip.displayhook.update_user_ns(value)
        self.execution_count = count
        ip.execution_count = max(count, 1)
        if inputs:
            for kept in self._inputs:
                kept[:] = inputs
        sys.displayhook = ip.displayhook

    def _transformers(self):
        """How many transformers of source there are, to see whether the user added one."""
        manager = self.ip.input_transformer_manager
        return (
            len(manager.cleanup_transforms),
            len(manager.line_transforms),
            len(manager.token_transformers),
            len(self.ip.input_transformers_post),
        )

    def _maybe_python(self, code):
        """Whether code that compiles as it stands is meant as it stands."""
        if "\n" not in code.strip():
            head = _HEAD.match(code)
            if head is not None:
                name = head.group(1)
                if name in self._magics or name == "In":
                    return False
                if isinstance(self.namespace.get(name), IPyAutocall):
                    return False
        return self._transformers() == self._usual_transformers

    def plan(self, code, name):
        """The steps of `code`; it is only transformed where it is not Python already."""
        ip = self.ip
        self.compiler.top_level_await = ip.autoawait
        failure = None
        known, self.known = self.known, None
        if known is not None and known[0] == name and self._maybe_python(code):
            failure = known[2]
            if known[1] is not None:
                return known[1]
        elif self._maybe_python(code):
            try:
                tree = self.compiler.parse(code, name)
            except SyntaxError as error:
                failure = error
            else:
                return self._steps(tree, name, code)
        changed, failure = self._transform(code, failure)
        try:
            tree = self.compiler.parse(changed, name)
        except SyntaxError as error:
            if failure is None or changed.strip() != code.strip():
                failure = error
        else:
            return self._steps(tree, name, changed)
        raise failure.with_traceback(None)

    def _transform(self, code, failure):
        """(IPython's version of the code, the syntax error to tell if that is no Python)."""
        try:
            return self.ip.transform_cell(code), failure
        except SyntaxError as error:
            return code, failure or error

    def _steps(self, tree, name, code):
        """Compiles the tree."""
        if self.ip.ast_transformers:
            tree = self.ip.transform_ast(tree)
        plan = self.compiler.plan(tree, name, code, self.ip.ast_node_interactivity)
        if self.compiler.flags:
            self.ip.compile.flags |= self.compiler.flags
        return plan

    def run(self, code):
        """Runs `code` between IPython's events."""
        ip = self.ip
        if "_oh" not in self.namespace:
            self.restore()
        number = self.execution_count + 1
        ip.execution_count = number
        ip.failure = None
        sys.displayhook = ip.displayhook
        for inputs in self._inputs:
            keep_input(inputs, number, code)
        info = None
        callbacks = self._callbacks
        if callbacks["pre_run_cell"] or callbacks["post_run_cell"]:
            info = _execution_info(code)
        ip.events.trigger("pre_execute")
        if info is not None:
            ip.events.trigger("pre_run_cell", info)
        failure = None
        try:
            super().run(code)
        except BaseException as error:
            failure = error
            raise
        finally:
            self._after(info, failure)
            failure = None

    def _after(self, info, failure):
        """The events after a run."""
        ip = self.ip
        if self._callbacks["post_execute"]:
            ip.events.trigger("post_execute")
        if self._callbacks["post_run_cell"]:
            result = ExecutionResult(info if info is not None else _execution_info(""))
            result.execution_count = self.execution_count
            result.error_in_exec = failure
            ip.events.trigger("post_run_cell", result)

    def execute(self, plan, namespace, show):
        """As the plain shell does, but `%autoawait` may have chosen another kind of loop."""
        runner = self.ip.loop_runner
        if runner is not self._usual_runner:
            if any(code.co_flags & COROUTINE for code, _ in plan):
                runner(coroutines.steps(plan, namespace, show))
                return
        super().execute(plan, namespace, show)

    def show(self, value):
        """The value of the last expression; it becomes _ and Out[n] too."""
        data, metadata = self.ip.display_formatter.format(value)
        hook = self.ip.displayhook
        hook.check_for_underscore()
        hook.update_user_ns(value)
        if data:
            self.publisher.publish("result", data, metadata)

    def present(self, figure):
        """Displays one figure."""
        data, metadata = self.ip.display_formatter.format(figure)
        figures.seen(figure)
        if data:
            self.publisher.publish("display", data, metadata)

    def late_failure(self):
        """An exception that IPython caught and wanted to print."""
        found, self.ip.failure = self.ip.failure, None
        return found


def _execution_info(code):
    """What callbacks are told of a run; its fields differ from version to version."""
    try:
        return ExecutionInfo(code, True, False, True, None)
    except TypeError:
        return ExecutionInfo(code, True, False, True)


def make_shell(publisher):
    """The shell for `prepare`."""
    os.environ.setdefault("IPYTHONDIR", IPYTHON_DIR)
    unused = getattr(sys.modules.get("IPython.utils.io"), "devnull", None)
    if unused is not None:
        unused.close()
    return IPythonShell(publisher)
