"""MIME bundles: what an object looks like, and what of it fits into a frame."""

from binascii import b2a_base64

from cellblock_worker.errors import cut_middle, value_text
from cellblock_worker.frames import encode, jsonable, safe_text

PAYLOAD_LIMIT = 8 * 1024 * 1024
TEXT_LIMIT = 1024 * 1024
PLAIN = "text/plain"
REPRS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
_SIMPLE = frozenset((int, float, bool, str, complex, bytes, list, dict, tuple, set, type(None)))


def raised_note(method, obj, exc):
    """The words for a representation that raised."""
    return "%s of %s raised %s: %s; the display goes without it" % (
        method,
        type(obj).__name__,
        type(exc).__name__,
        value_text(exc),
    )


def _method(obj, name):
    """The bound method if the type of `obj` defines it (a class is not its own instance)."""
    if isinstance(obj, type) or not callable(getattr(type(obj), name, None)):
        return None
    return getattr(obj, name, None)


def plain_text(obj, note):
    """repr(obj), or a stand-in if that raises."""
    try:
        text = repr(obj)
        return text if type(text) is str else str(text)
    except Exception as error:
        note(raised_note("__repr__", obj, error))
        return object.__repr__(obj)


def _call(obj, name, note, **options):
    """What the method gives, or None: it is absent, declines or raises."""
    try:
        method = _method(obj, name)
        return None if method is None else method(**options)
    except NotImplementedError:
        return None
    except Exception as error:
        note(raised_note(name, obj, error))
        return None


def _merge(mime, found, data, metadata):
    """Takes the value of one representation, which may come with metadata."""
    if isinstance(found, tuple) and len(found) == 2:
        found, extra = found
        if isinstance(extra, dict) and extra:
            metadata[mime] = extra
    if found is not None:
        data[mime] = found


def describe(obj, note, printers=None):
    """(data, metadata) of an object; None if it has displayed itself."""
    if type(obj) in _SIMPLE:
        return {PLAIN: plain_text(obj, note)}, {}
    if not isinstance(obj, type) and _method(obj, "_ipython_display_") is not None:
        if _shows_itself(obj, note):
            return None
    data, metadata = {}, {}
    bundle = _call(obj, "_repr_mimebundle_", note, include=None, exclude=None)
    if isinstance(bundle, tuple) and len(bundle) == 2:
        bundle, metadata = bundle[0], dict(bundle[1] or {})
    if isinstance(bundle, dict):
        data.update(bundle)
    for mime, printer in (printers(obj) if printers is not None else ()):
        _merge(mime, printer(obj), data, metadata)
    for mime, name in REPRS:
        if mime not in data:
            _merge(mime, _call(obj, name, note), data, metadata)
    if PLAIN not in data:
        data[PLAIN] = plain_text(obj, note)
    return data, metadata


def _shows_itself(obj, note):
    """Whether `_ipython_display_` did its work."""
    try:
        obj._ipython_display_()
        return True
    except NotImplementedError:
        return False
    except Exception as error:
        note(raised_note("_ipython_display_", obj, error))
        return False


def _payload(mime, value):
    """One value as what goes into a frame."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return str(b2a_base64(value, newline=False), "ascii")
    if isinstance(value, str):
        value = safe_text(value)
        return cut_middle(value, TEXT_LIMIT) if mime == PLAIN else value
    return jsonable(value)


def _size(value):
    """How many bytes a payload takes."""
    if type(value) is str:
        size = len(value)
        if size > PAYLOAD_LIMIT // 4 and not value.isascii():
            size = len(value.encode("utf-8", "replace"))
        return size
    return len(encode(value))


def fit(data, note):
    """The payloads of a frame, without those that are too big, each of which gets a note."""
    kept = {}
    for mime, value in data.items():
        mime = safe_text(mime)
        try:
            payload = _payload(mime, value)
        except Exception as error:
            note("the %s payload was left out: %s" % (mime, value_text(error)))
            continue
        if type(payload) is not str or len(payload) > PAYLOAD_LIMIT // 4:
            size = _size(payload)
            if size > PAYLOAD_LIMIT:
                note(
                    "a %s payload of %d bytes was left out: the limit for one is %d bytes"
                    % (mime, size, PAYLOAD_LIMIT)
                )
                continue
        kept[mime] = payload
    return kept
