"""!command, %pip and a few more for interpreters without IPython.

Code is only looked at here when it is not Python as it stands. A line counts when a statement
starts there: not inside a string, a bracket or a continued line.
"""

import os
import re
import shlex
import string
import sys

from cellblock_worker import commands, figures

HELPER = "__cellblock__"
LINE_MAGICS = ("pip", "cd", "pwd", "env", "set_env", "matplotlib", "config", "sx", "system")
CELL_MAGICS = ("bash", "sh", "writefile")
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<triple>(?:'''|\"\"\"))
      | (?P<quote>['"])
      | (?P<open>[(\[{]) | (?P<close>[)\]}])
      | (?P<joined>\\\r?\n) | (?P<line>\n)""",
    re.X,
)
_COMMAND = re.compile(r"^(?P<indent>\s*)(?P<kind>!!|!|%)(?P<rest>.*)$", re.S)
_ASSIGNED = re.compile(
    r"^(?P<indent>\s*)(?P<target>[A-Za-z_][\w.\[\]'\", ]*?)\s*=\s*(?P<kind>!|%)(?P<rest>.*)$", re.S
)
_DOLLAR = re.compile(r"\$(\$?[A-Za-z_]\w*)")


def _string_end(code, start, quote):
    """The index after the string that opened before `start`."""
    index, size = start, len(quote)
    while index < len(code):
        if code[index] == "\\":
            index += 2
        elif code.startswith(quote, index):
            return index + size
        elif size == 1 and code[index] == "\n":
            return index
        else:
            index += 1
    return len(code)


def _is_command(code, start):
    """Whether the statement that starts here is one of ours."""
    end = code.find("\n", start)
    line = code[start : end if end >= 0 else len(code)]
    return bool(_COMMAND.match(line) or _ASSIGNED.match(line))


def _command_end(code, start):
    """The index of the line end of a command, past lines that end in a backslash."""
    end = start
    while True:
        end = code.find("\n", end)
        if end < 0:
            return len(code)
        if not code[start:end].endswith("\\"):
            return end
        end += 1


def find_commands(code):
    """(start, end) of every command in `code`."""
    found, depth, index, fresh = [], 0, 0, True
    while index <= len(code):
        if fresh and depth == 0 and _is_command(code, index):
            end = _command_end(code, index)
            found.append((index, end))
            index = end
        fresh = False
        token = _TOKEN.search(code, index)
        if token is None:
            break
        kind, index = token.lastgroup, token.end()
        if kind in ("triple", "quote"):
            index = _string_end(code, index, token.group())
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "line":
            fresh = True
    return found


def _unknown(name, marks, number, line, filename):
    """The error for a magic that only IPython has."""
    here = ["!command"] + ["%" + n for n in LINE_MAGICS] + ["%%" + n for n in CELL_MAGICS]
    return SyntaxError(
        "%s%s is a magic of IPython, which this Python does not have; here work %s"
        % (marks, name, ", ".join(here)),
        (filename, number, 1, line),
    )


def _call(kind, rest, number, filename):
    """The Python expression for one command."""
    rest = rest.replace("\\\r\n", " ").replace("\\\n", " ").strip()
    if kind != "%":
        return "%s.%s(%r)" % (HELPER, "output" if kind == "!!" else "system", rest)
    name, _, arguments = rest.partition(" ")
    if name not in LINE_MAGICS:
        raise _unknown(name, "%", number, "%" + rest, filename)
    return "%s.magic(%r, %r)" % (HELPER, name, arguments.strip())


def _translate(text, number, filename):
    """One command as Python on as many lines."""
    assigned = _ASSIGNED.match(text)
    found = _COMMAND.match(text)
    if found is not None:
        line = found.group("indent") + _call(
            found.group("kind"), found.group("rest"), number, filename
        )
    else:
        kind = "!!" if assigned.group("kind") == "!" else "%"
        line = "%s%s = %s" % (
            assigned.group("indent"),
            assigned.group("target"),
            _call(kind, assigned.group("rest"), number, filename),
        )
    return line + "\n" * text.count("\n")


def transform(code, filename):
    """`code` with its commands made into calls, or None if there are none."""
    cell = re.match(r"\s*%%(\w+)([^\n]*)(?:\n(.*))?\Z", code, re.S)
    if cell is not None:
        name, arguments, body = cell.group(1), cell.group(2).strip(), cell.group(3) or ""
        if name not in CELL_MAGICS:
            raise _unknown(name, "%%", 1, code.strip().split("\n")[0], filename)
        return "%s.cell(%r, %r, %r)\n" % (HELPER, name, arguments, body)
    pieces, done = [], 0
    for start, end in find_commands(code):
        number = code.count("\n", 0, start) + 1
        pieces.append(code[done:start])
        pieces.append(_translate(code[start:end], number, filename))
        done = end
    if not pieces:
        return _dedented(code)
    return "".join(pieces) + code[done:]


def _dedented(code):
    """Code that is indented as a whole, as a copy from a function is; None if it is not."""
    first = next((line for line in code.split("\n") if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    if not indent or first.lstrip().startswith("#"):
        return None
    lines = code.split("\n")
    return "\n".join(ln[len(indent) :] if ln.startswith(indent) else ln for ln in lines)


class _Fields(string.Formatter):
    """{expression} by the user's variables."""

    def get_field(self, field_name, args, kwargs):
        """Evaluates the expression."""
        return eval(field_name, args[0], args[1]), field_name


def expand(text, depth=2):
    """{expression} and $name filled in; a text where that fails stays as it is."""
    frame = sys._getframe(depth)
    names, local = frame.f_globals, frame.f_locals

    def value(match):
        name = match.group(1)
        if name.startswith("$"):
            return name
        if name in local or name in names:
            return str(local[name] if name in local else names[name])
        return match.group(0)

    try:
        filled = _Fields().vformat(text, (names, local), {}) if "{" in text else text
    except Exception:
        filled = text
    return _DOLLAR.sub(value, filled) if "$" in filled else filled


class Helper:
    """What commands call; it sits among the builtins under a name of its own."""

    def __init__(self):
        self._last_folder = None

    def system(self, command):
        """!command."""
        names = sys._getframe(1).f_globals
        names["_exit_code"] = commands.system(expand(command))

    def output(self, command):
        """x = !command."""
        return commands.output_of(expand(command))

    def magic(self, name, arguments):
        """%name arguments."""
        arguments = expand(arguments)
        if name in ("sx", "system"):
            return commands.output_of(arguments)
        return getattr(self, "_" + name)(arguments)

    def cell(self, name, arguments, body):
        """%%name arguments, and the body."""
        if name == "writefile":
            return self._writefile(arguments, body)
        return commands.cell_script(body, None if name == "bash" else "/bin/sh")

    def _pip(self, arguments):
        commands.pip(shlex.split(arguments))

    def _cd(self, arguments):
        """Goes to a folder, home without one, `-` the one before."""
        folder = arguments.strip("'\"") or "~"
        if folder == "-":
            folder = self._last_folder or "."
        before = os.getcwd()
        os.chdir(os.path.expanduser(folder))
        self._last_folder = before
        sys.stdout.write(os.getcwd() + "\n")

    def _pwd(self, _arguments):
        return os.getcwd()

    def _env(self, arguments):
        """All variables, one of them, or sets one."""
        if not arguments:
            return dict(os.environ)
        name, sign, value = arguments.partition("=")
        if not sign:
            name, sign, value = arguments.partition(" ")
        if not sign:
            return os.environ[name]
        os.environ[name.strip()] = value.strip()
        sys.stdout.write("env: %s=%s\n" % (name.strip(), value.strip()))
        return None

    _set_env = _env

    def _matplotlib(self, _arguments):
        """Figures are shown in any case."""

    def _config(self, arguments):
        """InlineBackend.figure_format(s) = …; the rest of it changes nothing here."""
        name, _, value = arguments.partition("=")
        if name.strip() in ("InlineBackend.figure_format", "InlineBackend.figure_formats"):
            found = eval(value, {})
            figures.options.formats = (found,) if isinstance(found, str) else tuple(sorted(found))

    def _writefile(self, arguments, body):
        """Writes the body to a file (-a: at its end)."""
        words = shlex.split(arguments)
        append = "-a" in words or "--append" in words
        path = os.path.expanduser([word for word in words if not word.startswith("-")][0])
        verb = "Appending to" if append else "Overwriting" if os.path.exists(path) else "Writing"
        with open(path, "a" if append else "w", encoding="utf-8") as file:
            file.write(body if body.endswith("\n") else body + "\n")
        sys.stdout.write("%s %s\n" % (verb, path))
