"""Runs in the kernel, after SOURCES (name → text) and VERSION: makes the modules and starts."""

import importlib.abc
import importlib.util
import sys

SOURCES, VERSION = globals()["SOURCES"], globals()["VERSION"]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Modules from memory, under names of our own."""

    def find_spec(self, fullname, path=None, target=None):
        """One of ours, or none."""
        if fullname not in SOURCES:
            return None
        origin = "<cellblock>/" + fullname.replace(".", "/") + ".py"
        package = fullname + ".__init__" in SOURCES
        return importlib.util.spec_from_loader(
            fullname, self, origin=origin, is_package=package
        )

    def get_source(self, fullname):
        """For compile and linecache."""
        return SOURCES[fullname]

    def exec_module(self, module):
        """Runs it."""
        exec(compile(SOURCES[module.__name__], module.__spec__.origin, "exec"), vars(module))


def _start():
    """Once for each kernel and version; a helper that is there already is used."""
    there = sys.modules.get("cellblock_jupyter")
    if there is not None and there.VERSION == VERSION:
        return
    if there is not None:
        there.helper.uninstall()
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        import cellblock_jupyter

        cellblock_jupyter.helper = cellblock_jupyter.start()
    except BaseException:
        for name in list(sys.modules):
            if name in SOURCES:
                del sys.modules[name]
        raise


_start()
