"""What goes wrong around a kernel: the server, the kernel itself, strangers, addresses."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from jupyter_faults import PYTHON, LimitedServer, begin, going, started, stranger
from support.client import binary

pytestmark = pytest.mark.timeout(180)


class TestKernels:
    def test_killed_from_outside(self, server, launch):
        client = launch(url=server.url, token=server.token)
        first = client.run("import os; open('kept', 'w').write('here'); os.getpid()")
        pid = int(first.text("result"))
        run = begin(client, "import time\nprint('going', flush=True)\ntime.sleep(100)",
                    first.session)
        going(client, "going")
        os.kill(pid, signal.SIGKILL)
        result = client.tool_result(run, 30)
        assert result.cause == "killed" and result.is_error, result
        assert client.run("open('kept').read()", session=first.session).text("result") == "'here'"

    def test_deleted_by_somebody_else(self, server, launch):
        before = server.kernels()
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        (kernel,) = server.kernels() - before
        server.ask("DELETE", f"kernels/{kernel}")
        result = client.run("kept", session=session)
        assert result.outcome["error"]["etype"] == "NameError", result

    def test_restarted_by_somebody_else(self, server, launch):
        before = server.kernels()
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        (kernel,) = server.kernels() - before
        server.ask("POST", f"kernels/{kernel}/restart")
        time.sleep(2)
        client.run("1", session=session)
        result = client.run("kept", session=session)
        assert result.outcome["error"]["etype"] == "NameError", result
        assert client.run("6 * 7", session=session).text("result") == "42"

    def test_streams_that_the_code_has_broken(self, server, launch):
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        for code in ("sys.stdout.close()", "sys.stderr.close()", "sys.stdout = None",
                     "sys.stderr = object()", "os.close(1); os.close(2)",
                     "sys.stdout.close(); sys.stdin.close(); os.dup2(0, 1)"):
            result = client.run(f"import os, sys; {code}", session=session)
            assert result.cause == "ok" and not result.text("stderr"), (code, result)
            result = client.run("print('back'); kept", session=session)
            assert (result.text("stdout"), result.text("result")) == ("back\n", "1"), code

    def test_an_interrupt_of_code_that_has_closed_its_stdout(self, server, launch):
        client = launch(url=server.url, token=server.token)
        session = client.run("kept = 1").session
        result = client.run("import sys, time; sys.stdout.close(); time.sleep(100)",
                            session=session, timeout_seconds=1)
        assert result.cause == "timeout" and "IPKernelApp" not in result.text("stderr"), result
        assert client.run("print('back'); kept", session=session).text("result") == "1"

    def test_a_given_one_is_used_and_left(self, server, launch):
        kernel = server.ask("POST", "kernels", {"name": "python3"})["id"]
        try:
            with launch(url=server.url, token=server.token, kernel_id=kernel) as client:
                assert client.run("mine = 5; print('x')\nmine").text("result") == "5"
            assert kernel in server.kernels()
            with launch(url=server.url, token=server.token, kernel_id=kernel) as client:
                assert client.run("mine").text("result") == "5"
            assert stranger(server, kernel, "print(mine, exit)")[0].startswith("5 <")
        finally:
            server.ask("DELETE", f"kernels/{kernel}")

    def test_a_given_one_that_is_not_there(self, server, launch):
        client = launch(url=server.url, token=server.token,
                        kernel_id="00000000-0000-0000-0000-000000000000")
        result = client.run("1")
        assert result.is_error and "404" in result.text() + str(result.raw), result

    def test_a_stranger_on_the_same_kernel(self, server, launch):
        kernel = server.ask("POST", "kernels", {"name": "python3"})["id"]
        try:
            client = launch(url=server.url, token=server.token, kernel_id=kernel)
            session = client.run("1").session
            heard = []
            other = threading.Thread(target=lambda: heard.extend(stranger(
                server, kernel, "for n in range(200): print('strange', n)", 10)))
            other.start()
            for n in range(20):
                result = client.run(f"print('mine', {n})\n{n}", session=session)
                assert (result.text("stdout"), result.text("result")) == (f"mine {n}\n", str(n))
            other.join()
            assert "mine" not in "".join(heard) and "strange 199" in "".join(heard)
        finally:
            server.ask("DELETE", f"kernels/{kernel}")


@pytest.fixture(scope="module")
def limited():
    """A server that holds output back."""
    yield from started(LimitedServer())


def test_output_that_a_server_drops_is_told(limited, launch):
    client = launch(url=limited.url, token=limited.token)
    result = client.run("import sys\nfor n in range(100): print('y' * 99_999)", timeout=60)
    text = result.text("note")
    assert "dropped" in text and "10000000" in text and "rate_limit" in text, result
    assert "IOPub" not in result.text("stderr")
    assert client.run("print('fine')", session=result.session).cause == "ok"


class TestAddresses:
    def test_a_wrong_token(self, server, launch):
        result = launch(url=server.url, token="wrong").run("1")
        assert result.is_error and "token" in result.text(), result

    def test_a_token_in_the_url(self, server, launch):
        result = launch(url=f"{server.url}/lab?token={server.token}").run("6 * 7")
        assert result.text("result") == "42"

    def test_a_token_in_a_header(self, server, launch):
        headers = {"Authorization": f"token {server.token}"}
        assert launch(url=server.url, headers=headers).run("6 * 7").text("result") == "42"

    def test_nobody_there(self, launch):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        result = launch(url=f"http://127.0.0.1:{port}", token="x").run("1")
        assert result.is_error and str(port) in result.text(), result

    def test_something_else_there(self, launch, tmp_path):
        files = subprocess.Popen([PYTHON, "-m", "http.server", "0", "--bind", "127.0.0.1", "-d",
                                  tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 env={"PYTHONUNBUFFERED": "1"})
        try:
            port = files.stdout.readline().decode().split()[5]
            result = launch(url=f"http://127.0.0.1:{port}", token="x").run("1")
            assert result.is_error and "404" in result.text(), result
        finally:
            files.kill()
            files.wait()
            files.stdout.close()


def refused(*args, **settings):
    """What cellblock says when it is started with these settings."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump({"environments": {"default": settings}}, config)
        config.flush()
        done = subprocess.run([binary(), "run", "--config", config.name, *args, "-"], input="1",
                              capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    return done.stdout + done.stderr


class TestSettings:
    def test_no_server_is_named(self):
        text = refused(backend="jupyter", network="all")
        assert "url" in text and "local-jupyter" in text

    def test_a_network_that_cannot_be_cut(self):
        text = refused(backend="jupyter", url="http://127.0.0.1:1")
        assert "network" in text and "all" in text

    @pytest.mark.parametrize("url", ["ftp://x", "localhost:8888", "http://"])
    def test_no_address(self, url):
        assert "url" in refused(backend="jupyter", url=url, network="all")
