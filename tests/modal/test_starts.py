"""What a sandbox starts with and who reaches it: first process, probe, ports, registries."""

import json
import socket
import subprocess
import sys

import pytest
from support.client import Client, binary
from support_modal import ModalServer

MAKE_SECRETS = """
import modal
modal.Secret.objects.create("login", {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"})
modal.Secret.objects.create("ecr", {"AWS_ROLE_ARN": "r", "AWS_REGION": "e"})
"""
PRIVATE = {"image": "private.example/it:1", "registry_secret": "login"}
GENERATIONS = pytest.mark.parametrize("v1", [{}, {"gpu": "H100"}], ids=["v2", "v1"])
LATE = ["sh", "-c", "sleep 0.8; touch /tmp/ready; exec sleep 1000"]


@pytest.fixture(scope="module")
def server():
    with ModalServer() as one:
        subprocess.run([sys.executable, "-c", MAKE_SECRETS], check=True, timeout=60,
                       env=one.environment(), capture_output=True)
        yield one


@pytest.fixture(autouse=True)
def nothing_is_left(server):
    """Its cellblock has ended by then."""
    yield
    assert not [one["id"] for one in server.state()["sandboxes"] if not one["status"]]
    server.ask("reset", {})


def written(path, environment):
    """A config file."""
    default = {"backend": "modal", "pool": 0, **environment}
    path.write_text(json.dumps({"environments": {"default": default}}))
    return path


@pytest.fixture
def run(server, tmp_path):
    """Runs code in an environment: how it ended."""
    def once(code, **environment):
        config = written(tmp_path / "config.json", environment)
        return subprocess.run([binary(), "run", "--config", config, "-"], input=code, text=True,
                              capture_output=True, env=server.environment(), timeout=100,
                              check=False)
    return once


@pytest.fixture
def client(server, tmp_path, nothing_is_left):
    """client(**environment) is a cellblock with one; closed at the end."""
    made = []

    def begin(**environment):
        config = written(tmp_path / "serve.json", environment)
        made.append(Client("--config", config, era="modern", env=server.environment()))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.close(timeout=30)


def newest(server):
    """The sandbox that was made last."""
    return server.state()["sandboxes"][-1]


@GENERATIONS
def test_where_it_runs(server, run, v1):
    done = run("import os\nprint(len(os.environ['MODAL_IDENTITY_TOKEN'].split('.')))",
               network="all", cloud="aws", runtime="vm", proxy="a-proxy", h2_ports=[50051],
               unencrypted_ports=[22], ports=[80], custom_domain="boxes.example.org",
               inbound_cidr_allowlist=["203.0.113.0/24", "::1"],
               include_oidc_identity_token=True, **v1)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    sandbox = newest(server)
    told = sandbox["definition"]
    assert sandbox["generation"] == (1 if v1 else 2)
    assert (told["cloud_provider_str"], told["runtime"], told["custom_domain"]) == (
        "aws", "vm", "boxes.example.org")
    assert told["proxy_id"].startswith("pr-") and told["include_oidc_identity_token"]
    assert told["inbound_cidr_allowlist"] == ["203.0.113.0/24", "::1/128"]
    assert told["open_ports"]["ports"] == [
        {"port": 80}, {"port": 22, "unencrypted": True},
        {"port": 50051, "tunnel_type": "TUNNEL_TYPE_H2"}]


@pytest.mark.parametrize("allowed", [None, "127.0.0.0/8", "203.0.113.0/24"])
def test_who_reaches_a_port(server, client, allowed):
    """A server of the sandbox's own, which is ready before any code is run."""
    listed = {"inbound_cidr_allowlist": [allowed]} if allowed else {}
    one = client(network="all", unencrypted_ports=[8000], readiness_probe={"port": 8000},
                 sandbox_command=["python3", "-m", "http.server", "8000"], **listed)
    assert one.run("1 + 1").text("result") == "2"
    port, encrypted = newest(server)["tunnels"]["8000"]
    assert not encrypted
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        try:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            answer = connection.recv(100)
        except ConnectionError:
            pass
    assert answer.startswith(b"HTTP/1.0 200") == (allowed != "203.0.113.0/24")


@GENERATIONS
@pytest.mark.parametrize("backend", ["modal", "modal-ephemeral"])
def test_a_start_waits_until_it_is_ready(run, v1, backend):
    done = run("import os\nprint(os.path.exists('/tmp/ready'))", backend=backend,
               sandbox_command=LATE, readiness_probe={"command": ["test", "-e", "/tmp/ready"],
                                                      "interval_ms": 20}, **v1)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@GENERATIONS
def test_one_that_is_never_ready(run, v1):
    done = run("print(1)", readiness_probe={"port": 5432, "timeout_seconds": 1}, **v1)
    assert done.returncode != 0 and not done.stdout
    for words in ("readiness_probe", "not ready within 1 s", "port 5432"):
        assert words in done.stderr, done.stderr


@pytest.mark.parametrize("probe", [{}, {"readiness_probe": {"port": 5432}}])
def test_a_first_process_that_ends(run, probe):
    """The service's word says so, also to who waits for the probe."""
    done = run("import time\ntime.sleep(60)", sandbox_command=["sh", "-c", "sleep 0.3; exit 7"],
               **probe)
    assert done.returncode != 0 and "the sandbox failed" in done.stderr, done.stderr
    assert "exit code 7" in done.stderr


@pytest.mark.parametrize("fault", [{"what": "error", "times": 2},
                                   {"what": "close"}, {"what": "expired"}])
def test_a_probe_is_asked_again(server, run, fault):
    server.fault("SandboxWaitUntilReady", **fault)
    done = run("print(1)", readiness_probe={"command": ["true"]})
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_probe_that_nobody_can_answer(server, run):
    server.fault("SandboxWaitUntilReady", "error", status="PERMISSION_DENIED", message="not you")
    done = run("print(1)", readiness_probe={"command": ["true"]})
    assert done.returncode != 0 and "readiness_probe" in done.stderr and "not you" in done.stderr


def test_nobody_waits_for_it_any_more(client):
    """It is cancelled in the middle of the wait."""
    one = client(readiness_probe={"command": ["false"]})
    id_ = one.begin_tool("run_code", {"code": "1"}, "p")
    one.wait_notification("notifications/progress",
                          lambda p: "readiness_probe" in p.get("message", ""), 20)
    one.cancel(id_)
    one.close(timeout=30)


def test_a_private_registry(run):
    done = run("print(1)", **PRIVATE)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    done = run("print(1)", image=PRIVATE["image"])
    assert done.returncode != 0 and "unauthorized" in done.stderr
    done = run("print(1)", image=PRIVATE["image"], registry_secret="ecr")
    assert done.returncode != 0 and "unauthorized" in done.stderr  # ECR's, but it has no keys here


@pytest.mark.parametrize(("environment", "words"), [
    ({**PRIVATE, "registry_secret": "nobody"}, ("registry_secret", "nobody", "secret list")),
    ({"proxy": "nobody", "network": "all"}, ("proxy", "nobody", "dashboard")),
])
def test_what_the_service_does_not_have(run, environment, words):
    done = run("print(1)", **environment)
    assert done.returncode != 0 and all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize(("environment", "words"), [
    ({"inbound_cidr_allowlist": ["10.0.0.0/8"]}, ("inbound_cidr_allowlist", "none")),
    ({"inbound_cidr_allowlist": ["here"], "network": "all"}, ("inbound_cidr_allowlist", "here")),
    ({"h2_ports": [80]}, ("h2_ports", "none")),
    ({"readiness_probe": {"port": 1, "command": ["x"]}}, ("readiness_probe", "either")),
    ({"registry_secret": "login"}, ("registry_secret", "image")),
    ({"runtime": "runsc"}, ("runtime", "gvisor")),
    ({"backend": "docker", "proxy": "p"}, ("proxy", "no such setting")),
])
def test_what_is_refused_early(server, run, environment, words):
    """Nothing is asked of the service."""
    before = server.state()["calls"]
    done = run("print(1)", **environment)
    assert done.returncode in (2, 3) and not done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert server.state()["calls"] == before
