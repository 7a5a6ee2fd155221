"""The first of us to run at the far end of a byte stream: makes the package importable from memory.

Run by the bootstrap (supervised_command.c) with `files`, name → bytes of the archive that came over
the stream. Nothing is written anywhere: no folder has to be writable, nothing has to be removed.
"""

import marshal
import sys
from importlib.machinery import ModuleSpec

PACKAGE = "cellblock_worker"
ROOT = "<cellblock>/"


class Finder:
    """Finds and loads the package's modules in `files`."""

    def __init__(self, files):
        self.files = files

    def _path(self, name):
        """Where the module is in the archive; None when it is not one of ours."""
        if name == PACKAGE:
            return PACKAGE + "/__init__.py"
        path = name.replace(".", "/") + ".py"
        return path if name.startswith(PACKAGE + ".") and self._has(path) else None

    def _has(self, path):
        """Whether it is there, as source or as bytecode (path + "c")."""
        return path in self.files or path + "c" in self.files

    def find_spec(self, name, _path=None, _target=None):
        """See importlib.abc.MetaPathFinder."""
        path = self._path(name)
        if path is None:
            return None
        spec = ModuleSpec(name, self, origin=ROOT + path, is_package=name == PACKAGE)
        spec.has_location = True
        return spec

    def create_module(self, _spec):
        """The usual kind of module."""
        return None

    def exec_module(self, module):
        """Runs the module's code."""
        path = self._path(module.__name__)
        compiled = self.files.get(path + "c")
        if compiled is not None:
            code = marshal.loads(compiled)
        else:
            code = compile(self.files[path], ROOT + path, "exec", 0, True)
        exec(code, module.__dict__)

    def get_source(self, name):
        """For whoever shows source lines; None where there is only bytecode."""
        path = self._path(name)
        return self.files[path].decode("utf-8") if path in self.files else None


def start(files):
    """Imports the supervisor and hands the stream over to it."""
    sys.meta_path.insert(0, Finder(files))
    from cellblock_worker import supervisor

    supervisor.main()


if "files" in globals():
    start(globals()["files"])
