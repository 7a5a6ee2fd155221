#!/usr/bin/env python3
"""Makes the code of the request that puts our helper into a Python kernel.

usage: bundle.py OUTPUT LOADER MODULE.py... -- PACKAGE_FILE.py...

One expression without a name of its own: the loader and the sources of all modules, compressed.
"""
import ast
import base64
import hashlib
import sys
import zlib
from pathlib import Path


def named(modules, package):
    """Module name → text."""
    sources = {Path(path).stem: Path(path).read_text(encoding="utf-8") for path in modules}
    for path in map(Path, package):
        name = f"{path.parent.name}.{path.stem}"
        sources[name] = path.read_text(encoding="utf-8")
        if path.stem == "__init__":
            sources[path.parent.name] = sources[name]
    return sources


def missing(sources, package):
    """Modules of the package that those here import when they are imported, and that are not."""
    name = Path(package[0]).parent.name
    there = {f"{name}.{path.stem}" for path in Path(package[0]).parent.glob("*.py")}
    wanted = set()
    for text in sources.values():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == name:
                wanted |= {node.module} | {f"{node.module}.{found.name}" for found in node.names}
    return sorted((wanted & there) - set(sources))


def main(argv):
    """Writes argv[0]; returns the exit status."""
    output, loader, rest = argv[0], argv[1], argv[2:]
    split = rest.index("--")
    sources = named(rest[:split], rest[split + 1:])
    if lacking := missing(sources, rest[split + 1:]):
        sys.exit(f"{', '.join(lacking)}: to be added to the list in meson.build")
    version = hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]
    sources["cellblock_jupyter"] = sources["cellblock_jupyter"].replace("@VERSION@", version)
    text = f"SOURCES = {sources!r}\nVERSION = {version!r}\n"
    text += Path(loader).read_text(encoding="utf-8")
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")
    code = ('exec(__import__("zlib").decompress(__import__("base64").b64decode('
            f'"{packed}")).decode(), {{"__name__": "cellblock_setup"}})\n')
    Path(output).write_text(code, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
