"""From an exception to what a DONE frame says about it."""

import os
import sys

from cellblock_worker.compiling import RUN_PREFIX
from cellblock_worker.frames import safe_text

TRACEBACK_CAP = 64 * 1024
VALUE_CAP = 16 * 1024
MANY_FRAMES = 3000
NO_STDIN = "no stdin was given for this run, so there is nothing to read: pass `stdin` to run_code"
_OURS = os.path.dirname((lambda: 0).__code__.co_filename) + os.sep
_IPYTHON = os.path.join("IPython", "core", "")
_HEADING = "Traceback (most recent call last):\n"


def cut_middle(text, cap):
    """`text`, at most about `cap` characters of it: head and tail, and a word about the rest."""
    if len(text) <= cap:
        return text
    half = cap // 2
    left_out = len(text) - 2 * half
    return "%s\n… [%d characters left out] …\n%s" % (text[:half], left_out, text[-half:])


def value_text(exc):
    """str(exc), even if that raises."""
    try:
        return cut_middle(safe_text(str(exc)), VALUE_CAP)
    except Exception as error:
        return "<the exception's str() raised %s>" % type(error).__name__


def user_part(tb):
    """The traceback from the first frame of the user's code on; all of it if there is none."""
    step = tb
    while step is not None:
        if step.tb_frame.f_code.co_filename.startswith(RUN_PREFIX):
            return step
        step = step.tb_next
    return tb


def _length(tb):
    """How many frames it has."""
    count = 0
    while tb is not None:
        count += 1
        tb = tb.tb_next
    return count


def _is_machinery(filename):
    """Whether a frame is of this package or of IPython's core, which stand between the lines."""
    return filename.startswith(_OURS) or _IPYTHON in filename or filename.startswith("<decorator-")


def _hide_machinery(report, depth=0):
    """Takes our frames out of a report and of those that are chained to it."""
    if report is None or depth > 50:
        return
    if report.stack:
        report.stack[:] = [step for step in report.stack if not _is_machinery(step.filename)]
    _hide_machinery(report.__cause__, depth + 1)
    _hide_machinery(report.__context__, depth + 1)
    for one in getattr(report, "exceptions", None) or ():
        _hide_machinery(one, depth + 1)


def traceback_text(exc, tb=None):
    """The usual text of a traceback, without the frames of ours that lead to the user's code."""
    try:
        import traceback

        shown = user_part(tb if tb is not None else exc.__traceback__)
        limit = -200 if _length(shown) > MANY_FRAMES else None
        report = traceback.TracebackException(type(exc), exc, shown, limit=limit)
        _hide_machinery(report)
        text = "".join(report.format())
        if not report.stack and text.startswith(_HEADING):
            text = text[len(_HEADING) :]
    except Exception as error:
        text = "%s: %s\n(its traceback cannot be shown: %s)\n" % (
            type(exc).__name__,
            value_text(exc),
            type(error).__name__,
        )
    return cut_middle(safe_text(text), TRACEBACK_CAP)


def describe(exc, tb=None):
    """The `error` object of a DONE frame."""
    return {
        "etype": safe_text(type(exc).__name__),
        "evalue": value_text(exc),
        "traceback": traceback_text(exc, tb),
    }


_NO_INPUT = [("EOF when reading a line",)]
if sys.implementation.name == "pypy":
    _NO_INPUT.append(())


def explain_eof(exc):
    """Says why input() had nothing to read, in the words that help."""
    if type(exc) is EOFError and exc.args in _NO_INPUT:
        exc.args = (NO_STDIN,)


def exit_status(exc):
    """(status, exit code, text for stderr) of a SystemExit, as the interpreter itself sees it."""
    code = exc.code
    if code is None:
        return "ok", 0, None
    if isinstance(code, int):
        number = int(code) & 0xFF
        return ("exit", number, None) if int(code) != 0 else ("ok", 0, None)
    try:
        text = str(code)
    except Exception as error:
        text = "<str() of the exit value raised %s>" % type(error).__name__
    return "exit", 1, text + "\n"
