"""Prints one line of JSON about the interpreter that runs it: which python this really is."""
import importlib.util
import json
import os
import platform
import sys


def has(module):
    """True when `module` can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def folders():
    """The interpreter's own folders, absolute, real path and the name it goes by, each once."""
    names = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix,
             os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))]
    found = []
    for name in names:
        for path in (os.path.abspath(name), os.path.realpath(name)):
            if path not in found and os.path.isdir(path):
                found.append(path)
    return found


print(json.dumps({
    "executable": sys.executable,
    "version": platform.python_version(),
    "number": list(sys.version_info[:2]),
    "implementation": platform.python_implementation(),
    "folders": folders(),
    "modules": [name for name in ("ctypes", "IPython", "pip", "pandas", "matplotlib")
                if has(name)],
}))
