"""What the tests of faults around a Jupyter server get."""

import json
import time

import pytest
from jupyter_faults import FaultsGateway, FaultsServer, Proxy, started
from support.client import Client


@pytest.fixture(scope="session", params=[FaultsServer, FaultsGateway],
                ids=["jupyter-server", "kernel-gateway"])
def server(request):
    """A server without rate limits."""
    yield from started(request.param())


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Nothing of any session is there after a test."""
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    yield
    end = time.monotonic() + 10
    while server and (left := server.left()):
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.fixture
def proxy(server):
    """A proxy before the server."""
    one = Proxy(server.port)
    yield one
    one.close()


@pytest.fixture
def launch(tmp_path):
    """launch(backend, **settings) starts a cellblock; all are ended. What it keeps of its own is in
    a folder of the test's."""
    made, runtime = [], tmp_path / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)

    def begin(backend="jupyter", args=(), env=None, **settings):
        config = tmp_path / f"config-{len(made)}.json"
        default = {"backend": backend, "network": "all", **settings}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        made.append(Client("--config", config, *args, era="modern",
                           env={"XDG_RUNTIME_DIR": str(runtime), **(env or {})}))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.close(30)


@pytest.fixture
def through(proxy, server, launch):
    """A cellblock that reaches the server through the proxy."""
    return launch(url=f"http://127.0.0.1:{proxy.port}", token=server.token)
