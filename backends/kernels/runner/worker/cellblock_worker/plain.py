"""The shell for interpreters without IPython."""

import builtins
import sys

from cellblock_worker import bundles, coroutines, figures
from cellblock_worker.compiling import COROUTINE, RUN_PREFIX, Compiler, Sources
from cellblock_worker.display import plain_functions

IPYTHON_DIR = "/tmp/.cellblock-ipython"
KEPT_INPUTS = 2000


def keep_input(inputs, number, code):
    """Makes `code` the input of that run in IPython's list; one that is long past is let go."""
    while len(inputs) < number:
        inputs.append("")
    inputs.append(code)
    if number > KEPT_INPUTS:
        inputs[number - KEPT_INPUTS] = ""


def main_module():
    """A fresh `__main__`."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module


class PlainShell:
    """Keeps the user's namespace and runs code in it."""

    ipython_version = None
    known = None  # what is known of the code of the next run: (name, plan, SyntaxError)

    def __init__(self, publisher):
        self.publisher = publisher
        self.sources = Sources()
        self.compiler = Compiler()
        self.execution_count = 0
        self.namespace = {}
        self.provided = {}
        self.fresh = {}

    def mend(self):
        """Replaced by the worker: brings back builtins that the code has deleted."""

    def _use(self, module):
        """The user's module: this one, or a fresh one."""
        self.module = main_module() if module is None else module
        self.namespace = self.module.__dict__

    def start(self, module=None):
        """Makes the namespace and what is offered among the builtins."""
        self._use(module)
        self.provided = plain_functions(self.publisher, figures.printers)
        for name in ("exit", "quit"):
            if not hasattr(builtins, name):
                self.provided[name] = sys.exit
        vars(builtins).update(self.provided)
        self.fresh = dict(self.namespace)

    def reset(self):
        """As if nothing had run."""
        self.execution_count = 0
        self.sources.clear()
        self.start()

    def resume(self, count, inputs, values, folder):
        """Goes on after `count` runs (late.py): their code, the values that they had as (number of
        the run, value), and the folder that the session began in."""
        del inputs, values, folder
        self.execution_count = count

    def patience(self):
        """How long an idle worker waits before it prepares something; None: there is nothing."""
        return None

    def choose(self, _code):
        """The shell that runs the code: this one."""
        return self

    def run_name(self):
        """What tracebacks call the next run."""
        return "%s%d>" % (RUN_PREFIX, self.execution_count + 1)

    def run(self, code):
        """Runs `code` and shows its value; what it raises comes out."""
        name = self.run_name()
        self.execution_count += 1
        self.sources.add(name, code)
        sys.modules["__main__"] = self.module
        namespace = self.namespace
        if "__warningregistry__" in namespace:
            del namespace["__warningregistry__"]
        if "__name__" not in namespace:
            self.restore()
        plan = self.plan(code, name)
        try:
            self.execute(plan, namespace, self.show)
        finally:
            self.mend()

    def restore(self):
        """After globals().clear(): the names that a session starts with."""
        for name, value in self.fresh.items():
            self.namespace.setdefault(name, value)

    def plan(self, code, name):
        """The steps of `code`; commands are only looked for in what is not Python."""
        try:
            tree = self.compiler.parse(code, name)
        except SyntaxError as error:
            failure = error
        else:
            return self.compiler.plan(tree, name, code)
        changed = self._with_commands(code, name)
        if changed is None:
            raise failure.with_traceback(None)
        try:
            tree = self.compiler.parse(changed, name)
        except SyntaxError as error:
            failure = error if changed.count("\n") == code.count("\n") else failure
        else:
            return self.compiler.plan(tree, name, changed)
        raise failure.with_traceback(None)

    def _with_commands(self, code, name):
        """The code with its commands as Python; None when there are none."""
        from cellblock_worker import magics

        if magics.HELPER not in self.provided:
            self.provided[magics.HELPER] = vars(builtins)[magics.HELPER] = magics.Helper()
        return magics.transform(code, name)

    def execute(self, plan, namespace, show):
        """Runs the steps, in the session's loop if one of them awaits."""
        for code, _shown in plan:
            if code.co_flags & COROUTINE:
                coroutines.run(coroutines.steps(plan, namespace, show))
                return
        for code, shown in plan:
            value = eval(code, namespace)
            if shown and value is not None:
                show(value)

    def show(self, value):
        """The value of the last expression."""
        found = bundles.describe(value, self.publisher.note, figures.printers)
        if found is not None:
            self.publisher.publish("result", found[0], found[1])

    def present(self, figure):
        """Displays one figure."""
        found = bundles.describe(figure, self.publisher.note, figures.printers)
        if found is not None:
            self.publisher.publish("display", found[0], found[1])

    def finish(self):
        """What is left to show at the end of a run."""
        figures.flush()

    def late_failure(self):
        """An exception that was reported but not raised."""
        return None
