"""Kernels of a cellblock that was killed: found and removed by the next one, and only they."""

import contextlib
import json
import shutil
import subprocess
import threading
import time

import pytest
from jupyter_faults import begin, going, stranger
from support.client import binary

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def runtime(tmp_path):
    """The folder in which records are kept."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture
def one(server, launch, runtime):
    """one(**settings) starts a cellblock on the server, with these records."""
    def start(**settings):
        return launch(url=server.url, token=server.token, env={"XDG_RUNTIME_DIR": str(runtime)},
                      **settings)

    return start


@pytest.fixture
def foreign(server):
    """A kernel of somebody else's."""
    kernel = server.ask("POST", "kernels", {"name": "python3"})["id"]
    yield kernel
    server.ask("DELETE", f"kernels/{kernel}")


def records(runtime):
    """The records that there are."""
    folder = runtime / "cellblock"
    return sorted(folder.iterdir()) if folder.exists() else []


def left_by(client, server, code="1", **arguments):
    """Kills a cellblock after a run; the kernels that it leaves."""
    before = server.kernels()
    client.run(code, **arguments)
    client.kill()
    left = server.kernels() - before
    assert left
    return left


def remove_folders(server):
    """Folders of sessions that are out of everybody's reach."""
    for folder in server.temp.glob("cellblock-*"):
        shutil.rmtree(folder)


def test_removed_at_the_next_start(server, one, runtime, foreign):
    left = left_by(one(), server)
    with one() as client:
        assert client.run("6 * 7").text("result") == "42"
        assert not left & server.kernels() and foreign in server.kernels()
        assert len(records(runtime)) == 1
    assert not records(runtime)


def test_what_is_written_down(server, one, runtime):
    with one() as client:
        assert not records(runtime)
        before = server.kernels()
        client.run("1")
        (kernel,) = server.kernels() - before
        (record,) = records(runtime)
        text = record.read_text(encoding="utf-8")
        assert f"kernel {kernel}\n" in text and f"server {server.url}\n" in text
        assert server.token not in text
        assert record.stat().st_mode & 0o777 == 0o600
        assert record.parent.stat().st_mode & 0o777 == 0o700
    assert not (runtime / "cellblock").exists()


def test_a_busy_one_with_a_process(server, one):
    before = server.kernels()
    client = one()
    code = ("import subprocess\np = subprocess.Popen(['sleep', '1000'])\n"
            "print(f'going {p.pid}.', flush=True)\nwhile True: pass")
    session = client.run("1").session
    begin(client, code, session)
    going(client, "going")
    client.kill()
    left = server.kernels() - before
    assert one().run("6 * 7").text("result") == "42"
    assert not left & server.kernels()


def test_kernels_of_other_languages_too(server, one):
    left = left_by(one(), server, "echo 1", language="bash")
    assert len(left) == 2
    with one() as client:
        client.run("1")
    end = time.monotonic() + 10
    while left & server.kernels():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_those_of_the_living_stay(server, one, runtime):
    with one() as first, one() as second:
        sessions = [client.run("kept = 5").session for client in (first, second)]
        left = left_by(one(), server)
        with one() as last:
            last.run("1")
            assert not left & server.kernels()
        for client, session in zip((first, second), sessions, strict=True):
            assert client.run("kept", session=session).text("result") == "5"
        assert len(records(runtime)) == 2


def test_one_that_is_given_by_its_id_is_used(server, one):
    client = one()
    client.run("kept = 5")
    before = server.kernels()
    client.kill()
    for kernel in before:
        with one(kernel_id=kernel) as client:
            client.run("mine = 6")
        assert kernel in server.kernels()
    with one() as client:
        client.run("1")
        assert not before & server.kernels()
    remove_folders(server)  # the first session's: who took the kernel over may be at work in it


def test_one_that_somebody_is_connected_to_stays(server, one):
    (kernel,) = left_by(one(), server)
    other = threading.Thread(target=stranger, args=(
        server, kernel, "import time\ntime.sleep(8)"))
    other.start()
    while server.ask("GET", f"kernels/{kernel}")["connections"] == 0:
        time.sleep(0.05)
    with one() as client:
        client.run("1")
        assert kernel in server.kernels()
    other.join()
    with one() as client:
        client.run("1")
        assert kernel not in server.kernels()


def test_one_that_is_gone_already(server, one, runtime):
    for kernel in left_by(one(), server):
        with contextlib.suppress(OSError):
            server.ask("DELETE", f"kernels/{kernel}")
    with one() as client:
        assert client.run("6 * 7").text("result") == "42"
    assert not records(runtime)
    remove_folders(server)  # nobody is left there who could


def test_of_another_server(server, one, launch, runtime):
    left = left_by(one(), server)
    address = server.url.replace("127.0.0.1", "localhost")
    with launch(url=address, token=server.token, env={"XDG_RUNTIME_DIR": str(runtime)}) as client:
        client.run("1")
        assert left <= server.kernels()
    with one() as client:
        client.run("1")
        assert not left & server.kernels()


def test_doctor_tells_of_them(server, one, runtime, tmp_path):
    left = left_by(one(), server)
    config = tmp_path / "doctor.json"
    config.write_text(json.dumps({"environments": {"default": {
        "backend": "jupyter", "network": "all", "url": server.url, "token": server.token}}}))
    for wanted in ("1 of servers that are gone, 1 of them removed", "none"):
        done = subprocess.run([binary(), "doctor", "--json", "--config", config],
                              capture_output=True, text=True, timeout=90,
                              env={"XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"})
        (check,) = [check for check in json.loads(done.stdout)["checks"]
                    if check["name"] == "left kernels"]
        assert (check["state"], check["detail"]) == ("ok", wanted)
    assert not left & server.kernels()
