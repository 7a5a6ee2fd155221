"""The sandboxes under attack, one server for each way to make them."""

import contextlib

import pytest
from attack import NAMESPACED, VARIANTS, server


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


namespaced = pytest.mark.only(*NAMESPACED)
