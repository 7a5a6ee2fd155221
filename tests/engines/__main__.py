"""Starts and stops the tests' engines by hand and for run.sh.

    python3 tests/engines start docker [NAME…]     prints what each needs, as JSON
    python3 tests/engines stop [NAME…]             all that run when none is named
    python3 tests/engines status | running | packages | install
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.remove(str(Path(__file__).resolve().parent))

from engines import ENGINES, images, jupyter  # noqa: E402
from engines.common import EngineError, say, which  # noqa: E402


def start(names):
    """Starts these, beside each other; 1 when one of them cannot be."""
    status, answers = 0, {}
    with ThreadPoolExecutor(len(names)) as pool:
        started = {name: pool.submit(ENGINES[name]().start) for name in names}
        for name, future in started.items():
            try:
                answers[name] = future.result()
            except (EngineError, OSError) as problem:
                say(str(problem))
                status = 1
    print(json.dumps(answers, indent=1))
    return status


def stop(names):
    """Stops these."""
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: ENGINES[name]().stop(), names))
    return 0


def install():
    """What no package brings: base images and virtual environments. Debian's packages are there."""
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(jupyter.install)]
        if which("mmdebstrap"):
            made.append(pool.submit(images.archives))
        for future in made:
            future.result()
    return 0


def main(words):
    """The command line."""
    action, names = (words[0] if words else ""), words[1:] or list(ENGINES)
    unknown = [name for name in names if name not in ENGINES]
    if unknown or action not in ("start", "stop", "status", "running", "packages", "install"):
        sys.exit(f"{__doc__}\nengines: {', '.join(ENGINES)}")
    if action == "packages":
        print(*sorted({p for name in names for p in ENGINES[name].packages}))
    elif action == "running":
        print(*(name for name in names if ENGINES[name]().running()))
    elif action == "status":
        print(json.dumps({name: ENGINES[name]().running() for name in names}, indent=1))
    elif action == "install":
        return install()
    else:
        return start(names) if action == "start" else stop(names)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
