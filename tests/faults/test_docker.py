"""What goes wrong around a container: the engine, the image, the container itself, two servers.

Run against real engines (tests/engines); the one that is stopped in the middle is a private one.
"""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from engines.api import Api, ApiError
from engines.common import Engine, EngineError, which
from engines.docker import Docker, remove_cgroups
from engines.images import TAGS, archives
from engines.podman import Podman
from support.client import Client, binary

pytestmark = pytest.mark.timeout(180)

SLEEP = "import time\nprint('going', flush=True)\ntime.sleep(100)"


class Mortal(Engine):
    """A dockerd without any network that a test may stop."""

    name = "docker-faults"
    packages = Docker.packages
    commands = ("dockerd", "containerd", "runc", "mmdebstrap")
    root_only = True

    def launch(self):
        config = self.folder / "daemon.json"
        config.write_text("{}\n", encoding="ascii")
        socket = self.folder / "docker.sock"
        process = self.spawn([
            which("dockerd"), "-H", f"unix://{socket}", "--data-root", self.folder / "data",
            "--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid",
            "--config-file", config, "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--ip-masq=false", "--cgroup-parent", f"/{self.name}", *self.more()])
        api = Api(socket)
        self.wait("dockerd did not answer", api.ping, process)
        api.load(archives()["plain"], TAGS["plain"])
        return {"host": f"unix://{socket}"}

    def more(self):
        """More of its arguments."""
        return ()

    def swept(self):
        remove_cgroups(self.name)


def started(engine):
    """The engine, or a skip that says what to install."""
    if reason := engine.missing():
        pytest.skip(reason)
    try:
        return engine.start()
    except EngineError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module", params=[Docker, Podman], ids=["docker", "podman"])
def host(request):
    """The address of an engine."""
    return started(request.param())["host"]


@pytest.fixture(scope="module")
def docker():
    """The address of the Docker engine."""
    return started(Docker())["host"]


@pytest.fixture
def launch(tmp_path):
    """launch(host, **settings) starts a server; all are ended."""
    made = []

    def begin(host, *args, env=None, **settings):
        config = tmp_path / f"config-{len(made)}.json"
        default = {"backend": "docker", "host": host, "pool": 0, **settings}
        config.write_text(json.dumps({"environments": {"default": default}}), encoding="utf-8")
        made.append(Client("--config", config, *args, era="modern", env=env))
        return made[-1]

    yield begin
    for client in made:
        if client.process.poll() is None:
            client.close(timeout=40)


def containers(host, client):
    """The containers of one server."""
    return Api(host).containers(label=f"cellblock.pid={client.pid}")


def only(host, client):
    """The id of its only one."""
    found = containers(host, client)
    assert len(found) == 1, found
    return found[0]["Id"]


def eventually(what, true, seconds=15):
    """Waits until true() is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def gone(host, client):
    """Nothing of the server's is left."""
    eventually("containers are left", lambda: not containers(host, client))


def begin_sleep(client, **arguments):
    """A session in the middle of a long run: (session, request)."""
    session = client.run("1").session
    id_ = client.begin_tool("run_code", {"code": SLEEP, "session": session, **arguments},
                            token=session)
    client.wait_notification("notifications/progress", lambda p: p["progressToken"] == session
                             and "going" in p.get("message", ""), 20)
    return session, id_


def change(host, container, how):
    """POST /containers/ID/HOW, or its removal."""
    api = Api(host)
    if how == "remove":
        api.remove(container)
        return
    try:
        api.call("POST", f"/containers/{container}/{how}")
    except ApiError as error:
        # Podman answers a kill when it has seen the container's end: too late where the server
        # that it belongs to has seen it sooner, and has removed it.
        assert how == "kill" and "no such container" in str(error).lower(), error
        assert container not in [one["Id"] for one in api.containers()], error


@pytest.mark.parametrize("how", ["kill", "remove", "stop"])
def test_a_container_that_ends_underneath_is_lost_and_made_anew(host, launch, how):
    client = launch(host)
    session, id_ = begin_sleep(client)
    began = time.monotonic()
    change(host, only(host, client), how)
    result = client.tool_result(id_, 20)
    assert result.cause == "lost" and time.monotonic() - began < 12, result
    assert "container" in result.text("note")
    assert result.text("stdout") == "going\n"
    again = client.run("2 + 2", session=session)
    assert again.text("result") == "4", again
    client.close(timeout=30)
    gone(host, client)


def test_a_container_that_ends_between_runs_is_told_by_the_next(host, launch):
    client = launch(host)
    session = client.run("kept = 1").session
    change(host, only(host, client), "kill")
    eventually("it is still there", lambda: not containers(host, client))
    result = client.run("'kept' in globals()", session=session)
    assert result.text("result") == "False" and "gone" in result.text("note"), result


def test_a_paused_container_is_ended_after_its_limit(host, launch):
    client = launch(host)
    _session, id_ = begin_sleep(client, timeout_seconds=2)
    change(host, only(host, client), "pause")
    result = client.tool_result(id_, 30)
    assert result.cause == "timeout", result
    gone(host, client)


def test_a_paused_container_does_not_hold_the_end_up(host, launch):
    client = launch(host)
    client.run("1")
    change(host, only(host, client), "pause")
    client.close(timeout=25)
    gone(host, client)


def test_an_image_that_is_nowhere(host, launch):
    result = launch(host, image="cellblock-test/nowhere:1").run("1", timeout=90)
    note = result.text()
    assert result.cause == "lost" and "cellblock-test/nowhere:1" in note, result
    assert "docker pull" in note


def test_an_image_without_that_python(host, launch):
    client = launch(host, python="/opt/none/python3")
    result = client.run("1", timeout=90)
    assert result.is_error and "/opt/none/python3" in result.text(), result
    gone(host, client)


def test_an_engine_that_is_not_there(launch, tmp_path):
    result = launch(f"unix://{tmp_path}/none.sock").run("1")
    assert result.cause == "lost" and "none.sock" in result.text(), result


def test_what_answers_is_no_engine(launch, tmp_path):
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(5)

        def answer():
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                with one:
                    one.recv(4096)
                    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        result = launch(f"unix://{path}").run("1")
        listener.shutdown(socket.SHUT_RDWR)
    assert result.is_error and "no Docker or Podman engine" in result.text(), result


def test_a_full_disk_is_an_error_and_the_session_goes_on(host, launch):
    client = launch(host, disk_mib=16)
    session = client.run("kept = 1").session
    result = client.run("with open('fill', 'wb') as f:\n"
                        "    for n in range(64): f.write(bytes(1 << 20))", session=session)
    assert result.outcome["error"]["etype"] == "OSError", result
    assert "No space left" in result.text("error")
    assert client.run("import os; os.remove('fill'); kept", session=session).text("result") == "1"


def test_memory_that_the_engine_ends_is_told_as_such(host, launch):
    client = launch(host, memory_mib=128)
    session = client.run("1").session
    # Files are memory of the container: no process of it is large.
    result = client.run("with open('/tmp/fill', 'wb') as f:\n"
                        "    for n in range(400): f.write(bytes(1 << 20))", session=session)
    assert result.cause == "out_of_memory" and "128" in result.text("note"), result
    assert client.run("1 + 1", session=session, timeout=90).text("result") == "2"


def test_two_servers_leave_each_other_alone(host, launch):
    first, second = launch(host, pool=1), launch(host, pool=1)
    one, two = first.run("a = 1").session, second.run("b = 2").session
    first.close(timeout=30)
    assert second.run("b", session=two).text("result") == "2"
    third = launch(host)
    assert third.run("3").text("result") == "3"
    assert second.run("b", session=two).text("result") == "2"
    assert one != two
    gone(host, first)


def test_a_killed_server_leaves_nothing(host, launch):
    client = launch(host, pool=2)
    begin_sleep(client)
    # One that was made and not started yet is the next server's to remove, as an orphan.
    eventually("the pool is not there", lambda: [one["State"] for one in containers(host, client)]
               == ["running"] * 3, 30)
    client.kill()
    gone(host, client)


def orphan(host, launch):
    """A container that a killed server could not take along: it was paused."""
    client = launch(host)
    client.run("1")
    container = only(host, client)
    change(host, container, "pause")
    client.kill()
    assert only(host, client) == container
    return client


def test_orphans_are_removed_by_the_next_server(host, launch):
    dead = orphan(host, launch)
    launch(host).run("1")
    gone(host, dead)


def test_orphans_are_told_and_removed_by_doctor(host, launch, tmp_path):
    dead = orphan(host, launch)
    config = tmp_path / "doctor.json"
    config.write_text(json.dumps({"environments": {"default": {"backend": "docker",
                                                               "host": host}}}))
    done = subprocess.run([binary(), "doctor", "--json", "--config", config],
                          capture_output=True, text=True, check=False, timeout=100)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "1 of servers that are gone" in checks["left containers"]["detail"], done.stdout
    gone(host, dead)


def test_a_kept_session_that_lets_nobody_in_is_ended_all_the_same(host, launch, tmp_path):
    """The code is of the same user as what a relay comes in by. Control: it is kept until then."""
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    first = launch(host, "--toolsets", "sessions", keep=True, env=state)
    session = first.run("import os\nos.unlink('/dev/shm/.cellblock/relay')").session
    made = only(host, first)
    first.close()
    second = launch(host, "--toolsets", "sessions", keep=True, env=state)
    refused = second.tool("create_session", {"attach": session}, timeout=60)
    assert refused.is_error and "nobody listens" in refused.text(), refused
    assert [found["Id"] for found in containers(host, first)] == [made]
    ended = second.tool("end_session", {"session": session}, timeout=60)
    assert not ended.is_error, ended
    gone(host, first)


def test_labels_of_others_are_not_believed_too_easily(docker, launch):
    """One of another host, and one of a server that lives, stay."""
    api = Api(docker)
    live = launch(docker)
    live.run("1")
    labels = api.call("GET", f"/containers/{only(docker, live)}/json")["Config"]["Labels"]
    strangers = [{**labels, "cellblock.host": "elsewhere", "cellblock.pid": "1"},
                 {"cellblock.server": "x"}, {**labels, "cellblock.pid": "x"}]
    made = [api.call("POST", "/containers/create", {
        "Image": "python:3.11-slim", "Cmd": ["true"], "Labels": these})["Id"]
        for these in strangers]
    try:
        launch(docker).run("1")
        time.sleep(0.5)
        left = {one["Id"] for one in api.containers(label="cellblock.server")}
        assert set(made) <= left and only(docker, live)
    finally:
        for one in made:
            api.remove(one)


def test_a_hundred_megabytes_for_a_slow_client(host, launch):
    client = launch(host)
    session = client.run("1").session
    began = time.monotonic()
    id_ = client.begin_tool("run_code", {
        "code": "import sys\nline = 'x' * 999 + '\\n'\n"
                "for n in range(100_000): sys.stdout.write(line)\nprint('end')",
        "session": session, "timeout_seconds": 120}, token="slow")
    result = client.tool_result(id_, 150)
    assert result.cause == "ok" and result.outcome["truncated"], result
    assert result.text("stdout").endswith("end\n")
    assert time.monotonic() - began < 100
    status = open(f"/proc/{client.pid}/status", encoding="ascii").read()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 150_000, f"{peak} KiB"


@pytest.mark.timeout(300)
def test_an_engine_that_is_stopped_in_the_middle(launch):
    engine = Mortal()
    host = started(engine)["host"]
    try:
        client = launch(host)
        session, id_ = begin_sleep(client)
        engine.stop()
        result = client.tool_result(id_, 30)
        assert result.cause == "lost", result
        assert "container" in result.text("note")
        result = client.run("1", session=session, timeout=60)
        assert result.cause == "lost" and "docker.sock" in result.text(), result
        assert started(engine)["host"] == host
        assert client.run("1 + 1", session=session, timeout=90).text("result") == "2"
        client.close(timeout=30)
        gone(host, client)
    finally:
        engine.stop()


@pytest.mark.timeout(300)
def test_an_engine_that_does_not_answer_any_more(launch):
    """Stopped by a signal: it takes connections, and says nothing."""
    engine = Mortal()
    host = started(engine)["host"]
    pid = engine.state["processes"][0][0]
    try:
        client = launch(host)
        session, id_ = begin_sleep(client, timeout_seconds=2)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        result = client.tool_result(id_, 30)
        assert result.cause == "timeout" and time.monotonic() - began < 20, result
        os.kill(pid, signal.SIGCONT)
        assert client.run("1 + 1", session=session, timeout=90).text("result") == "2"
        client.close(timeout=40)
        gone(host, client)
    finally:
        os.kill(pid, signal.SIGCONT)
        engine.stop()


def test_nothing_is_left_after_any_of_these(host):
    left = [one for one in Api(host).containers(label="cellblock.server")
            if not os.path.exists(f"/proc/{one['Labels']['cellblock.pid']}")]
    assert not left
