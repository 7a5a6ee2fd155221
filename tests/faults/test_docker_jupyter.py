"""The jupyter kernel in a container: the image that is built for it, its gateway, its token.

One image is built here (a minute or two); what only has to be there is taken from it.
"""

import io
import json
import os
import signal
import tarfile
import time

import pytest
from engines.api import Api, ApiError
from engines.docker import Docker
from support.client import Client
from test_docker import SLEEP, change, containers, eventually, gone, only, started

pytestmark = pytest.mark.timeout(240)

BUILD = 800  # seconds, on a busy machine
SECRET = "hunter2-of-the-mirror"
MIRROR = {"PIP_EXTRA_INDEX_URL": f"https://me:{SECRET}@127.0.0.1:9/simple", "PIP_RETRIES": "0"}
ABSENT = "surely-not-there-cellblock"
TOKEN = """
import os, pathlib
for one in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
        words = one.read_bytes().split(b"\\0")
    except OSError:
        continue
    found = [w for w in words if w.startswith(b"KG_AUTH_TOKEN=")]
    if found:
        print(found[0].decode().split("=", 1)[1])
        break
"""


@pytest.fixture(scope="module")
def host():
    """The address of the Docker engine."""
    return started(Docker())["host"]


@pytest.fixture(scope="module")
def begin(host, tmp_path_factory):
    """begin(**settings) starts a server; the test closes it. Its own files are in `runtime`."""
    folder = tmp_path_factory.mktemp("docker-jupyter")
    count = iter(range(1000))

    def start(env=None, **settings):
        number = next(count)
        config, runtime = folder / f"config-{number}.json", folder / f"runtime-{number}"
        runtime.mkdir(mode=0o700)
        default = {"backend": "local-docker", "host": host, "pool": 0,
                   "image": "cellblock-test/python", "packages": ["six"], **settings}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        client = Client("--config", config, era="modern",
                        env={"XDG_RUNTIME_DIR": str(runtime), **(env or {})})
        client.runtime = runtime
        return client

    return start


@pytest.fixture
def launch(begin):
    """The same; all are ended."""
    made = []

    def start(**settings):
        made.append(begin(**settings))
        return made[-1]

    yield start
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=40)


def kernel_images(host):
    """id → names of the images that were built for kernels."""
    found = Api(host).call("GET", "/images/json", query={
        "filters": json.dumps({"label": ["cellblock.recipe"]})})
    return {one["Id"]: one["RepoTags"] or [] for one in found}


def lines(client):
    """What was told while the first run waited."""
    return [m["params"].get("message", "") for m in client.notifications("notifications/progress")]


def remove_image(host, image):
    """Its names go, and with the last one its layers."""
    for name in kernel_images(host).get(image, []):
        Api(host).call("DELETE", f"/images/{name}")


@pytest.fixture(scope="module")
def built(host, begin):
    """The image of `begin()`: (its id, what was told while it was made)."""
    before = kernel_images(host)
    with begin(env=MIRROR) as client:
        id_ = client.begin_tool("run_code", {"code": "print(6 * 7)"}, token="build")
        result = client.tool_result(id_, BUILD)
        assert result.text("stdout") == "42\n", result
        told = lines(client)
    new = set(kernel_images(host)) - set(before)
    if not new:  # of a run that was broken off
        pytest.fail("it was there already: docker rmi $(docker images -q cellblock-kernel)")
    yield new.pop(), told
    for image in set(kernel_images(host)) - set(before):
        remove_image(host, image)


@pytest.mark.timeout(BUILD + 60)
def test_the_build_is_told_step_by_step(built):
    _image, told = built
    steps = [line for line in told if "(step " in line]
    assert len(steps) > 3 and any("pip install" in line for line in steps), told
    assert not any(SECRET in line for line in told)
    assert "starting a kernel in the container" in told, told


@pytest.mark.timeout(BUILD + 60)
def test_what_the_build_needed_is_not_in_the_image(host, built):
    image, _told = built
    api = Api(host)
    facts = api.call("GET", f"/images/{image}/json")
    whole = json.dumps([facts, api.call("GET", f"/images/{image}/history")])
    assert SECRET not in whole and "PIP_" not in whole and "ca.pem" not in whole
    tag = facts["RepoTags"][0]
    assert tag == f"cellblock-kernel:{facts['Config']['Labels']['cellblock.recipe']}"
    assert not facts["Config"].get("Healthcheck")
    stage = f"cellblock.stage={tag.partition(':')[2]}"
    stages = api.call("GET", "/images/json", query={
        "all": 1, "filters": json.dumps({"label": [stage]})})
    assert not stages, stages


@pytest.mark.timeout(BUILD + 60)
def test_it_is_built_once(host, built, launch):
    before = kernel_images(host)
    client = launch()
    assert client.run("1 + 1", timeout=90).text("result") == "2"
    assert kernel_images(host) == before
    assert not [line for line in lines(client) if "building" in line]


def test_a_package_that_does_not_exist_is_told_with_the_end_of_the_log(host, launch):
    before = kernel_images(host)
    client = launch(packages=[ABSENT])
    first, second = (client.begin_tool("run_code", {"code": "1"}, token=t) for t in "ab")
    for id_ in (first, second):
        result = client.tool_result(id_, 200)
        text = result.text()
        assert result.is_error and ABSENT in text, result
        assert "could not be built" in text and "last lines" in text
    assert kernel_images(host) == before
    gone(host, client)


def test_what_is_no_package_is_refused_before_anything_is_built(launch):
    result = launch(packages=["six", "--index-url=https://example.org"]).run("1")
    assert result.is_error and "packages" in result.text() and "--index-url" in result.text()
    result = launch(apt_packages=["curl; id"]).run("1")
    assert result.is_error and "apt_packages" in result.text()


@pytest.mark.timeout(BUILD + 60)
def test_a_build_is_broken_off_when_nobody_waits_any_more(host, launch):
    api, before = Api(host), kernel_images(host)

    def building():
        return {c["Id"] for c in api.containers(everything=False)
                if "pip" in c["Command"] and "install" in c["Command"]}

    def stages():
        found = api.call("GET", "/images/json", query={
            "all": 1, "filters": json.dumps({"label": ["cellblock.stage"]})})
        return {one["Id"] for one in found}

    others, left = building(), stages()
    client = launch(packages=["six", "idna"], env=MIRROR)
    client.begin_tool("run_code", {"code": "1"}, token="build")
    client.wait_notification("notifications/progress", lambda p: "pip install" in p["message"], 60)
    client.signal(signal.SIGTERM)  # the end of its stdin would let it finish
    client.wait_exit(20)
    gone(host, client)
    eventually("the build goes on", lambda: not building() - others, 30)
    assert kernel_images(host) == before
    assert not stages() - left


def context(dockerfile):
    """A build context of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        tar.addfile(info, io.BytesIO(dockerfile.encode()))
    return out.getvalue()


@pytest.fixture
def lame(host, built):
    """lame(instruction) lays it over the image, under the image's name, until the test is over."""
    image, _told = built
    api = Api(host)
    name = api.call("GET", f"/images/{image}/json")["RepoTags"][0]
    made = []

    def change_it(instruction):
        api.call("POST", "/build", context(f"FROM {name}\n{instruction}\n"), {"t": name}, 120,
                 "application/x-tar")
        made.append(api.call("GET", f"/images/{name}/json")["Id"])

    yield change_it
    repository, _, tag = name.partition(":")
    api.call("POST", f"/images/{image}/tag", query={"repo": repository, "tag": tag})
    eventually("it is in use", lambda: all([removed(api, one) for one in made]), 20)


def removed(api, image):
    """Is it gone? One whose container is still going is not."""
    try:
        api.call("DELETE", f"/images/{image}")
    except ApiError as refused:
        return refused.status == 404
    return True


@pytest.mark.timeout(BUILD + 60)
def test_a_gateway_that_is_dead_at_start_is_told_at_once_with_its_last_words(host, lame, launch):
    lame("ENV KG_API=no_such_personality")
    client = launch()
    began = time.monotonic()
    result = client.run("1", timeout=100)
    assert result.cause == "lost" and "no_such_personality" in result.text(), result
    assert "Kernel Gateway ended with exit code" in result.text()
    assert time.monotonic() - began < 55  # it is not waited for
    gone(host, client)


@pytest.mark.timeout(BUILD + 60)
def test_a_gateway_that_is_not_in_the_image(host, lame, launch):
    lame("RUN [\"sh\", \"-c\", \"rm -r /opt/cellblock/lib/python3*/site-packages/kernel_gateway\"]")
    client = launch()
    result = client.run("1", timeout=100)
    assert result.cause == "lost" and "No module named 'kernel_gateway'" in result.text(), result
    gone(host, client)


@pytest.mark.timeout(BUILD + 60)
def test_the_gateway_does_not_read_a_grammar_that_it_never_needs(lame, launch):
    """Of addresses in all languages: it took most of a start. What the code imports is its own."""
    lame("RUN [\"sh\", \"-c\", \"echo raise SystemExit > "
         "$(echo /opt/cellblock/lib/python3*/site-packages/rfc3987_syntax/__init__.py)\"]")
    client = launch()
    session = client.run("6 * 7", timeout=100).session
    result = client.run("import importlib.util\n"
                        "importlib.util.find_spec('rfc3987_syntax') is not None", session=session)
    assert result.text("result") == "True", result


@pytest.mark.timeout(BUILD + 60)
def test_the_token_is_in_no_argument_and_not_with_the_engine(host, built, launch):
    client = launch()
    token = client.run(TOKEN, timeout=90).text("stdout").strip()
    assert len(token) >= 32
    api, container = Api(host), only(host, client)
    top = api.call("GET", f"/containers/{container}/top", query={"ps_args": "-eo pid,args"})
    assert "kernel_gateway" in json.dumps(top)
    assert token not in json.dumps(top)
    assert token not in json.dumps(api.call("GET", f"/containers/{container}/json"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                assert token.encode() not in file.read()
        except OSError:
            continue


@pytest.mark.timeout(BUILD + 60)
def test_no_port_no_network_and_no_files_of_the_server(host, built, launch):
    client = launch()
    session = client.run("1", timeout=90).session
    facts = Api(host).call("GET", f"/containers/{only(host, client)}/json")
    assert facts["HostConfig"]["NetworkMode"] == "none"
    assert not facts["NetworkSettings"]["Ports"] and not facts["HostConfig"]["PortBindings"]
    assert facts["HostConfig"]["ReadonlyRootfs"] and facts["Config"]["User"] == "65534:65534"
    assert not list(client.runtime.iterdir())
    assert client.run("1", session=session).cause == "ok"
    client.close(timeout=30)
    gone(host, client)
    assert not list(client.runtime.iterdir())


@pytest.mark.timeout(BUILD + 60)
def test_a_killed_server_leaves_nothing(host, built, launch):
    client = launch(pool=1)
    client.run("1", timeout=90)
    eventually("the pool is not there", lambda: [c["State"] for c in containers(host, client)]
               == ["running", "running"], 60)
    client.kill()
    gone(host, client)
    assert not list(client.runtime.iterdir())


@pytest.mark.timeout(BUILD + 60)
@pytest.mark.parametrize("how", ["kill", "remove"])
def test_a_container_that_ends_underneath_is_lost_and_made_anew(host, built, launch, how):
    client = launch()
    session = client.run("1", timeout=90).session
    id_ = client.begin_tool("run_code", {"code": SLEEP, "session": session}, token="going")
    client.wait_notification("notifications/progress", lambda p: p["progressToken"] == "going"
                             and "going" in p.get("message", ""), 20)
    began = time.monotonic()
    change(host, only(host, client), how)
    result = client.tool_result(id_, 20)
    assert result.cause == "lost" and time.monotonic() - began < 12, result
    assert result.text("stdout") == "going\n" and "container" in result.text("note")
    assert client.run("2 + 2", session=session, timeout=90).text("result") == "4"


@pytest.mark.timeout(BUILD + 60)
def test_memory_that_the_engine_ends_is_told_as_such(host, built, launch):
    client = launch(memory_mib=512)
    session = client.run("open('kept', 'w').write('x')", timeout=90).session
    # Each process is within the limit of one.
    result = client.run("import os, time\n"
                        "for n in range(8):\n"
                        "    if os.fork() == 0:\n"
                        "        hog = bytearray(b'x') * (100 << 20)\n"
                        "        time.sleep(30)\n"
                        "        os._exit(0)\n"
                        "time.sleep(30)", session=session)
    assert result.cause == "out_of_memory" and "512" in result.text("note"), result
    assert client.run("open('kept').read()", session=session,
                      timeout=90).text("result") == "'x'"


@pytest.mark.timeout(BUILD + 60)
def test_a_kernel_that_cannot_be_interrupted_is_ended_and_the_files_stay(host, built, launch):
    client = launch()
    session = client.run("open('kept', 'w').write('x')", timeout=90).session
    code = "import ctypes\nctypes.PyDLL(None).pause()"  # holds the interpreter's lock for ever
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + code
    result = client.run(code, session=session, timeout_seconds=1)
    assert result.cause == "timeout", result
    assert client.run("open('kept').read()", session=session,
                      timeout=90).text("result") == "'x'"
