"""What a sandbox starts with and who reaches it: first process, probe, ports, registries."""

import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

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

    def begin(words=(), variables=None, **environment):
        config = written(tmp_path / "serve.json", environment)
        made.append(Client("--config", config, *words, era="modern",
                           env=server.environment(**(variables or {}))))
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


SERVE = """
import http.server, threading
def serve(port):
    http.server.ThreadingHTTPServer(
        ("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
open("hello.txt", "w").write("hello")
threading.Thread(target=serve, args=(8000,), daemon=True).start()
print("begun", flush=True)
serve(8001)
"""
SESSIONS = ("--toolsets", "core,sessions,runs")


def get(address, cafile):
    """The file that SERVE's servers have; they may not listen yet."""
    context = ssl.create_default_context(cafile=cafile)
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{address}/hello.txt", timeout=5, context=context) as one:
                return one.read()
        except OSError:
            assert time.monotonic() < deadline, address
            time.sleep(0.1)


def facts(one, session):
    """get_session."""
    return json.loads(one.tool("get_session", {"session": session}).text())


def told(one, session):
    """The facts, once the service has said where the ports are."""
    deadline = time.monotonic() + 30
    while not (known := facts(one, session)).get("ports") and "ports_note" not in known:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return known


@GENERATIONS
def test_where_its_ports_are_reached(server, client, v1):
    """Told once in a note, and whenever somebody looks; with TLS and without."""
    one = client(SESSIONS, network="all", ports=[8000], unencrypted_ports=[8001], **v1)
    run = one.tool("run_code", {"code": SERVE, "background": True})
    session, name = run.session, run.meta["cellblock/run"]["run"]
    ports = told(one, session)["ports"]
    opened = newest(server)["tunnels"]
    assert ports == {"8000": f"https://localhost:{opened['8000'][0]}",
                     "8001": f"tcp://localhost:{opened['8001'][0]}"}
    polls = [one.tool("poll_run", {"run": name, "wait_seconds": 0}).text() for _ in range(2)]
    assert ports["8000"] in polls[0] and ports["8001"] in polls[0]
    assert ports["8000"] not in polls[1]
    assert get(ports["8000"], server.info["ca"]) == b"hello"
    assert get(ports["8001"].replace("tcp:", "http:"), server.info["ca"]) == b"hello"
    calls = server.state()["calls"]
    assert calls.get("SandboxGetTunnels", 0) == (1 if v1 else 0)
    assert "SandboxGetTunnelsV2" not in calls


def test_ports_of_a_session_that_is_started(client):
    """The text says it, and the first run does not say it again."""
    one = client(SESSIONS, network="all", ports=[8000])
    made = one.tool("create_session", {"start": True})
    (address,) = told(one, made.session)["ports"].values()
    assert f"8000 at {address}" in made.text()
    assert address not in one.run("1", session=made.session).text("note")
    assert not one.tool("reset_session", {"session": made.session}).is_error
    assert "ports" not in facts(one, made.session)
    again = one.run("1", session=made.session)
    (other,) = facts(one, made.session)["ports"].values()
    assert other != address and other in again.text("note")


def test_ports_of_one_that_was_found_again(server, client, tmp_path):
    variables = {"XDG_STATE_HOME": str(tmp_path)}
    settings = {"network": "all", "ports": [8000], "keep": True}
    one = client(SESSIONS, variables, **settings)
    session = one.run("1").session
    ports = told(one, session)["ports"]
    one.kill()
    two = client(SESSIONS, variables, **settings)
    assert not two.tool("create_session", {"attach": session}).is_error
    assert told(two, session)["ports"] == ports
    assert server.state()["calls"]["SandboxGetTunnelsV2"] == 1
    assert not two.tool("end_session", {"session": session}).is_error


@pytest.mark.parametrize(("environment", "listed"), [
    ({"network": "all"}, None), ({}, None),
    ({"network": "all", "kernel": "jupyter", "ports": [8888]}, None),
    ({"network": "all", "kernel": "jupyter", "ports": [8888, 8000]}, ["8000"])])
def test_what_is_no_port_of_its_user(server, client, environment, listed):
    one = client(SESSIONS, {"SSL_CERT_FILE": server.info["ca"]}, **environment)
    done = one.run("1")
    assert not done.is_error, done
    assert list(facts(one, done.session).get("ports", [])) == (listed or [])
    assert ("https://" in done.text("note")) == bool(listed)
    assert not any(name.startswith("SandboxGetTunnels") for name in server.state()["calls"])


GOOD = {"host": "a.example", "port": 443, "container_port": 8000}


@pytest.mark.parametrize("lie", [
    [{**GOOD, "host": "a.example/?x=@b"}], [{**GOOD, "port": 70000}], [GOOD] * 10000,
    [{**GOOD, "container_port": 22}]], ids=["host", "port", "many", "wrong"])
def test_a_lie_about_a_port(server, client, lie):
    """It is left out, the session works, and both the log and get_session say so."""
    server.ask("set", {"tunnels": lie})
    one = client(SESSIONS, network="all", ports=[8000])
    done = one.run("1 + 1")
    assert done.text("result") == "2"
    known = told(one, done.session)
    assert known["ports"] is None and "port 8000" in known["ports_note"]
    assert "example" not in json.dumps(known)
    one.run("1", session=done.session)
    assert "no usable address of port 8000" in one.errors()


@GENERATIONS
def test_ports_that_come_late(server, client, v1):
    """The first run does not wait for them, and a later one names them."""
    server.ask("set", {"tunnels": [{**GOOD, "host": "?"}]})  # V2 has to ask, too
    server.fault("SandboxGetTunnels" if v1 else "SandboxGetTunnelsV2", "hang", seconds=4)
    one = client(SESSIONS, network="all", ports=[8000], **v1)
    first = one.run("1 + 1")
    assert first.text("result") == "2" and "8000" not in first.text("note")
    known = facts(one, first.session)
    assert known["ports"] is None and "ports_note" not in known
    server.ask("set", {"tunnels": [GOOD]})
    assert told(one, first.session)["ports"] == {"8000": "https://a.example"}
    assert "8000 at https://a.example." in one.run("1", session=first.session).text("note")


@pytest.mark.parametrize("hangs", [True, False])
def test_ports_that_never_come(server, client, hangs):
    """Who ends meanwhile does not wait for them; the nothing_is_left of all tests looks after."""
    server.fault("SandboxGetTunnels", "hang" if hangs else "error", status="NOT_FOUND",
                 message="no tunnels here")
    one = client(SESSIONS, network="all", ports=[8000], gpu="H100")
    done = one.run("1 + 1")
    assert done.text("result") == "2"
    if not hangs:
        known = told(one, done.session)
        assert known["ports"] is None and "no tunnels here" in known["ports_note"]


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
