"""Images of a registry that wants to know who asks: one that these tests play, on the loopback."""

import base64
import gzip
import hashlib
import io
import json
import platform
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from engines.api import Api
from engines.docker import Docker
from support.client import Client
from test_docker import started

pytestmark = pytest.mark.timeout(120)

USER, PASSWORD = "me", "hunter2:of+the/registry?"
KINDS = "application/vnd.docker.distribution.manifest.v2+json"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest(data):
    """Its name in a registry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tiny_image():
    """An image of one file, with no Python: (manifest, blobs by digest)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("fetched")
        tar.addfile(info, io.BytesIO())
    layer = gzip.compress(out.getvalue())
    config = json.dumps({
        "architecture": MACHINES.get(platform.machine(), platform.machine()), "os": "linux",
        "config": {"Cmd": ["none"]}, "created": "2026-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [digest(out.getvalue())]}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": KINDS,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                   "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer), "digest": digest(layer)}]}).encode()
    return manifest, {digest(config): config, digest(layer): layer}


class Handler(BaseHTTPRequestHandler):
    """As much of a registry as a pull needs; nothing for strangers."""

    def do_GET(self):
        given = self.headers.get("Authorization", "")
        if given:
            self.server.given.add(given)
        if given != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who is it?"}]}',
                        {"WWW-Authenticate": 'Basic realm="the tests"'})
            return
        manifest, blobs = self.server.image
        if "/manifests/" in self.path:
            self.answer(200, manifest, {"Content-Type": KINDS,
                                        "Docker-Content-Digest": digest(manifest)})
        elif "/blobs/" in self.path:
            self.answer(200, blobs[self.path.rpartition("/")[2]], {})
        else:
            self.answer(200, b"{}", {})

    do_HEAD = do_GET

    def answer(self, status, body, headers):
        """All of one answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture(scope="module")
def host():
    """The address of the Docker engine."""
    return started(Docker())["host"]


@pytest.fixture
def registry(host):
    """The registry; what was fetched from it is removed from the engine afterwards."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.image, server.given = tiny_image(), set()
    server.name = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    for image in Api(host).images():
        if image.startswith(server.name):
            Api(host).call("DELETE", f"/images/{image}")


@pytest.fixture
def run(host, registry, tmp_path):
    """run(config.json of Docker's client): the text of a run on the registry's image."""
    def begin(known):
        (tmp_path / "config.json").write_text(json.dumps(known), encoding="utf-8")
        config = tmp_path / "cellblock.json"
        config.write_text(json.dumps({"environments": {"default": {
            "backend": "docker", "host": host, "pool": 0,
            "image": f"{registry.name}/private/tiny:1"}}}), encoding="utf-8")
        with Client("--config", config, era="modern",
                    env={"DOCKER_CONFIG": str(tmp_path)}) as client:
            result = client.run("1", timeout=90)
            assert PASSWORD not in client.errors()
        assert result.is_error or result.cause == "lost", result
        assert PASSWORD not in result.text()
        return result.text()

    return begin


def login(password):
    """As `docker login` writes it."""
    return {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}


def fetched(host, registry):
    """Is the image in the engine?"""
    return f"{registry.name}/private/tiny:1" in Api(host).images()


def test_what_docker_login_left_is_used(host, registry, run):
    text = run({"auths": {registry.name: login(PASSWORD), "other.example": login("others")}})
    assert fetched(host, registry), text
    assert "python3" in text  # which this image lacks
    assert len(registry.given) == 1, registry.given


def test_nobody_is_refused_and_told_how(host, registry, run):
    text = run({"auths": {"other.example": login("others")}})
    assert not fetched(host, registry)
    assert f"docker login {registry.name}" in text and "If it is private" in text, text
    assert not registry.given  # no login goes to another registry than its own


def test_a_login_that_is_out_of_date(host, registry, run):
    text = run({"auths": {registry.name: login("old")}})
    assert not fetched(host, registry)
    assert "was used" in text and f"docker login {registry.name}" in text, text


def test_a_program_that_keeps_logins_is_not_run(host, registry, run):
    text = run({"auths": {registry.name: {}}, "credsStore": "desktop"})
    assert not fetched(host, registry)
    assert "docker-credential-desktop" in text and "docker pull" in text, text
