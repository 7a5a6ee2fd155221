"""What the tests of cellblock on the played Modal share."""

import pytest
from support_modal import ModalServer, live, wait_for


@pytest.fixture(scope="module")
def shared():
    with ModalServer() as one:
        yield one


@pytest.fixture
def server(shared):
    """As at its start; nothing runs there afterwards."""
    shared.ask("reset", {})
    yield shared
    wait_for(lambda: not live(shared), "sandboxes are left")
