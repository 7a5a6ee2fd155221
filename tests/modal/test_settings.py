"""What an environment says reaches the service, and is so in its sandboxes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.client import Client, binary
from support_modal import ModalServer

MAKE_SECRETS = """
import modal
modal.Secret.objects.create("keys", {"OF_THE_SERVICE": "abc"})
modal.Secret.objects.create("bucket-keys", {"AWS_ACCESS_KEY_ID": "abc"})
"""


@pytest.fixture(scope="module")
def server():
    with ModalServer() as one:
        subprocess.run([sys.executable, "-c", MAKE_SECRETS], check=True, timeout=60,
                       env=one.environment(), capture_output=True)
        yield one


@pytest.fixture
def variables(server):
    """Of a cellblock whose Modal this is."""
    return server.environment(SSL_CERT_FILE=server.info["ca"])


@pytest.fixture
def run(variables, tmp_path):
    """Runs code in an environment: what it printed."""
    def once(code, **environment):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"environments": {"default": {"backend": "modal",
                                                                 **environment}}}))
        return subprocess.run([binary(), "run", "--config", path, "-"], input=code, text=True,
                              capture_output=True, env=variables, timeout=100, check=False)
    return once


@pytest.fixture
def serve(variables, tmp_path, monkeypatch):
    """Starts servers with a config; all are closed and checked at the end."""
    clients = []

    def begin(config):
        path = tmp_path / "server.json"
        path.write_text(json.dumps(config))
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        clients.append(Client("--config", str(path)))
        return clients[-1]

    yield begin
    for one in clients:
        one.close()


def newest(server):
    """The sandbox that was made last."""
    return server.state()["sandboxes"][-1]


def put(server, bucket, name, text):
    """An object in a bucket."""
    path = Path(server.info["base"]) / "buckets" / bucket / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_a_sandbox_takes(server, run):
    put(server, "data", "sales/table.csv", "1,2\n")
    put(server, "data", "private/table.csv", "3,4\n")
    code = ("import os\n"
            "print(open('/bucket/table.csv').read(), os.environ['OF_THE_SERVICE'])\n"
            "print(os.path.exists('/bucket/../private'), os.getcwd())\n"
            "open('/data/written', 'w').write('x')\n"
            "try:\n    open('/bucket/new', 'w')\n"
            "except OSError as error:\n    print(type(error).__name__)\n")
    done = run(code, cpu=0.5, cpu_limit=2, memory_mib=512, memory_limit_mib=768,
               region=["eu-west", "uk"], ports=[8000], network="pypi.org,10.0.0.0/8",
               tags={"team": "blue"}, app_name="an-app", modal_secrets=["keys"],
               volumes=[{"name": "v", "dest": "/data"}],
               shares=[{"type": "cloud", "bucket": "data", "key_prefix": "sales/",
                        "secret": "bucket-keys", "dest": "/bucket"},
                       {"type": "cloud", "bucket": "other", "dest": "/other", "read_only": False,
                        "bucket_endpoint_url": "https://storage.googleapis.com",
                        "role_arn": "arn:1"}])
    assert (done.returncode, done.stdout) == (
        0, "1,2\n abc\nFalse /workspace\nOSError\n"), done.stderr
    sandbox = newest(server)
    told, secrets = sandbox["definition"], server.state()["secrets"]
    assert sandbox["generation"] == 2 and sandbox["tags"]["team"] == "blue"
    assert told["resources"] == {"memory_mb": 512, "memory_mb_max": 768 + 64, "milli_cpu": 500,
                                 "milli_cpu_max": 2000}
    assert told["scheduler_placement"]["regions"] == ["eu-west", "uk"]
    assert told["open_ports"]["ports"] == [{"port": 8000}]
    assert told["network_access"] == {"network_access_type": "ALLOWLIST",
                                      "allowed_domains": ["pypi.org"],
                                      "allowed_cidrs": ["10.0.0.0/8"]}
    first, second = told["cloud_bucket_mounts"]
    assert first["bucket_type"] == "S3" and first["key_prefix"] == "sales/" and first["read_only"]
    assert first["credentials_secret_id"] == next(
        one["id"] for one in secrets if one["name"] == "bucket-keys")
    assert second["bucket_type"] == "GCP" and second["oidc_auth_role_arn"] == "arn:1"
    assert "read_only" not in second
    volume = next(one for one in server.state()["volumes"] if one["name"] == "v")
    assert (Path(volume["folder"]) / "written").read_text() == "x"
    assert "an-app" in [one["name"] for one in server.state()["apps"]]
    assert sandbox["status"] != 0, "it was terminated"


def test_a_gpu_is_v1(server, run):
    assert run("print(1)", gpu="a10g:2").stdout == "1\n"
    sandbox = newest(server)
    assert sandbox["generation"] == 1
    assert sandbox["definition"]["resources"]["gpu_config"] == {"gpu_type": "A10G", "count": 2}


@pytest.mark.parametrize(("environment", "words"), [
    ({"ports": [80]}, ("ports", "none")),
    ({"gpu": "H100,A100"}, ("gpu", "list")),
    ({"volumes": [{"name": "v", "dest": "/a"}, {"name": "v", "dest": "/b"}]}, ("two paths",)),
    ({"memory_mib": 512, "memory_limit_mib": 256}, ("memory_limit_mib", "reserved")),
    ({"tags": {"a b": "c"}}, ("tags", "a b")),
    ({"user": "1000"}, ("user", "no such setting")),
    ({"shares": [{"type": "cloud", "dest": "/b", "bucket": "b", "key_prefix": "a"}]},
     ("key_prefix", "end in")),
])
def test_what_is_refused_early(server, run, environment, words):
    """Nothing is asked of the service."""
    before = server.state()["calls"]
    done = run("print(1)", **environment)
    assert done.returncode in (2, 3) and not done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert server.state()["calls"] == before


def test_a_secret_that_is_not_there(server, run):
    done = run("print(1)", shares=[{"type": "cloud", "bucket": "data", "dest": "/b",
                                    "secret": "no-such"}])
    assert done.returncode != 0 and "no-such" in done.stderr and "/b" in done.stderr
    assert not [one for one in server.state()["sandboxes"] if not one["status"]]


def test_a_bucket_for_an_agent(server, serve):
    """What the owner allows, read-only, before the first run; and nothing else."""
    put(server, "data", "public/a.txt", "hello")
    client = serve({"environments": {"default": {"backend": "modal"}},
                    "policy": {"buckets": [{"bucket": "data", "key_prefix": "public/",
                                            "secret": "bucket-keys"}]}})
    arguments = {"type": "cloud", "bucket": "data", "dest": "/bucket"}
    for more in ({"bucket": "other"}, {"key_prefix": "private/"}, {"read_only": False},
                 {"secret": "keys"}, {"bucket_endpoint_url": "https://evil.example"}):
        result = client.tool("add_share", {**arguments, **more})
        assert result.is_error and "policy.buckets" in result.text(), more
    result = client.tool("add_share", arguments)
    assert not result.is_error and "data/public/" in result.text()
    assert client.run("print(open('/bucket/a.txt').read())").text("stdout") == "hello\n"
    result = client.tool("add_share", {**arguments, "dest": "/again"})
    assert result.is_error and "reset_session" in result.text()
    assert not client.tool("reset_session", {}).is_error
    assert client.run("print(open('/bucket/a.txt').read())").text("stdout") == "hello\n"


@pytest.mark.parametrize("network", ["all", "none"])
def test_kernel_jupyter(server, run, network):
    """Through a tunnel, or with the network cut without any port; its token is told to nobody."""
    code = "import os, sys\nprint('ipykernel' in sys.modules, os.getcwd())\n40 + 2"
    done = run(code, kernel="jupyter", network=network)
    assert (done.returncode, done.stdout) == (0, "True /workspace\n42\n"), done.stderr
    sandbox = newest(server)
    ports = sandbox["definition"].get("open_ports", {}).get("ports", [])
    assert ports == ([{"port": 8888}] if network == "all" else [])
    assert "TOKEN" not in json.dumps(sandbox)


@pytest.mark.parametrize(("code", "words"), [
    ("for n in range(60):\n    open(f'f{n}', 'wb').write(bytes(1 << 20))", "32 MiB of disk"),
    ("from subprocess import Popen\nps = [Popen(['sleep', '30']) for _ in range(60)]", "the 40"),
])
def test_limits_of_kernel_jupyter(run, code, words):
    """Of many files and many processes, which nobody but the gateway's keeper looks at there."""
    done = run(f"{code}\nimport time\ntime.sleep(20)", kernel="jupyter", disk_mib=32, processes=40,
               memory_mib=512, pool=0)
    assert done.returncode == 137 and words in done.stderr, done


def test_a_tunnel_is_checked(variables, run):
    """A certificate that nobody vouches for is not talked to."""
    variables["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
    done = run("print(1)", kernel="jupyter", network="all")
    assert done.returncode == 4 and "certificate" in done.stderr and not done.stdout
