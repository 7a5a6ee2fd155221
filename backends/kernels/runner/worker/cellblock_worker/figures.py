"""matplotlib figures without a line of set-up, and without importing matplotlib ourselves.

The backend is agg, by the environment, so that child processes draw too. When pyplot is imported
its show() is replaced; what is open at the end of a run is displayed and closed.
"""

import os
import sys

from cellblock_worker import hooks

PYPLOT = "matplotlib.pyplot"
HELPERS = "matplotlib._pylab_helpers"
MIME = {
    "png": "image/png",
    "retina": "image/png",
    "png2x": "image/png",
    "svg": "image/svg+xml",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "pdf": "application/pdf",
}


class Options:
    """What `%config InlineBackend` sets."""

    formats = ("png",)
    close = True
    print_arguments = {"bbox_inches": "tight"}


options = Options()
_present = None
_shown = {}


def install(present):
    """`present(figure)` displays one figure. Hooks the import of pyplot."""
    global _present
    _present = present
    hooks.after_import(PYPLOT, _patch)


def choose_backend():
    """Before anything can import matplotlib: no window system here."""
    if os.environ.get("MPLBACKEND", "") in ("", "inline") or "module:" in os.environ["MPLBACKEND"]:
        os.environ["MPLBACKEND"] = "agg"


def _patch(module):
    """pyplot.show and Figure.show display here."""

    def show(*args, **kwargs):
        """Displays all open figures and closes them."""
        del args, kwargs
        flush()

    show._cellblock = True
    if not getattr(getattr(module, "show", None), "_cellblock", False):
        module.show = show
    try:
        base = sys.modules["matplotlib.backend_bases"].FigureManagerBase
        base.show = _show_one
    except (KeyError, AttributeError):
        pass


def _show_one(manager):
    """Figure.show(): displays this figure and closes it."""
    if os.getpid() != _owner:
        return
    _display(manager.canvas.figure)
    _helpers().destroy(manager)


_owner = -1


def adopt():
    """Called in the worker: only this process shows figures."""
    global _owner
    _owner = os.getpid()


def _helpers():
    """pyplot's list of open figures, if it is there."""
    module = sys.modules.get(HELPERS)
    return getattr(module, "Gcf", None)


def _display(figure):
    """Shows a figure and remembers that it is seen."""
    _present(figure)


def seen(figure):
    """A figure was displayed: what it is now needs no second showing."""
    _shown[id(figure)] = figure
    figure.stale = False


def _is_seen(figure):
    return _shown.get(id(figure)) is figure and not figure.stale


def flush():
    """Displays the open figures in the order of their numbers, then closes them."""
    helpers = _helpers()
    if helpers is None or not helpers.figs or os.getpid() != _owner:
        return
    managers = sorted(helpers.get_all_fig_managers(), key=_number)
    try:
        for manager in managers:
            if not _is_seen(manager.canvas.figure):
                _display(manager.canvas.figure)
    finally:
        _shown.clear()
        if options.close:
            for manager in managers:
                helpers.destroy(manager)
        else:
            for manager in managers:
                seen(manager.canvas.figure)


def _number(manager):
    number = manager.num
    return number if isinstance(number, int) else sys.maxsize


def is_figure(obj):
    """Whether it is a matplotlib figure, without importing matplotlib."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(obj, getattr(module, "Figure", ()))


def printers(obj):
    """[(mime, function)] for a figure, in the formats that are asked for."""
    if not is_figure(obj):
        return ()
    return [(MIME[name], printer(name)) for name in options.formats if name in MIME]


def printer(name):
    """The function that prints a figure in one format."""

    def to_format(figure):
        return print_figure(figure, name)

    return to_format


def print_figure(figure, name="png"):
    """The bytes (text for SVG) of a figure as inline backends print it; None for an empty one."""
    from io import BytesIO

    seen(figure)
    if not figure.axes and not figure.lines:
        return None
    scale = 2 if name in ("retina", "png2x") else 1
    buffer = BytesIO()
    arguments = dict(
        format="png" if scale == 2 else name,
        dpi=figure.dpi * scale,
        facecolor=figure.get_facecolor(),
        edgecolor=figure.get_edgecolor(),
    )
    arguments.update(options.print_arguments)
    figure.canvas.print_figure(buffer, **arguments)
    seen(figure)
    data = buffer.getvalue()
    if name == "svg":
        return data.decode("utf-8")
    return (data, _half_size(data)) if scale == 2 else data


def _half_size(data):
    """The metadata of a picture with twice the dots."""
    width = int.from_bytes(data[16:20], "big")
    height = int.from_bytes(data[20:24], "big")
    return {"width": width // 2, "height": height // 2}
