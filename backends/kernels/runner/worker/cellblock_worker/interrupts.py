"""When a SIGINT means KeyboardInterrupt: while the user's code runs, and at no other time.

Outside of a run its handler does nothing (it is a function, not SIG_IGN, so that children of
background threads do not inherit a deaf SIGINT). Handlers that the user has set for other signals
are parked meanwhile: what they raise would end the worker. A mask would not do, since another
thread can take the signal, and Python runs the handler in this one.
"""

import _signal
import os
from _thread import get_ident

_set = _signal.signal
_get = _signal.getsignal
_kill = os.kill
_getpid = os.getpid
SIGINT = _signal.SIGINT
PARKED = tuple(
    getattr(_signal, name)
    for name in (
        "SIGALRM SIGVTALRM SIGPROF SIGUSR1 SIGUSR2 SIGCHLD SIGIO SIGTERM SIGHUP SIGQUIT SIGPIPE "
        "SIGURG SIGWINCH SIGCONT SIGXCPU"
    ).split()
    if hasattr(_signal, name)
)
_raise = _signal.default_int_handler
_main = None
_inside = False
_parked = {}
_late = []


def _nothing(_number, _frame):
    """A SIGINT with nothing to interrupt."""


def _remember(number, _frame):
    """A signal whose handler is parked."""
    if number not in _late:
        _late.append(number)


def _park():
    """Takes the user's handlers out; they come back with _unpark()."""
    for number in PARKED:
        handler = _get(number)
        if callable(handler) and handler is not _remember:
            _parked[number] = handler
            _set(number, _remember)


def _unpark():
    """Puts the handlers back and lets them see what came in between. They may raise."""
    while _parked:
        number, handler = next(iter(_parked.items()))
        _set(number, handler)
        _parked.pop(number, None)
    while _late:
        _kill(_getpid(), _late.pop())


def install():
    """Called by the thread that runs the code, once, before the first run."""
    global _main, _inside
    _main = get_ident()
    _inside = False
    _parked.clear()
    del _late[:]
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {SIGINT})
    _set(SIGINT, _nothing)


def enter():
    """From here on a SIGINT interrupts. May raise what the handler of a late signal raises."""
    global _inside
    _inside = True
    _set(SIGINT, _raise)
    if _parked or _late:
        _unpark()


def leave():
    """From here on it does not. Whatever arrives meanwhile is swallowed."""
    global _inside
    for _ in range(1000):
        try:
            _park()
            _set(SIGINT, _nothing)
            break
        except BaseException:
            continue
    _inside = False


def running_here():
    """Whether this is the thread that runs the code, during a run."""
    return _inside and get_ident() == _main


class shielded:
    """Puts signals off while something must not stop half-way; they are seen afterwards."""

    __slots__ = ("_active", "_handler", "_interrupted")

    def __enter__(self):
        self._active = False
        self._interrupted = False
        if not running_here() or _parked:
            return self
        self._handler = _get(SIGINT)
        if self._handler is None:
            return self
        try:
            _set(SIGINT, self._hold)
            _park()
        except BaseException:
            self._release()
            raise
        self._active = True
        return self

    def _hold(self, _number, _frame):
        """Takes the place of the handler for a while."""
        self._interrupted = True

    def _release(self):
        """Back to the handlers of before."""
        try:
            if _parked or _late:
                _unpark()
        finally:
            if _parked:
                _unpark()
            _set(SIGINT, self._handler)

    def __exit__(self, *_exc):
        if self._active:
            self._active = False
            self._release()
            if self._interrupted and callable(self._handler):
                self._handler(SIGINT, None)
        return False
