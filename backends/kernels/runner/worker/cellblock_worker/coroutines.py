"""Top-level await: one event loop for the session, made when it is first needed."""

import sys

_loop = None


def _session_loop():
    """The loop of this session, set as the current one of the thread."""
    import asyncio

    global _loop
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)
    return _loop


class _RunInside:
    """While a run awaits at its top level, lets its plain functions call asyncio.run too.

    A loop inside a loop is refused only because of the mark of the running one, so that is put
    aside for as long as the inner loop runs.
    """

    def __enter__(self):
        import asyncio

        self._module = asyncio
        self._real = real = asyncio.run

        def run(main, **options):
            """asyncio.run, also inside of a run that awaits at its top level."""
            events = asyncio.events
            outer = events._get_running_loop()
            if outer is not _loop:
                return real(main, **options)
            task = _leave_task(outer)
            events._set_running_loop(None)
            try:
                return real(main, **options)
            finally:
                events._set_running_loop(outer)
                _enter_task(outer, task)
                asyncio.set_event_loop(outer)

        self._ours = asyncio.run = run
        return self

    def __exit__(self, *_exc):
        if self._module.run is self._ours:
            self._module.run = self._real
        return False


def _leave_task(loop):
    """Puts the current task aside (newer versions keep one a thread, not one a loop)."""
    import asyncio

    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    return task


def _enter_task(loop, task):
    """Takes it up again."""
    if task is not None:
        import asyncio

        asyncio.tasks._enter_task(loop, task)


def run(coroutine):
    """Runs the coroutine in the session's loop; an interrupt cancels it before it goes on."""
    loop = _session_loop()
    task = loop.create_task(coroutine)
    try:
        with _RunInside():
            return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            _settle(loop, task)
        raise


def _settle(loop, task):
    """Gives a task that was interrupted a moment to clean up."""
    import asyncio

    async def cancel():
        task.cancel()
        await asyncio.wait({task}, timeout=0.3)

    if sys.is_finalizing():
        return
    loop.run_until_complete(cancel())
    if task.done() and not task.cancelled():
        task.exception()


async def steps(plan, namespace, show):
    """Runs the steps of a plan, awaiting those that are coroutines."""
    for code, shown in plan:
        value = eval(code, namespace)
        if code.co_flags & 0x80:
            value = await value
        if shown and value is not None:
            show(value)
