"""The sandboxes under attack, one server for each way to make them."""

import contextlib

import pytest
from attack import IS_ROOT, NAMESPACED, VARIANTS, server
from engine import IMAGE, Engine, available, far, running
from engines import ENGINES


@pytest.fixture(scope="session")
def servers():
    """Gives the server of a variant; all are closed and checked at the end."""
    with contextlib.ExitStack() as stack:
        made = {}

        def get(variant):
            if variant not in made:
                made[variant] = stack.enter_context(server(variant))
            return made[variant]

        get.cells = {}
        yield get


def pytest_generate_tests(metafunc):
    """`variant` is every way to make a cell, or those that the test's mark `only` names."""
    if "variant" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("variant", mark.args if mark else VARIANTS, scope="session")


def pytest_configure(config):
    """Says what our marks mean."""
    config.addinivalue_line("markers", "only(*variants): the ways to make a cell that are meant")
    config.addinivalue_line("markers", "engine(name): attacks a sandbox of an engine of the tests")


def pytest_collection_modifyitems(config, items):
    """An ordinary user reaches no engine of root's: what needs one is left out."""
    def fits(item):
        mark = item.get_closest_marker("engine")
        return mark is None or IS_ROOT or not ENGINES[mark.args[0]].root_only

    config.hook.pytest_deselected(items=[item for item in items if not fits(item)])
    items[:] = [item for item in items if fits(item)]


@pytest.fixture
def target(servers, variant):
    """The server of the variant."""
    return servers(variant)


@pytest.fixture
def cell(servers, variant):
    """A cell that attacks which leave it usable share."""
    if variant not in servers.cells:
        servers.cells[variant] = servers(variant).cell()
        servers.cells[variant].open()
    return servers.cells[variant]


@pytest.fixture
def fresh(target):
    """A cell of the test's own; reset at the end."""
    one = target.cell()
    yield one
    one.reset()


@pytest.fixture
def neighbours(target):
    """Two cells of one server."""
    two = target.cell(), target.cell()
    yield two
    for one in two:
        one.reset()


@pytest.fixture(scope="module")
def docker():
    """The API of a Docker engine that is the tests' own."""
    if reason := available("docker"):
        pytest.skip(f"{reason} (or tests/run.sh --install)")
    with running("docker") as (_, info):
        api = Engine(info["host"])
        api.gateway = info["gateway"]
        yield api


@pytest.fixture(scope="module")
def walled(docker):
    """A server whose sandboxes are containers; closing it leaves none."""
    with far("docker", environment={"image": IMAGE, "host": f"unix://{docker.path}"}) as one:
        one.client.run("1", timeout=100)
        yield one
        pid = one.client.pid
    assert not docker.ours(pid), docker.ours(pid)


@pytest.fixture(scope="module")
def box(walled):
    """A container that attacks which leave it usable share."""
    one = walled.cell()
    one.open()
    return one


@pytest.fixture
def other(walled):
    """A container of the test's own."""
    one = walled.cell()
    yield one
    one.reset()


namespaced = pytest.mark.only(*NAMESPACED)
