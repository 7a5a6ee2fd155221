"""The shell of a far worker that has just begun: IPython's, without IPython as long as it can wait.

Importing IPython takes many times what the start of an interpreter takes, and most first runs have
nothing in them that could tell whether it is there. Those are run here, by the plain shell. All
others have IPython brought in before they begin, while the run's clock stands; a value that turns
out to be more than a number or a text, before it is shown; and an idle worker brings it in by
itself, so that it is there when it is needed. From then on everything is as if it had been there
from the beginning: In, Out and `_`, the names of the session, and how imports were found.

What is taken here is what cannot reach IPython or anything that IPython changes, and not what looks
harmless: names of Python itself that are known, attributes and modules that lead to nothing else.
"""

import builtins
import gc
import os
import sys

from cellblock_worker import interrupts
from cellblock_worker.plain import IPYTHON_DIR, PlainShell, keep_input

IDLE_FIRST = 2.0  # seconds without a run after which IPython is brought in: before the first one
IDLE = 0.1  # and after that
CACHE_SIZE = 1000  # of Out, as IPython has it
JEDI_DEPTH = 3000
CODE_CAP = 64 * 1024
_FOLDER_CAP = 256
_ASYNC = 0x80 | 0x200
_SHOWN = frozenset((int, bool, str, float))
_BUILTINS = frozenset(
    "abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float "
    "format frozenset hash hex id input int isinstance issubclass iter len list map max min next "
    "object oct ord pow print range repr reversed round set slice sorted str sum super tuple type "
    "zip staticmethod classmethod property NotImplemented Ellipsis".split()
)
_DUNDERS = frozenset(
    "__name__ __module__ __qualname__ __init__ __repr__ __str__ __eq__ __ne__ __lt__ __le__ "
    "__gt__ __ge__ __hash__ __len__ __iter__ __next__ __getitem__ __setitem__ __contains__ "
    "__call__ __enter__ __exit__ __add__ __sub__ __mul__ __neg__ __bool__ __post_init__ "
    "__firstlineno__ __static_attributes__".split()
)
_MODULES = frozenset(
    "math cmath time datetime json re random itertools functools collections string statistics "
    "decimal fractions operator bisect heapq textwrap os os.path".split()
)
_REFUSED = frozenset(
    "In Out get_ipython display exit quit sys modules builtins bltns types warnings inspect gc "
    "importlib weakref codecs gi_frame cr_frame ag_frame tb_frame f_globals f_builtins f_locals "
    "f_back chdir fchdir fork forkpty environ putenv unsetenv register_at_fork".split()
)
_SCALARS = frozenset(
    "print len sum min max abs round pow str repr ascii format int float bool hash id ord chr hex "
    "oct bin all any isinstance issubclass input".split()
)
_VOID = frozenset(
    "append extend insert add update remove discard clear sort reverse sleep seed shuffle join "
    "upper lower strip startswith endswith count index write".split()
)
_STATEMENTS = frozenset(
    "if for while with try def class del pass raise return assert import from not lambda None True "
    "False global nonlocal f F r R b B".split()
)


def find_version():
    """The version of the IPython that could be imported; None where there is none, or none that
    tells: then it has to be imported to be known."""
    spec = _find("IPython")
    try:
        path = os.path.join(spec.submodule_search_locations[0], "core", "release.py")
        with open(path, "rb") as file:
            names = {"__name__": "IPython.core.release"}
            exec(compile(file.read(), path, "exec"), names)
    except Exception:
        return None
    version = names.get("version")
    return version if isinstance(version, str) else None


def _find(name):
    """The spec of a module as an import finds it, or None."""
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        spec = find(name, None) if find is not None else None
        if spec is not None:
            return spec
    return None


def _is_fine_name(name):
    """Whether a name, of a variable or an attribute, can lead to nothing but the code's own."""
    if name in _BUILTINS:
        return True
    if name[:1] == "_":
        return name in _DUNDERS
    if name in _REFUSED:
        return False
    found = vars(builtins).get(name)
    return found is None or (isinstance(found, type) and issubclass(found, BaseException))


def _is_fine_constant(value):
    """Likewise of a constant: texts can be formats, tuples can hold the names of attributes."""
    if isinstance(value, str):
        return "__" not in value
    if isinstance(value, tuple):
        return all(
            _is_fine_constant(one) and not (isinstance(one, str) and one in _REFUSED)
            for one in value
        )
    return True


def _are_fine(codes):
    """Whether all that the code objects name is known to be harmless."""
    rest = list(codes)
    while rest:
        code = rest.pop()
        if code.co_flags & _ASYNC or not all(map(_is_fine_name, code.co_names)):
            return False
        for value in code.co_consts:
            if type(value) is type(code):
                rest.append(value)
            elif not _is_fine_constant(value):
                return False
    return True


def _imports(tree):
    """The names of all modules that are imported; None for a kind of import that is not known."""
    found = []
    rest = [tree]
    while rest:
        node = rest.pop()
        kind = type(node).__name__
        if kind == "Import":
            found += [alias.name for alias in node.names]
        elif kind == "ImportFrom":
            if node.level or any(alias.name == "*" for alias in node.names):
                return None
            found.append(node.module)
        else:
            for name in node._fields:
                value = getattr(node, name, None)
                if isinstance(value, list):
                    rest += [one for one in value if hasattr(one, "_fields")]
                elif hasattr(value, "_fields"):
                    rest.append(value)
    return found


def _is_shown_plainly(node, namespace):
    """Whether the value of an expression is most likely None, a number or a text: then IPython is
    not needed to show it, and otherwise the run begins when it is there."""
    kind = type(node).__name__
    if kind == "Call":
        name = getattr(node.func, "id", None)
        return name in _SCALARS or getattr(node.func, "attr", None) in _VOID
    if kind == "Name":
        return type(namespace.get(node.id)) in _SHOWN
    if kind == "Constant":
        return node.value is None or type(node.value) in _SHOWN
    if kind == "UnaryOp":
        return _is_shown_plainly(node.operand, namespace)
    if kind == "BinOp":
        return all(_is_shown_plainly(one, namespace) for one in (node.left, node.right))
    return kind in ("Compare", "JoinedStr")


def _nothing_in_the_way():
    """Whether no file of the current folder can be taken for a module of the standard library."""
    try:
        with os.scandir(".") as entries:
            for number, entry in enumerate(entries):
                name = entry.name
                if number >= _FOLDER_CAP or name.endswith((".py", ".pyc", ".so")):
                    return False
                if name[:1] != "." and entry.is_dir():
                    return False
    except OSError:
        return False
    return True


def _is_standard(name):
    """Whether importing `name` gives the module of the standard library."""
    if name in sys.modules:
        return True
    spec = _find(name.partition(".")[0])
    origin = getattr(spec, "origin", None) or ""
    return origin in ("built-in", "frozen") or origin.startswith(
        os.path.dirname(os.__file__) + os.sep
    )


def _are_fine_imports(tree):
    """Whether all imports are of modules that are known, and give those."""
    names = _imports(tree)
    if names is None or not _MODULES.issuperset(names):
        return False
    if all(name in sys.modules for name in names):
        return True
    return _nothing_in_the_way() and all(map(_is_standard, names))


def _head(code):
    """The word that a line begins with."""
    text = code.strip()
    end = 0
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return text[:end]


def _tells_names(error):
    """Whether its traceback may offer names that are near: those of IPython are among them."""
    seen = []
    while error is not None and len(seen) < 50 and error not in seen:
        if isinstance(error, (NameError, ImportError)) or hasattr(error, "exceptions"):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def _current_folder():
    """Where we are, as far as that can be told."""
    try:
        return os.getcwd()
    except OSError:
        return "/"


class LateShell(PlainShell):
    """See above. `on_grown(shell)` is told of the one that takes its place."""

    def __init__(self, publisher, version):
        super().__init__(publisher)
        self.ipython_version = version
        self.on_grown = None
        self.on_delay = None  # told True before the time that it takes, and False after it
        self.trouble = None  # why there is no IPython after all
        self._full = None
        self._inputs = []  # by the number of the run
        self._values = []  # (number of the run, value)
        self._known = None

    def start(self, module=None):
        """Makes the namespace; nothing is added to the builtins."""
        self._use(module)
        self.fresh = dict(self.namespace)
        self._path = list(sys.path)
        self._folder = _current_folder()
        os.environ.setdefault("IPYTHONDIR", IPYTHON_DIR)
        if _find("jedi") is not None:  # which IPython imports, and which sets this
            sys.setrecursionlimit(JEDI_DEPTH)

    def patience(self):
        """How long nothing may happen until IPython is brought in."""
        return IDLE if self.execution_count else IDLE_FIRST

    # ---- runs ----

    def choose(self, code):
        """The shell that runs `code`: this one, or IPython's."""
        name = self.run_name()
        plan = failure = None
        self.sources.add(name, code)  # warnings of the compiler show the line
        if len(code) <= CODE_CAP:
            try:
                tree = self.compiler.parse(code, name)
                plan = self.compiler.plan(tree, name, code)
                if self._is_simple(tree, plan, code):
                    self._known = plan
                    return self
            except SyntaxError as error:
                failure = error
            except (MemoryError, RecursionError):
                pass
        full = self.grow_first()
        if plan is not None or failure is not None:
            full.known = (name, plan, failure)
        return full

    def _is_simple(self, tree, plan, code):
        """Whether nobody can tell which shell runs it."""
        if self.compiler.flags or not _are_fine([one for one, _shown in plan]):
            return False
        if "import" in code and not _are_fine_imports(tree):
            return False
        if plan[-1][1] and not _is_shown_plainly(tree.body[-1].value, self.namespace):
            return False
        if "\n" in code.strip():
            return True
        head = _head(code)  # of one line it could be a magic's
        if not head or head[:1].isdigit() or head in self.namespace:
            return True
        if head in _STATEMENTS or head in _BUILTINS:
            return True
        return code.strip()[len(head) :].lstrip()[:1] in ("=", ",")

    def plan(self, code, name):
        """What choose() has found."""
        plan, self._known = self._known, None
        return plan

    def run(self, code):
        """As IPython's shell does."""
        keep_input(self._inputs, self.execution_count + 1, code)
        names = False
        try:
            super().run(code)
        except Exception as error:
            names = _tells_names(error)
            raise
        finally:
            if names:
                self.grow()

    def execute(self, plan, namespace, show):
        """As deep in the stack as IPython's shell is."""
        super().execute(plan, namespace, show)

    def show(self, value):
        """Numbers and texts are shown by their repr in any shell."""
        if type(value) not in _SHOWN:
            self.grow().show(value)
            return
        if len(self._values) >= CACHE_SIZE:
            del self._values[: CACHE_SIZE // 5]
        self._values.append((self.execution_count, value))
        self.publisher.publish("result", {"text/plain": repr(value)}, {})

    def present(self, figure):
        """Displays one figure."""
        self.grow().present(figure)

    # ---- IPython ----

    def grow_first(self):
        """IPython's shell, before a run: the time that it takes is not the run's."""
        if self._full is not None:
            return self._full
        with interrupts.shielded():
            if self.on_delay is not None:
                self.on_delay(True)
            try:
                return self.grow()
            finally:
                if self.on_delay is not None:
                    self.on_delay(False)

    def grow(self):
        """IPython's shell, in the place of this one."""
        if self._full is None:
            with interrupts.shielded():
                with _Apart(self):
                    self._full = self._make()
                if self.on_grown is not None:
                    self.on_grown(self._full)
        return self._full

    def _make(self):
        """Makes the shell around the namespace of before any run, and gives it what was since."""
        namespace = self.namespace
        own = {name: value for name, value in namespace.items() if name not in self.fresh}
        for name in own:
            del namespace[name]
        full = self._begin()
        full.mend = self.mend
        full.compiler, full.sources = self.compiler, self.sources
        full.resume(self.execution_count, self._inputs, self._values, self._folder)
        namespace.update(own)
        self._inputs, self._values = [], []
        return full

    def _begin(self):
        """IPython's shell; the plain one if IPython is no good."""
        try:
            from cellblock_worker.ipy import make_shell

            full = make_shell(self.publisher)
            full.start(self.module)
        except Exception as error:
            if not isinstance(error, ImportError):
                self.trouble = "IPython cannot be used: %r" % (error,)
            full = PlainShell(self.publisher)
            full.start(self.module)
        return full


class _Apart:
    """While something is imported that used to be there before the session: modules are looked for
    where they were then, and the session's random numbers stay what they are."""

    def __init__(self, shell):
        self._shell_path = shell._path

    def __enter__(self):
        self._path = list(sys.path)
        sys.path[:] = self._shell_path
        self._random = sys.modules.get("random")
        self._state = self._random.getstate() if self._random is not None else None
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(self, *_exc):
        sys.path[:] = self._path
        if self._random is not None:
            self._random.setstate(self._state)
        if self._collects:
            gc.enable()
        return False
