"""Attacks over sockets: the host's network, and the sockets of its programs."""

import contextlib
import os
import socket
import tempfile
import threading

import pytest
from attack import held, on_host, server


@contextlib.contextmanager
def listening(family, address, kind=socket.SOCK_STREAM):
    """A program of the host that serves the secret at an address; yields the bound address."""
    with socket.socket(family, kind) as sock:
        sock.bind(address)
        if kind == socket.SOCK_DGRAM:
            yield sock.getsockname(), sock
            return
        sock.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    sock.accept()[0].sendall(b"secret")

        threading.Thread(target=serve, daemon=True).start()
        yield sock.getsockname(), sock
        sock.shutdown(socket.SHUT_RDWR)


CONNECT = '''
def talk():
    sock = socket.socket(@family@, @kind@)
    sock.settimeout(3)
    if @kind@ == socket.SOCK_DGRAM:
        return sock.sendto(b"planted", @address@)
    sock.connect(@address@)
    return sock.recv(100)
attempt(talk, bool)
'''


def connect(cell, family, address, kind=socket.SOCK_STREAM):
    """The attack of connecting to a listener of the host."""
    values = {"family": int(family), "kind": int(kind), "address": address}
    held(cell, CONNECT, values=values)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_loopback_of_the_host(cell, host):
    """A service on the host's own loopback is not the cell's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening(family, (host, 0)) as (address, _):
        connect(cell, family, address[:2])


def test_loopback_datagrams(cell):
    """Nor by UDP: nothing arrives."""
    with listening(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM) as (address, sock):
        values = {"family": 2, "kind": 2, "address": address}
        cell.run("import socket\ntry:\n    socket.socket(2, 2).sendto(b'x', %r)\n"
                 "except OSError as e:\n    print(e)" % (address,))
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        assert "ESCAPED" in on_host(CONNECT, values) and sock.recv(10) == b"planted"


def test_the_network(cell):
    """No interface but a loopback, no route, no name service."""
    result = cell.run('''
import socket
for address in ("1.1.1.1", "192.168.0.1", "169.254.169.254", "10.0.0.1"):
    try:
        sock = socket.socket()
        sock.settimeout(3)
        sock.connect((address, 80))
        print("ESCAPED")
    except TimeoutError:
        print("ESCAPED: there is a route to", address)
    except OSError as error:
        pass
try:
    socket.getaddrinfo("example.com", 80); print("ESCAPED")
except OSError:
    print("HELD")
''')
    assert result.text("stdout") == "HELD\n", result


def test_abstract_sockets(cell):
    """Names that are in no folder: a wall of the network namespace, and of Landlock's scope."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with listening(socket.AF_UNIX, f"\0cellblock-test-{os.getpid()}-{kind}", kind) as (name, _):
            connect(cell, socket.AF_UNIX, name, kind)


@pytest.mark.parametrize("folder", ["/run", "/tmp", "/var/tmp"])
def test_sockets_with_a_path(cell, folder):
    """What docker.sock, a session bus or an ssh agent is; datagrams as syslog takes them."""
    if not os.access(folder, os.W_OK):
        folder = "/tmp"
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            os.chmod(place, 0o755)
            path = place + "/docker.sock"
            with listening(socket.AF_UNIX, path, kind):
                os.chmod(path, 0o777)
                connect(cell, socket.AF_UNIX, path, kind)


def test_a_pair_of_sockets_leads_nowhere(cell):
    """A connected pair is allowed; one end cannot be turned to a socket of the host."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        path = place + "/log"
        with listening(socket.AF_UNIX, path, socket.SOCK_DGRAM):
            os.chmod(path, 0o777)
            held(cell, '''
def send(kind, turn):
    sock, _ = socket.socketpair(socket.AF_UNIX, kind)
    if turn:
        sock.connect(@path@)
        return sock.send(b"planted")
    return sock.sendto(b"planted", @path@)
for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    for turn in (False, True):
        if kind != socket.SOCK_SEQPACKET or turn:   # there an address is ignored
            attempt(lambda: send(kind, turn))
''', values={"path": path})
    pair = cell.run("import socket\na, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))")
    assert pair.text("stdout") == "b'x'\n"


FAMILIES = {"AF_NETLINK": (16, 3, 0), "AF_PACKET": (17, 3, 0), "AF_VSOCK": (40, 1, 0),
            "AF_ALG": (38, 5, 0), "AF_KEY": (15, 3, 2), "AF_BLUETOOTH": (31, 3, 1),
            "AF_TIPC": (30, 5, 0), "AF_RDS": (21, 5, 0), "AF_XDP": (44, 3, 0),
            "AF_CAN": (29, 3, 1), "AF_QIPCRTR": (42, 2, 0), "AF_SMC": (43, 1, 0),
            "AF_INET raw": (2, 3, 1), "AF_INET6 raw": (10, 3, 58)}


def test_other_families(cell):
    """Families whose kernel code ordinary programs never need, and raw sockets."""
    code = '''
for name, triple in @families@.items():
    try:
        socket.socket(*triple)
        print("ESCAPED", name)
    except OSError as error:
        print("HELD", name, error)
'''
    held(cell, code, values={"families": FAMILIES})


def test_descriptors_from_outside(fresh):
    """No descriptor of the host came along: /dev/null, the two pipes of the output (and the
    worker's spare ones of the same) and one socket, its frames; above all not the status socket."""
    result = fresh.run('''
import os, stat
standard = {os.fstat(fd)[1:3]: fd for fd in (0, 1, 2)}
for fd in range(1024):
    try:
        facts = os.fstat(fd)
    except OSError:
        continue
    if facts[1:3] in standard:
        print("standard", standard[facts[1:3]])
    elif stat.S_ISSOCK(facts.st_mode):
        print("socket", fd)
    elif stat.S_IFMT(facts.st_mode):    # an event descriptor has no kind
        print("other", fd, oct(facts.st_mode))
''')
    lines = result.text("stdout").splitlines()
    sockets = [line for line in lines if line.startswith("socket")]
    assert len(sockets) == 1, result
    assert set(lines) - set(sockets) == {"standard 0", "standard 1", "standard 2"}, result


@pytest.fixture(scope="module", params=["forked", "solo", "landlock"])
def connected(request):
    """A cell with the host's network."""
    with server(request.param, network="all") as one:
        yield one.cell()


def test_network_all_is_the_network_only(connected):
    """Asked for, the host's loopback is there; its abstract sockets and paths are not."""
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as (address, _):
        result = connected.run("import socket\nsock = socket.create_connection(%r, 5)\n"
                               "print(sock.recv(100))" % (address,))
        assert result.text("stdout") == "b'secret'\n", result
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        name = f"\0cellblock-test-all-{os.getpid()}-{kind}"
        with listening(socket.AF_UNIX, name, kind) as (bound, _):
            connect(connected, socket.AF_UNIX, bound, kind)


def test_network_all_opens_no_other_family(connected):
    """The filter holds on: AF_PACKET, netlink and raw sockets stay closed."""
    test_other_families(connected)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        with listening(socket.AF_UNIX, place + "/docker.sock"):
            os.chmod(place + "/docker.sock", 0o777)
            connect(connected, socket.AF_UNIX, place + "/docker.sock")
