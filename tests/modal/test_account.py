"""Who we are at Modal, and what sandboxes are made of there: images with their builds' logs,
secrets and volumes by their names."""

import json
import subprocess

import pytest
from support.client import Client, binary
from support_modal import ModalServer


@pytest.fixture(scope="module")
def server():
    with ModalServer() as one:
        yield one


@pytest.fixture
def run(server, tmp_path):
    """Runs code in an environment: (status, what it printed, what went wrong)."""
    def once(code="print(6 * 7)", variables=None, **environment):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"environments": {"default": {"backend": "modal",
                                                                 **environment}}}))
        done = subprocess.run([binary(), "run", "--config", path, "-"], input=code, text=True,
                              capture_output=True, timeout=100, check=False,
                              env=variables or server.environment(SSL_CERT_FILE=server.info["ca"]))
        assert server.info["token_secret"] not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr
    return once


def without_tokens(server, **more):
    """The variables of somebody who has none there."""
    kept = server.environment(SSL_CERT_FILE=server.info["ca"], **more)
    return {key: value for key, value in kept.items() if not key.startswith("MODAL_TOKEN")}


def test_profiles_of_the_file(server, run, tmp_path):
    here = tmp_path / "modal.toml"
    variables = without_tokens(server, MODAL_CONFIG_PATH=str(here))
    here.write_text(f'[other]\ntoken_id = "ak-no"\ntoken_secret = "as-no"\n\n[mine]\n'
                    f'token_id = "{server.info["token_id"]}"\nactive = true\n'
                    f'token_secret = "{server.info["token_secret"]}"\n')
    assert run(variables=variables) == (0, "42\n", "")
    status, _, said = run(variables={**variables, "MODAL_PROFILE": "other"})
    assert status != 0
    assert 'credentials of the profile "other"' in said and "modal token new" in said
    assert "as-no" not in said
    here.write_text("[mine]\ntoken_secret = as-secret\n")
    _, _, said = run(variables=variables)
    assert "modal.toml: line 2:" in said and "as-secret" not in said


def test_no_token(server, run):
    status, _, said = run(variables=without_tokens(server))
    assert status != 0
    assert "no token for Modal" in said and "modal token new" in said


def test_layers_are_built_once_in_the_services_words(server, run):
    wanted = {"python": "3.12", "apt_packages": ["git"], "packages": ["numpy"],
              "dockerfile_commands": ["ENV GREETING=hello"]}
    code = "import os; print(os.environ['GREETING'])"
    before = {image["id"] for image in server.state()["images"]}
    assert run(code, **wanted) == (0, "hello\n", "")
    made = [image for image in server.state()["images"] if image["id"] not in before]
    assert [image["commands"][-1] for image in made][-3:] == [
        "RUN apt-get install -y git", "RUN python -m pip install numpy", "ENV GREETING=hello"]
    assert run(code, **wanted) == (0, "hello\n", "")
    assert len(server.state()["images"]) == len(before) + len(made)


def test_a_failed_build_ends_with_its_log(run):
    status, _, said = run(packages=["no-such-package"])
    assert status != 0
    assert "the image could not be built (the Python packages)" in said
    assert "The last lines of its log:" in said
    assert "No matching distribution found for no-such-package" in said


def test_the_log_of_a_build_is_progress(server, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"environments": {"default": {
        "backend": "modal", "dockerfile_commands": ["RUN echo of this test"]}}}))
    for key, value in server.environment(SSL_CERT_FILE=server.info["ca"]).items():
        monkeypatch.setenv(key, value)
    server.ask("set", {"image_seconds": 0.2})
    try:
        with Client("--config", str(path)) as client:
            client.tool("run_code", {"code": "print(1)"}, token="p")
            lines = [params.get("message", "") for params in client.progress("p")]
    finally:
        server.ask("set", {"image_seconds": 0.0})
    assert any("building the image: " in line for line in lines), lines


@pytest.mark.parametrize("environment, words", [
    ({"modal_secrets": ["nobodys"]},
     'modal_secrets: the service has none that is called "nobodys"'),
    ({"volumes": [{"name": "none", "dest": "/v", "create": False}]},
     'volumes: the service has none that is called "none"'),
    ({"python": "python3"}, 'python: "python3" is no version'),
    ({"dockerfile_commands": ["COPY . /app"]}, "shares"),
])
def test_what_is_refused(run, environment, words):
    status, _, said = run(**environment)
    assert status != 0
    assert words in said


def test_a_volume_without_a_name_goes_with_its_place(server, run):
    before = server.state()["volumes"]
    code = "open('/v/x', 'w').write('y'); print(open('/v/x').read())"
    assert run(code, volumes=[{"dest": "/v"}]) == (0, "y\n", "")
    assert server.state()["volumes"] == before
    assert run(code, volumes=[{"name": "kept", "dest": "/v"}]) == (0, "y\n", "")
    assert run("print(open('/v/x').read())", volumes=[{"name": "kept", "dest": "/v"}])[1] == "y\n"


def test_a_call_that_is_lost_or_throttled_is_made_again(server, run):
    server.fault("AppGetOrCreate", "error", status="UNAVAILABLE", times=2)
    server.fault("EnvironmentGetOrCreate", "error", status="RESOURCE_EXHAUSTED", retry_after=0.1,
                 times=5)
    server.fault("ImageGetOrCreate", "error", status="UNAVAILABLE", when="after")
    assert run() == (0, "42\n", "")
    log = [one for one in server.state()["log"] if one["rpc"] == "AppGetOrCreate"][-3:]
    assert len({one["metadata"]["x-idempotency-key"] for one in log}) == 1
    assert [one["metadata"]["x-retry-attempt"] for one in log] == ["0", "1", "2"]


def test_clocks_that_differ(server, run):
    server.ask("set", {"skew": -7200.0})
    try:
        assert run() == (0, "42\n", "")
    finally:
        server.ask("set", {"skew": 0.0})
