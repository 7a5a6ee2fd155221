"""From source to a plan: code objects in order, and which of them has a value to show."""

import __future__

import _ast as ast

from cellblock_worker import hooks

RUN_PREFIX = "<run "
AWAIT = getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)
KEPT_SOURCE = 16 * 1024 * 1024
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag
del _name
_compile = compile
_Module = ast.Module
_Expression = ast.Expression
_Expr = ast.Expr
_ONLY_AST = ast.PyCF_ONLY_AST
COROUTINE = 0x80  # as inspect names it


class Sources:
    """The text of past runs, for tracebacks and inspect.getsource, within a limit."""

    def __init__(self):
        self._sizes = {}
        self._total = 0
        self._cache = None  # linecache's, once somebody has imported it
        self._waiting = {}  # name → code, until then
        hooks.after_import("linecache", self._found)

    def _found(self, linecache):
        """Somebody wants lines."""
        self._cache = linecache.cache
        for name, code in self._waiting.items():
            self._put(name, code)
        self._waiting.clear()

    def _put(self, name, code):
        """Where linecache finds it."""
        self._cache[name] = (len(code), None, code.splitlines(True), name)

    def _forget(self, name):
        """One that is read no more."""
        if self._cache is None:
            self._waiting.pop(name, None)
        else:
            self._cache.pop(name, None)

    def add(self, name, code):
        """Makes `code` readable under `name`."""
        if self._cache is None:
            self._waiting[name] = code
        else:
            self._put(name, code)
        self._total -= self._sizes.get(name, 0)
        self._sizes[name] = len(code)
        self._total += len(code)
        while self._total > KEPT_SOURCE and len(self._sizes) > 1:
            old = next(iter(self._sizes))
            self._total -= self._sizes.pop(old)
            self._forget(old)

    def clear(self):
        """Forgets all of it."""
        for name in self._sizes:
            self._forget(name)
        self._sizes.clear()
        self._total = 0


class Compiler:
    """Compiles runs; remembers their __future__ imports, as the interactive interpreter does."""

    def __init__(self):
        self.flags = 0
        self.top_level_await = True

    def _all_flags(self):
        return self.flags | (AWAIT if self.top_level_await else 0)

    def parse(self, code, name):
        """The tree of `code`; what cannot be Python is always a SyntaxError."""
        try:
            return _compile(code, name, "exec", self._all_flags() | _ONLY_AST, True)
        except (ValueError, UnicodeError) as error:
            if isinstance(error, SyntaxError):
                raise
            message = str(error)
        raise SyntaxError(message, (name, 1, 1, None))

    def plan(self, tree, name, code, interactivity="last_expr"):
        """A list of (code object, has a value to show)."""
        steps = []
        body = tree.body
        shown = _shown(body, interactivity, code)
        start = 0
        for index in shown:
            if index > start:
                steps.append((self._block(body[start:index], name, tree), False))
            node = _Expression(body[index].value)
            steps.append((_compile(node, name, "eval", self._all_flags(), True), True))
            start = index + 1
        if start < len(body) or not steps:
            steps.append((self._block(body[start:], name, tree), False))
        return steps

    def _block(self, body, name, tree):
        """Compiles statements without a value."""
        found = _compile(
            _Module(body, tree.type_ignores), name, "exec", self._all_flags(), True
        )
        self.flags |= found.co_flags & _FUTURE
        return found


def _shown(body, interactivity, code):
    """The indexes of the statements whose value is shown."""
    if not body or interactivity == "none":
        return ()
    last = len(body) - 1
    if interactivity == "all":
        picked = range(len(body))
    elif interactivity == "last_expr_or_assign":
        _show_assigned(body)
        last = len(body) - 1
        picked = (last,)
    else:
        picked = (last,)
    silent = ";" in code and _ends_in_semicolon(body[last], code)
    return [
        index
        for index in picked
        if type(body[index]) is _Expr and not (silent and index == last)
    ]


def _show_assigned(body):
    """Adds the target of a last assignment as an expression."""
    last = body[-1]
    target = None
    if isinstance(last, ast.Assign) and len(last.targets) == 1:
        target = last.targets[0]
    elif isinstance(last, (ast.AugAssign, ast.AnnAssign)):
        target = last.target
    if isinstance(target, ast.Name):
        from ast import copy_location

        value = copy_location(ast.Name(target.id, ast.Load()), last)
        body.append(copy_location(_Expr(value), last))


def _ends_in_semicolon(node, code):
    """Whether `;` follows the last statement (in a comment or a string it does not count)."""
    end = getattr(node, "end_lineno", None)
    if end is None:
        return False
    lines = code.split("\n")
    if "\r" in code or "\f" in code:
        lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if end > len(lines):
        return False
    rest = lines[end - 1].encode("utf-8", "replace")[node.end_col_offset :]
    while rest.strip() == b"\\" and end < len(lines):
        rest = lines[end].encode("utf-8", "replace")
        end += 1
    return rest.lstrip().startswith(b";")
