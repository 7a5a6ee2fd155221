"""An engine that is reached by TCP with TLS, and lets in only whom its authority has signed.

A dockerd of the tests' own with `--tlsverify`; certificates are made anew for each run.
"""

import json
import os
import socket
import subprocess
from types import SimpleNamespace

import pytest
from engines.api import Api
from engines.common import free_port
from support.client import Client
from test_docker import Mortal, begin_sleep, containers, eventually, gone, started

pytestmark = pytest.mark.timeout(180)

NAMES = "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "DOCKER_CONFIG"
BIG = 5 << 20  # many records of TLS


def openssl(*words):
    """Makes a certificate and its key."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *map(str, words)],
                   check=True, capture_output=True)


def authority(folder):
    """ca.pem and ca-key.pem in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    openssl("-subj", "/CN=the tests' authority", "-out", folder / "ca.pem",
            "-keyout", folder / "ca-key.pem")
    return folder


def sign(folder, name, *more):
    """NAME.pem and NAME-key.pem, signed by the authority of the folder."""
    openssl("-CA", folder / "ca.pem", "-CAkey", folder / "ca-key.pem", "-subj", f"/CN={name}",
            "-out", folder / f"{name}.pem", "-keyout", folder / f"{name}-key.pem",
            "-addext", "basicConstraints=critical,CA:FALSE", *more)


def client_files(target, ca, signer=None):
    """What Docker's client looks for in DOCKER_CERT_PATH: the engine's authority, and who we are
    by `signer`."""
    target.mkdir(parents=True)
    (target / "ca.pem").write_bytes((ca / "ca.pem").read_bytes())
    if signer:
        (target / "cert.pem").write_bytes((signer / "client.pem").read_bytes())
        (target / "key.pem").write_bytes((signer / "client-key.pem").read_bytes())
    return target


class Guarded(Mortal):
    """A dockerd that asks at its port for a certificate of its authority; its own is for
    127.0.0.1, and so not for localhost."""

    name = "docker-tls"
    commands = (*Mortal.commands, "openssl")

    def launch(self):
        self.port = free_port()
        authority(self.folder)
        sign(self.folder, "server", "-addext", "subjectAltName=IP:127.0.0.1")
        sign(self.folder, "client", "-addext", "extendedKeyUsage=clientAuth")
        return {**super().launch(), "port": self.port, "folder": str(self.folder)}

    def more(self):
        return ("-H", f"tcp://127.0.0.1:{self.port}", "--tlsverify",
                "--tlscacert", self.folder / "ca.pem", "--tlscert", self.folder / "server.pem",
                "--tlskey", self.folder / "server-key.pem")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The engine: `socket` for the tests, `tcp` for the server; a stranger's authority."""
    guarded = Guarded()
    info = started(guarded)
    folder = tmp_path_factory.mktemp("docker-tls")
    own, stranger = guarded.folder, authority(folder / "stranger")
    sign(stranger, "client")
    yield SimpleNamespace(
        socket=info["host"], port=info["port"], tcp=f"tcp://127.0.0.1:{info['port']}",
        good=client_files(folder / "good", own, own),
        wrong_ca=client_files(folder / "wrong-ca", stranger, own),
        nobody=client_files(folder / "nobody", own),
        wrong_client=client_files(folder / "wrong-client", own, stranger))
    guarded.stop()


@pytest.fixture
def launch(tmp_path):
    """launch(environment's settings, VARIABLE=value) starts a server that knows of no other engine;
    it has a home of its own."""
    made = []
    home = tmp_path / "home"
    home.mkdir()

    def begin(settings=None, **variables):
        config = tmp_path / f"config-{len(made)}.json"
        config.write_text(json.dumps({"environments": {"default": {
            "backend": "docker", "pool": 0, **(settings or {})}}}), encoding="utf-8")
        env = {**dict.fromkeys(NAMES, ""), "HOME": str(home),
               **{key: str(value) for key, value in variables.items()}}
        made.append(Client("--config", config, "--share-root", tmp_path, era="modern", env=env))
        return made[-1]

    begin.home = home
    yield begin
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=40)


@pytest.fixture
def guarded(engine, launch):
    """A server that reaches it as Docker's documentation has it."""
    client = launch(DOCKER_HOST=engine.tcp, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=engine.good)
    yield client
    if client.process.poll() is None:
        client.close(timeout=40)
    gone(engine.socket, client)


def refused(client, *words):
    """The run's error names the engine, and what to do."""
    result = client.run("1", timeout=60)
    text = result.text()
    assert result.is_error or result.cause == "lost", result
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"


def test_state_goes_on_from_run_to_run(guarded):
    session = guarded.run("x = 41", timeout=60).session
    assert guarded.run("x + 1", session=session).text("result") == "42"
    assert guarded.run("echo $((6 * 7))", session=session, language="shell").text("stdout") == \
        "42\n"


def test_large_things_pass_in_both_directions(guarded, tmp_path):
    data = os.urandom(BIG)
    (tmp_path / "big").write_bytes(data)
    session = guarded.run("1", timeout=60).session
    shared = guarded.tool("add_share", {"type": "copy", "source": str(tmp_path / "big"),
                                        "dest": "/workspace/big", "session": session})
    assert not shared.is_error, shared
    result = guarded.run("data = open('big', 'rb').read()\nsum(data), len(data)", session=session)
    assert result.text("result") == str((sum(data), BIG)), result
    result = guarded.run("for n in range(100_000): print('line', n, 'x' * 40)", session=session,
                         timeout=60)
    assert result.cause == "ok" and result.text("stdout").endswith(f"line 99999 {'x' * 40}\n")


def test_a_run_is_ended_at_its_limit_and_its_variables_stay(guarded):
    session = guarded.run("kept = 1", timeout=60).session
    result = guarded.run("import time\ntime.sleep(60)", session=session, timeout_seconds=0.5)
    assert result.cause == "timeout", result
    assert guarded.run("kept", session=session).text("result") == "1"


def test_a_mount_is_refused_where_paths_may_be_another_machines(guarded, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o755)
    session = guarded.run("1", timeout=60).session
    guarded.tool("reset_session", {"session": session})
    shared = guarded.tool("add_share", {"type": "mount", "source": str(tmp_path / "folder"),
                                        "dest": "/mnt/folder", "session": session})
    result = guarded.run("1", session=session, timeout=60)
    assert "copy" in (shared.text() if shared.is_error else result.text()), (shared, result)


def test_a_killed_server_leaves_nothing(engine, guarded):
    begin_sleep(guarded)
    assert containers(engine.socket, guarded)
    guarded.kill()
    gone(engine.socket, guarded)


def test_the_engine_ends_a_container_underneath(engine, guarded):
    session, id_ = begin_sleep(guarded)
    Api(engine.socket).remove(containers(engine.socket, guarded)[0]["Id"])
    result = guarded.tool_result(id_, 20)
    assert result.cause == "lost" and "container" in result.text("note"), result
    assert guarded.run("1 + 1", session=session, timeout=60).text("result") == "2"


def test_the_setting_host_goes_before_the_variable(engine, launch):
    client = launch({"host": f"https://127.0.0.1:{engine.port}"}, DOCKER_CERT_PATH=engine.good,
                    DOCKER_HOST="tcp://127.0.0.1:9")
    assert client.run("6 * 7", timeout=60).text("result") == "42"


def test_the_home_has_the_files_when_nothing_names_a_folder(engine, launch):
    (launch.home / ".docker").symlink_to(engine.good)
    client = launch(DOCKER_HOST=engine.tcp, DOCKER_TLS_VERIFY="1")
    assert client.run("6 * 7", timeout=60).text("result") == "42"


def make_context(config, name, host, tls, **more):
    """A docker context, as `docker context create` lays it down."""
    meta = config / "contexts" / "meta" / f"hash-of-{name}"
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({
        "Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, **more}}}))
    files = config / "contexts" / "tls" / meta.name
    files.mkdir(parents=True)
    (files / "docker").symlink_to(tls)


def test_a_context_brings_its_own_files(engine, launch):
    config = launch.home / ".docker"
    make_context(config, "guarded", engine.tcp, engine.good, SkipTLSVerify=False)
    make_context(config, "wrong", engine.tcp, engine.wrong_ca, SkipTLSVerify=False)
    (config / "config.json").write_text(json.dumps({"currentContext": "guarded"}))
    assert launch().run("6 * 7", timeout=60).text("result") == "42"
    refused(launch(DOCKER_CONTEXT="wrong"), 'docker context "wrong"', "not trusted", "ca.pem")


def test_a_context_that_checks_no_certificate(engine, launch):
    config = launch.home / ".docker"
    make_context(config, "open", f"tcp://localhost:{engine.port}", engine.wrong_ca,
                 SkipTLSVerify=True)
    assert launch(DOCKER_CONTEXT="open").run("6 * 7", timeout=60).text("result") == "42"


def test_an_authority_that_is_not_the_engines(engine, launch):
    refused(launch(DOCKER_HOST=engine.tcp, DOCKER_TLS_VERIFY="1",
                   DOCKER_CERT_PATH=engine.wrong_ca),
            "DOCKER_HOST", f"127.0.0.1:{engine.port}", "not trusted", "ca.pem", "DOCKER_CERT_PATH")


def test_a_name_that_the_certificate_is_not_for(engine, launch):
    refused(launch(DOCKER_HOST=f"tcp://localhost:{engine.port}", DOCKER_TLS_VERIFY="1",
                   DOCKER_CERT_PATH=engine.good),
            f"localhost:{engine.port}", "for another name", "use the name that it is for")


@pytest.mark.parametrize("who", ["nobody", "wrong_client"])
def test_a_client_that_the_engine_does_not_know(engine, launch, who):
    refused(launch(DOCKER_HOST=engine.tcp, DOCKER_TLS_VERIFY="1",
                   DOCKER_CERT_PATH=getattr(engine, who)),
            f"127.0.0.1:{engine.port}", "client certificate", "cert.pem", "DOCKER_CERT_PATH")


def test_no_tls_where_the_engine_wants_it(engine, launch):
    refused(launch(DOCKER_HOST=engine.tcp), "HTTPS", "DOCKER_TLS_VERIFY")


def test_tls_where_there_is_none(engine, launch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = launch(DOCKER_HOST=f"tcp://127.0.0.1:{port}", DOCKER_TLS_VERIFY="1",
                        DOCKER_CERT_PATH=engine.good)
        id_ = client.begin_tool("run_code", {"code": "1"})
        plain, _ = listener.accept()
        with plain:
            plain.recv(4096)
            plain.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            result = client.tool_result(id_, 60)
    assert "TLS" in result.text() and "DOCKER_TLS_VERIFY" in result.text(), result


def test_files_that_are_no_certificates(engine, launch, tmp_path):
    broken = client_files(tmp_path / "broken", engine.good)
    (broken / "cert.pem").write_text("no certificate")
    (broken / "key.pem").write_text("no key")
    refused(launch(DOCKER_HOST=engine.tcp, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=broken),
            "certificate or key file cannot be used", "PEM")


def test_nothing_is_left_after_any_of_these(engine):
    eventually("containers are left",
               lambda: not Api(engine.socket).containers(label="cellblock.server"))
