"""What a fresh sandbox has of its own, and that nothing is shared with another one."""

import os

import pytest


def both(boxes, code):
    """The value of the same code in two fresh sessions."""
    return [boxes().value(code) for _ in range(2)]


@pytest.mark.parametrize("code", [
    "import random; random.random()", "import uuid; uuid.uuid4()", "import os; os.urandom(8)",
    "import secrets; secrets.token_hex(8)", "import tempfile; tempfile.mktemp()",
    "import random; random.Random().random()"])
def test_random_numbers_differ(boxes, code):
    one, two = both(boxes, code)
    assert one != two


@pytest.mark.needs("numpy")
def test_numpy_s_random_numbers_differ(boxes):
    one, two = both(boxes, "import numpy; numpy.random.random()")
    assert one != two


def test_hashes_are_randomised_or_at_least_work(py):
    assert py.value("hash('a') == hash('a')") == "True"


def test_temporary_folders_are_empty_and_writable(boxes):
    code = ("import os, sys, tempfile\nd = tempfile.gettempdir()\n[n for n in os.listdir(d) "
            "if not sys.prefix.startswith(os.path.join(d, n))]")  # a venv may lie there
    assert both(boxes, code) == ["[]", "[]"]
    assert boxes().value("import tempfile\nwith tempfile.TemporaryFile() as f: n = f.write(b'x')\n"
                         "n") == "1"


def test_working_folder_is_the_home_and_empty(box):
    code = ("import os\nos.getcwd() == os.path.expanduser('~') == os.environ['HOME'], "
            "[name for name in os.listdir('.') if name[0] != '.']")
    assert box.value(code) == "(True, [])"


@pytest.mark.needs("walls", "mount")
def test_own_processes_only(box):
    code = "import os\nsorted(int(n) for n in os.listdir('/proc') if n.isdigit())"
    assert len(eval(box.value(code))) <= 4
    assert int(box.value("os.getpid()")) < 50


@pytest.mark.needs("walls", "mount")
def test_own_hostname(box):
    import socket

    assert box.value("import socket; socket.gethostname()") != repr(socket.gethostname())


@pytest.mark.needs("walls", "plain_user")
def test_not_root(box):
    assert box.value("import os; 0 not in (os.getuid(), os.geteuid(), os.getgid())") == "True"


@pytest.mark.needs("walls")
class TestOutOfReach:
    """The rows of the table of peers: each of these is open in one of them."""

    def test_host_files(self, py, scratch):
        secret = scratch / "secret"
        secret.write_text("token123")
        result = py.run(f"print(open({str(secret)!r}).read())")
        assert result.cause == "error" and "token123" not in str(result.raw)

    @pytest.mark.parametrize("path", ["/root", "/home", "/var/lib/dpkg/status", "/etc/shadow"])
    def test_other_files(self, py, path):
        result = py.run(f"import os\nsorted(os.listdir({path!r})) if os.path.isdir({path!r}) else "
                        f"hash(open({path!r}).read()) and os.stat({path!r}).st_size")
        if result.cause != "error" and result.text("result") != "[]":
            # One of an image, perhaps; not this machine's.
            assert result.text("result") != self.of_this_machine(path), result

    @staticmethod
    def of_this_machine(path):
        """The same, as this process sees it."""
        try:
            return repr(sorted(os.listdir(path)) if os.path.isdir(path) else os.path.getsize(path))
        except PermissionError:
            return None

    @pytest.mark.needs("plain_user")
    @pytest.mark.parametrize("path", ["/usr/bin/new", "/etc/new", "/lib/new"])
    def test_the_system_is_read_only(self, py, path):
        assert py.run(f"open({path!r}, 'w')").cause == "error"

    @pytest.mark.needs("network_none")
    def test_loopback_of_the_host(self, py):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            result = py.run(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
            assert result.cause == "error", result

    @pytest.mark.needs("network_none")
    def test_the_network(self, py):
        result = py.run("import socket; socket.create_connection(('192.0.2.1', 80), 2)")
        assert result.cause == "error" and result.outcome["duration_ms"] < 5000

    @pytest.mark.needs("network_none", "mount")
    def test_own_loopback_works(self, py):
        code = """
            import socket
            with socket.create_server(('127.0.0.1', 0)) as s:
                c = socket.create_connection(s.getsockname(), 2)
                a, _ = s.accept(); c.sendall(b'hello'); got = a.recv(5)
            got"""
        assert py.value(code) == "b'hello'"

    def test_the_servers_processes(self, py):
        result = py.run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n"
                        "import time; time.sleep(0.2); print('still here')")
        assert result.cause in ("ok", "error", "killed", "lost")
        assert py.value("1 + 1") == "2"

    @pytest.mark.needs("own_root")
    def test_no_privilege_to_gain(self, py):
        status = py.value("open('/proc/self/status').read()")
        assert "NoNewPrivs:\\t1" in status and "CapEff:\\t0000000000000000" in status

    def test_setuid_programs_do_nothing(self, py):
        result = py.shell("test -u /bin/su && su -c id root </dev/null")
        assert "uid=0" not in result.text("stdout")


@pytest.mark.needs("network_all")
def test_network_when_it_is_asked_for(launch, setup):
    import socket

    with socket.create_server(("", 0)) as listener:
        to = (setup.host, listener.getsockname()[1])
        with launch("--network", "all") as client:
            result = client.run(f"import socket; socket.create_connection({to}, 5).close()")
            assert result.cause == "ok", result


@pytest.mark.needs("network_hosts")
def test_only_the_hosts_that_are_listed(launch, setup):
    import socket

    causes = {}
    with socket.create_server(("", 0)) as listener:
        to = (setup.host, listener.getsockname()[1])
        for hosts in (f"{setup.host}/32,example.org", "192.0.2.0/24"):
            with launch("--network", hosts) as client:
                result = client.run(f"import socket; socket.create_connection({to}, 5).close()")
                causes[hosts[:3]] = result.cause
    assert causes == {setup.host[:3]: "ok", "192": "error"}


@pytest.mark.lacking("network_none")
def test_a_network_that_cannot_be_cut_is_not_left_open_in_silence(launch):
    with launch(environment={"network": "none"}) as client:
        result = client.run("1 + 1")
        assert result.is_error and result.text("result") == "", result
        assert "network" in result.text() and '"all"' in result.text(), result
