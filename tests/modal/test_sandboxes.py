"""The lives of sandboxes at the server that plays Modal: both generations, a pool, names, doctor.

What the backend suite shows of any backend is not asked again here."""

import functools
import json
import subprocess
import time

import pytest
from support.client import Client, binary
from support_modal import ModalServer

LIVE = 0  # the status of a sandbox that has not ended


@pytest.fixture(scope="module")
def shared():
    with ModalServer() as one:
        yield one


def live(server):
    """The names of those that run."""
    return [one["name"] for one in server.state()["sandboxes"] if one["status"] == LIVE]


def wait_for(true, what, seconds=15):
    """Until true() is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def server(shared):
    """Its counts begin with the test; nothing runs there afterwards."""
    shared.ask("reset", {})
    yield shared
    wait_for(lambda: not live(shared), "sandboxes are left")


@pytest.fixture
def launch(server, tmp_path):
    """launch(**environment) starts a server of ours, which ends before the test does."""
    made = []

    def begin(**environment):
        config = tmp_path / f"config-{len(made)}.json"
        config.write_text(json.dumps({"environments": {"default": {"backend": "modal",
                                                                   **environment}}}))
        made.append(Client("--config", config, era="modern", env=variables(server)))
        return made[-1]

    yield begin
    for client in made:
        client.close(timeout=30)


def variables(server):
    """Who we are there."""
    info = server.info
    return {"MODAL_SERVER_URL": info["url"], "MODAL_TOKEN_ID": info["token_id"],
            "MODAL_TOKEN_SECRET": info["token_secret"]}


def calls(server, name):
    """How often an RPC was called."""
    return server.state()["calls"].get(name, 0)


def one_is_ready(server, number):
    """Is the only one that runs the one of this number, with Python in it?"""
    return len(live(server)) == 1 and calls(server, "TaskExecStart") == number


def says(client, code, **arguments):
    """What code prints that must go well."""
    result = client.run(code, **arguments)
    assert result.cause == "ok", result
    return result.text("stdout")


def test_the_second_generation_is_asked_for_as_little_as_can_be(server, launch):
    assert says(launch(), "print(6 * 7)") == "42\n"
    for name in ("SandboxCreateV2", "TaskExecStart", "TaskExecWait", "AuthTokenGet"):
        assert calls(server, name) == 1, name
    for name in ("SandboxGetTaskIdV2", "SandboxGetCommandRouterAccess", "SandboxGetFromNameV2"):
        assert calls(server, name) == 0, name  # all of it comes with the create


@pytest.mark.parametrize("lost", [False, True])
def test_a_gpu_has_the_first_generation(server, launch, lost):
    server.ask("set", {"schedule_seconds": 0.7})
    if lost:
        server.fault("SandboxCreate", "error", when="after")
    assert says(launch(gpu="T4"), "print(6 * 7)") == "42\n"
    assert (calls(server, "SandboxCreate"), calls(server, "SandboxCreateV2")) == (1, 0)
    assert calls(server, "SandboxGetFromName") == (1 if lost else 0)
    assert calls(server, "SandboxGetTaskId") > 1  # until there is one
    assert calls(server, "TaskGetCommandRouterAccess") == 1


def test_a_pool_of_sandboxes_for_one_run_each(server, launch):
    client = launch(backend="modal-ephemeral", pool=1)
    code = ("import os; print(os.path.exists('/workspace/mine')); "
            "open('/workspace/mine', 'w').close()")
    assert says(client, code) == "False\n"
    for made in (2, 3):
        wait_for(functools.partial(one_is_ready, server, made), "no sandbox is kept ready")
        assert says(client, code) == "False\n"


def test_without_a_pool_nothing_is_kept_ready(server, launch):
    client = launch(backend="modal-ephemeral")
    says(client, "")
    says(client, "")
    wait_for(lambda: not live(server), "a sandbox is left after its run")
    assert calls(server, "SandboxCreateV2") == 2


@pytest.mark.parametrize("lost", [False, True])
def test_a_name_of_the_user_s(server, launch, lost):
    client = launch(sandbox_name="mine")
    if lost:
        server.fault("SandboxCreateV2", "error", when="after")
    session = client.run("x = 42").session
    assert live(server) == ["mine"]
    refused = launch(sandbox_name="mine").run("1")
    assert refused.is_error and 'has a sandbox "mine" already' in refused.text("note"), refused
    assert live(server) == ["mine"]
    assert says(client, "print(x)", session=session) == "42\n"


def test_doctor(server, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"environments": {"default": {"backend": "modal"}}}))

    def checks(**env):
        done = subprocess.run([binary(), "doctor", "--json", "--config", config], text=True,
                              capture_output=True, check=False, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **env})
        return {one["name"]: one for one in json.loads(done.stdout)["checks"]}

    good = checks(**variables(server))
    for name in ("credentials", "service", "router", "left sandboxes", "sandbox"):
        assert good[name]["state"] == "ok", good
    assert server.info["token_secret"] not in str(good)
    bad = checks()
    assert bad["credentials"]["state"] == "failed", bad
    assert bad["credentials"]["fix"] == "modal token new"
