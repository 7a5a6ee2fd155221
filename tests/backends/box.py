"""A session as the tests see it."""

import re
import textwrap


class Box:
    """One session of a server: made by its first call, and its id passed on from then."""

    def __init__(self, server, **defaults):
        self.server, self.id, self.defaults = server, None, defaults

    def named(self, code):
        """The code without its indent. A sandbox that has no root of its own has its workspace
        elsewhere, as the working directory: there files are named relative to that."""
        code = textwrap.dedent(code)
        if not self.server.own_root:
            code = re.sub(r"(?<![\w./-])/workspace\b", ".", code)
        return code

    def arguments(self, **more):
        """The arguments of a call, with the session's id once it is known."""
        return {**self.defaults, **({"session": self.id} if self.id else {}), **more}

    def _know(self, result):
        if self.id is None and result.session:
            self.id = result.session
        return result

    def call(self, tool, timeout=60, token=None, **arguments):
        """Any tool of the session."""
        return self._know(self.server.tool(tool, self.arguments(**arguments), timeout, token))

    def run(self, code, timeout=60, token=None, **arguments):
        """run_code, whatever becomes of it; the code may be indented."""
        return self.call("run_code", timeout, token, code=self.named(code), **arguments)

    def ok(self, code, **arguments):
        """run_code that must succeed."""
        result = self.run(code, **arguments)
        assert result.cause == "ok", result
        assert not result.is_error
        return result

    def value(self, code, **arguments):
        """The text of the last expression of code that must succeed."""
        return self.ok(code, **arguments).text("result")

    def printed(self, code, **arguments):
        """What code that must succeed printed on stdout."""
        return self.ok(code, **arguments).text("stdout")

    def shell(self, code, **arguments):
        """A shell run, whatever becomes of it."""
        return self.run(code, language="shell", **arguments)

    def begin(self, code, token=None, **arguments):
        """Starts a run and returns the request's id; the session must be known."""
        assert self.id, "call `open` first"
        return self.server.begin_tool(
            "run_code", self.arguments(code=self.named(code), **arguments), token)

    def open(self):
        """Makes the session and starts its sandbox."""
        self.ok("None")
        return self

    def share(self, source, dest, type="copy", **arguments):
        """add_share, whatever becomes of it."""
        return self.call("add_share", source=str(source), dest=dest, type=type, **arguments)

    def bring(self, source, dest, type="copy", **arguments):
        """add_share that must succeed."""
        result = self.share(source, dest, type, **arguments)
        assert not result.is_error, result
        return result

    def reset(self, **arguments):
        """reset_session."""
        return self.call("reset_session", **arguments)

    def end(self):
        """Gives back what the session holds."""
        if self.id:
            self.reset(keep_shares=False)
