"""JSON Web Tokens as the service hands them out: signed, with an end."""

import base64
import hashlib
import hmac
import json
import secrets
import time


def _encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    """Makes tokens of a kind ("auth", "router") and checks them.

    `seconds` is how long those of a kind live, `skew` what is added to this machine's clock, and
    `revoked` the kinds whose tokens so far are of no use any more (see faults.py).
    """

    def __init__(self):
        self.seconds = {"auth": 1200, "router": 600}
        self.skew = 0.0
        self._since = {"auth": 0, "router": 0}
        self._count = 0
        self._key = secrets.token_bytes(32)

    def make(self, kind, **claims):
        """A new token."""
        self._count += 1
        now = time.time() + self.skew
        body = {"iss": "modal", "aud": kind, "iat": int(now), "nth": self._count,
                "exp": int(now + self.seconds.get(kind, 3600)), **claims}
        words = ".".join(_encode(json.dumps(part).encode("ascii"))
                         for part in ({"alg": "HS256", "typ": "JWT"}, body))
        return f"{words}.{self._sign(words)}"

    def check(self, kind, token):
        """The claims of a token that is good, or None."""
        try:
            words, _, signature = token.rpartition(".")
            body = json.loads(_decode(words.split(".")[1]))
        except (ValueError, IndexError):
            return None
        good = (hmac.compare_digest(signature, self._sign(words)) and body["aud"] == kind
                and body["exp"] > time.time() + self.skew and body["nth"] > self._since[kind])
        return body if good else None

    def revoke(self, kind):
        """All tokens of a kind that were made until now are as good as expired."""
        self._since[kind] = self._count

    def _sign(self, words):
        return _encode(hmac.new(self._key, words.encode("ascii"), hashlib.sha256).digest())
