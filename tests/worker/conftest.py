"""The interpreters that are there, and a worker of each for the tests."""

import glob
import os
import subprocess
import tempfile

import pytest
from driver import Worker

SYSTEM = "/usr/bin/python3"
VERSIONS = os.environ.get("CELLBLOCK_TEST_PYTHONS", "3.8,3.13").split(",")
PROBE = (
    "import sys, importlib.util as u; "
    "print(sys.version_info >= (3, 8), bool(u.find_spec('IPython')))"
)


def _probe(python):
    """(usable, has IPython)"""
    try:
        text = subprocess.run(
            [python, "-c", PROBE], capture_output=True, text=True, timeout=30, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return False, False
    return text[0] == "True", text[1] == "True"


def _interpreters():
    """name → (python, arguments): one with IPython, and plain ones of several versions."""
    found = {}
    usable, ipython = _probe(SYSTEM)
    if usable:
        found["system-plain"] = (SYSTEM, ("--plain",))
        if ipython:
            found["system-ipython"] = (SYSTEM, ())
            found["system-late"] = (SYSTEM, ("--late",))
    pattern = os.path.expanduser("~/.pyenv/versions/*/bin/python3")
    for python in sorted(glob.glob(pattern)):
        usable, ipython = _probe(python)
        name = python.split("/")[-3]
        if usable and name.rsplit(".", 1)[0] in VERSIONS:
            found[name] = (python, ("--plain",) if ipython else ())
    return found


INTERPRETERS = _interpreters()


@pytest.fixture(scope="session")
def venv():
    """An interpreter without IPython and with pip."""
    folder = tempfile.mkdtemp(prefix="cellblock-venv-")
    subprocess.run([SYSTEM, "-m", "venv", folder], check=True)
    return os.path.join(folder, "bin", "python")


@pytest.fixture(scope="session")
def workers(tmp_path_factory):
    """Workers that tests share, by interpreter; one that died is replaced."""
    alive = {}

    def get(name):
        worker = alive.get(name)
        if worker is None or worker.process.poll() is not None:
            python, args = INTERPRETERS[name]
            alive[name] = worker = Worker(python, tmp_path_factory.mktemp(name), args)
        return worker

    yield get
    for worker in alive.values():
        worker.close()


@pytest.fixture(params=sorted(INTERPRETERS))
def worker(request, workers):
    """A worker that other tests use too: what a test leaves behind must not matter."""
    found = workers(request.param)
    yield found
    if found.process.poll() is None:
        try:
            assert found.run("1 + 1").text == "2"
        except BaseException:
            found.process.kill()
            found.process.wait()
            raise


@pytest.fixture(params=sorted(INTERPRETERS))
def fresh(request, tmp_path):
    """A worker of its own."""
    python, args = INTERPRETERS[request.param]
    found = Worker(python, tmp_path, args)
    yield found
    found.close()


def _system(workers, name):
    if name not in INTERPRETERS:
        pytest.skip("needs %s with IPython: apt-get install python3-ipython" % SYSTEM)
    return workers(name)


@pytest.fixture
def ipython(workers):
    """The worker with IPython."""
    return _system(workers, "system-ipython")


@pytest.fixture
def plain(workers):
    """The same interpreter without it."""
    return _system(workers, "system-plain")


@pytest.fixture(params=["system-ipython", "system-plain"])
def system(request, workers):
    """The interpreter that has matplotlib and pandas, in both shells."""
    return _system(workers, request.param)
