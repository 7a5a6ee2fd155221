"""When a SIGINT means KeyboardInterrupt: while the user's code runs, and at no other time.

Outside of a run the handler does nothing (it is a function, not SIG_IGN, so that children of
background threads do not inherit a deaf SIGINT), and signals that user code puts timers on wait.
"""

import _signal
from _thread import get_ident

_set = _signal.signal
_get = _signal.getsignal
_mask = _signal.pthread_sigmask
SIGINT = _signal.SIGINT
_BLOCK = _signal.SIG_BLOCK
_UNBLOCK = _signal.SIG_UNBLOCK
_SETMASK = _signal.SIG_SETMASK
_TIMERS = frozenset(
    getattr(_signal, name)
    for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGIO")
    if hasattr(_signal, name)
)
_raise = _signal.default_int_handler
_main = None
_inside = False


def _nothing(_number, _frame):
    """A SIGINT with nothing to interrupt."""


def install():
    """Called by the thread that runs the code, once, before the first run."""
    global _main, _inside
    _main = get_ident()
    _inside = False
    _mask(_UNBLOCK, {SIGINT})
    _set(SIGINT, _nothing)
    _mask(_BLOCK, _TIMERS)


def enter():
    """From here on a SIGINT interrupts. May raise what a late signal's handler raises."""
    global _inside
    _inside = True
    _mask(_UNBLOCK, _TIMERS)
    _set(SIGINT, _raise)


def leave():
    """From here on it does not. Whatever arrives meanwhile is swallowed."""
    global _inside
    for _ in range(1000):
        try:
            _mask(_BLOCK, _TIMERS)
            _mask(_UNBLOCK, {SIGINT})
            _set(SIGINT, _nothing)
            break
        except BaseException:
            continue
    _inside = False


def running_here():
    """Whether this is the thread that runs the code, during a run."""
    return _inside and get_ident() == _main


class shielded:
    """Puts signals off while something must not stop half-way; a SIGINT is raised afterwards."""

    __slots__ = ("_active", "_handler", "_old_mask", "_late")

    def __enter__(self):
        self._active = False
        self._late = False
        if not running_here():
            return self
        self._handler = _get(SIGINT)
        if self._handler is None:
            return self
        self._old_mask = _mask(_BLOCK, _TIMERS)
        _set(SIGINT, self._remember)
        self._active = True
        return self

    def _remember(self, _number, _frame):
        """Takes the place of the handler for a while."""
        self._late = True

    def __exit__(self, *_exc):
        if self._active:
            self._active = False
            _set(SIGINT, self._handler)
            _mask(_SETMASK, self._old_mask)
            if self._late and callable(self._handler):
                self._handler(SIGINT, None)
        return False
