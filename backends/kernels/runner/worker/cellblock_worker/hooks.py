"""What is done when a module has been imported, without importing it ourselves."""

import sys


def after_import(name, function):
    """Calls `function(module)` when the module is imported, at once if it is there already."""
    module = sys.modules.get(name)
    if module is not None:
        function(module)
        return
    finder = next((one for one in sys.meta_path if isinstance(one, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.functions[name] = function


class _Finder:
    """Finds the modules as the others do, with a loader of ours; nothing else is touched."""

    def __init__(self):
        self.functions = {}

    def find_spec(self, name, path=None, target=None):
        """See importlib.abc.MetaPathFinder."""
        function = self.functions.get(name)
        if function is None:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, function)
                return spec
        return None


class _Loader:
    """The real loader, and a touch afterwards."""

    def __init__(self, loader, function):
        self._loader = loader
        self._function = function

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        """As the real one."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Runs the module, then the function."""
        self._loader.exec_module(module)
        module.__loader__ = module.__spec__.loader = self._loader
        self._function(module)
