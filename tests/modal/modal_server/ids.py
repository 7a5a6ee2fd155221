"""Ids in the shapes that the service's have; the SDK reads the generation from them."""

import secrets
import string

BASE62 = string.digits + string.ascii_letters
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def short(prefix):
    """`im-` and 22 letters of base 62, as all ids of the first generation are."""
    return f"{prefix}-{_letters(BASE62, 22)}"


def sandbox(generation):
    """A sandbox's: those of the second generation look otherwise."""
    return short("sb") if generation == 1 else f"sb-01{_letters(CROCKFORD, 24)}"


def task(generation):
    """A task's: of the second generation it ends with a V."""
    if generation == 1:
        return f"ta-{_letters(BASE62, 21)}{_letters(string.ascii_lowercase, 1)}"
    return f"ta-01{_letters(CROCKFORD, 24)}V"


def _letters(alphabet, count):
    return "".join(secrets.choice(alphabet) for _ in range(count))


def entry(at):
    """A place in a log."""
    return f"{at}-0"


def place(text):
    """The place of an entry; the beginning when there is none."""
    word = (text or "0-0").partition("-")[0]
    return int(word) if word.isdigit() else 0
