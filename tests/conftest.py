"""What every Python suite gets: the harness, a time limit for each test, clients as fixtures."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ["XDG_CONFIG_HOME"] = "/proc/none"  # nothing is there, and nobody can make it

from support.client import Client, binary  # noqa: E402


def pytest_collection_modifyitems(items):
    """No test may hang: 120 s each unless it says otherwise."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120))


def pytest_configure():
    """Refuses to run without the program under test."""
    if not os.access(binary(), os.X_OK):
        pytest.exit(f"{binary()} is missing: meson setup build && meson compile -C build, or set "
                    "CELLBLOCK", returncode=4)


@pytest.fixture
def client():
    """A server with the 2025-11-25 handshake done; closed and checked at the end."""
    with Client() as one:
        yield one


@pytest.fixture
def modern():
    """A server that is talked to as 2026-07-28 says."""
    with Client(era="modern") as one:
        yield one


@pytest.fixture
def start():
    """Starts servers, `start("--structured", version=…)`; all are closed and checked at the end."""
    clients = []

    def begin(*args, **options):
        clients.append(Client(*args, **options))
        return clients[-1]

    yield begin
    for one in clients:
        if one.process.poll() is None:
            one.close()
