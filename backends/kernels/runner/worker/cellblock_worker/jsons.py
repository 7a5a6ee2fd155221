"""JSON by the two functions in C that the module json stands on.

Importing that module brings in others (re, enum, …) which take as long as the start of a Python.
Where those functions are not to be had, or are not what they were, it is used all the same.
"""

_SPACE = " \t\n\r"


class _Context:
    """What json.JSONDecoder is to the scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {
        "NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")
    }.__getitem__
    memo = {}


def _small():
    """(encode, decode) without the module json; raises when that cannot be."""
    from _json import encode_basestring, make_encoder, make_scanner

    pieces = make_encoder(None, _refuse, encode_basestring, None, ": ", ", ", False, False, False)
    scan = make_scanner(_Context)

    def encode(value):
        """The JSON text of an object."""
        return "".join(pieces(value, 0))

    def decode(text):
        """The value of a JSON text; raises ValueError."""
        try:
            value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
        except StopIteration:
            raise ValueError("no JSON") from None
        if text[end:].strip(_SPACE):
            raise ValueError("more than one JSON value")
        return value

    sample = {"a": [1, -2.5, None, True, "\"é\n"], "b": {}}
    if encode(sample) != '{"a": [1, -2.5, null, true, "\\"é\\n"], "b": {}}':
        raise ValueError
    if decode(" %s\n" % encode(sample)) != sample:
        raise ValueError
    return encode, decode


def _refuse(value):
    """For what has no JSON."""
    raise TypeError("%s has no JSON" % type(value).__name__)


def _usual():
    """The same by the module json."""
    import json

    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
    return encoder.encode, json.JSONDecoder().decode


try:
    encode, decode = _small()
except Exception:
    encode, decode = _usual()
