"""Sends DISPLAY, CLEAR and NOTE frames, and the display() of the plain shell."""

import os
import sys

from cellblock_worker import bundles, frames, interrupts
from cellblock_worker.errors import cut_middle
from cellblock_worker.frames import safe_text

NOTE_CAP = 8 * 1024
NOTES_PER_RUN = 50
_getpid = os.getpid


class Publisher:
    """The one way out for everything rich. Without a channel (warm-up) it throws things away."""

    def __init__(self):
        self.channel = None
        self.stdio = None
        self.pid = -1
        self._notes = 0

    def attach(self, channel, stdio):
        """Called in the worker."""
        self.channel = channel
        self.stdio = stdio
        self.pid = _getpid()

    def new_run(self):
        """Each run has its own allowance of notes."""
        self._notes = 0

    def foreign(self):
        """Whether this process is a child that the user's code forked."""
        return self.channel is not None and _getpid() != self.pid

    def note(self, text):
        """Something the user should know."""
        self._notes += 1
        if self.channel is None or self.foreign() or self._notes > NOTES_PER_RUN:
            return
        self.channel.send(frames.NOTE, {"text": cut_middle(safe_text(text), NOTE_CAP)})

    def publish(self, kind, data, metadata=None, display_id=None):
        """Sends one bundle. In a forked child its text is printed instead."""
        if self.channel is None:
            return
        if self.foreign():
            if "text/plain" in data:
                sys.stdout.write("%s\n" % (data["text/plain"],))
            return
        kept = bundles.fit(data, self.note)
        if not kept:
            return
        payload = {
            "kind": kind,
            "data": kept,
            "metadata": frames.jsonable(metadata) if metadata else {},
            "display_id": None if display_id is None else safe_text(display_id),
        }
        self._send(frames.DISPLAY, payload)

    def clear(self, wait=False):
        """clear_output as Jupyter defines it; the reader of the frames does the clearing."""
        if self.channel is not None and not self.foreign():
            self._send(frames.CLEAR, {"wait": bool(wait)})

    def _send(self, kind, payload):
        """In order with the text when the thread that runs the code asks for it."""
        sync = interrupts.running_here()
        payload["sync"] = sync
        data = frames.encode(payload)
        while len(data) > frames.PAYLOAD_CAP:
            parts = payload["data"]
            mime = max(parts, key=lambda name: len(frames.encode(parts[name])))
            del parts[mime]
            self.note("the %s payload was left out: the display is over the limit" % mime)
            data = frames.encode(payload)
        if sync:
            self.stdio.flush()
        self.channel.send(kind, data, wait=sync)


class Handle:
    """What display(…, display_id=…) returns: shows the display again with other contents."""

    def __init__(self, show, display_id):
        self._show = show
        self.display_id = display_id

    def display(self, obj, **options):
        """Shows `obj` as a further display with the same id."""
        self._show(obj, display_id=self.display_id, **options)

    def update(self, obj, **options):
        """Replaces what the display shows."""
        self._show(obj, display_id=self.display_id, update=True, **options)

    def __repr__(self):
        return "<DisplayHandle display_id=%s>" % self.display_id


def plain_functions(publisher, printers):
    """display, update_display and clear_output for interpreters without IPython."""

    def show(obj, kind, metadata, display_id, raw):
        found = (obj, {}) if raw else bundles.describe(obj, publisher.note, printers)
        if found is not None:
            data, own = found
            publisher.publish(kind, data, dict(own, **(metadata or {})), display_id)

    def display(
        *objs, include=None, exclude=None, metadata=None, transient=None, display_id=None,
        raw=False, clear=False, update=False
    ):
        """Shows objects in the richest form they have."""
        del include, exclude
        if transient and display_id is None:
            display_id = transient.get("display_id")
        if display_id is True:
            display_id = os.urandom(16).hex()
        if clear:
            publisher.clear(True)
        if update and display_id is None:
            raise TypeError("display_id required for update=True")
        for obj in objs:
            show(obj, "update" if update else "display", metadata, display_id, raw)
        return None if display_id is None else Handle(display, display_id)

    def update_display(obj, *, display_id, **options):
        """Replaces what the display with this id shows."""
        display(obj, display_id=display_id, update=True, **options)

    def clear_output(wait=False):
        """Clears what the run has put out so far; with `wait` when the next output comes."""
        publisher.clear(wait)

    for function in (display, update_display, clear_output):
        function.__module__ = "builtins"
        function.__qualname__ = function.__name__
    return {f.__name__: f for f in (display, update_display, clear_output)}
