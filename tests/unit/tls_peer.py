"""A TLS server for test-http-tls: one port a certificate, told on the first line of stdout.

Each port answers `GET` with the subject of the client's certificate (or "nobody"), and upgrades
`POST /up/SIZE` to a stream that sends back what comes, and says "bye" after SIZE bytes, or to one
that ends when the client has shut its direction (`POST /until-shut`). It ends when its stdin does.
"""

import os
import socket
import ssl
import sys
import threading

# The name of the certificate's files, whether a client certificate is wanted, the newest TLS.
PORTS = [
    ("good", False, ssl.TLSVersion.TLSv1_3),
    ("good", False, ssl.TLSVersion.TLSv1_2),
    ("other", False, ssl.TLSVersion.TLSv1_3),
    ("expired", False, ssl.TLSVersion.TLSv1_3),
    ("good", True, ssl.TLSVersion.TLSv1_3),
]


def read_request(connection: ssl.SSLSocket) -> bytes:
    """Reads a head and its body, which is "{}" where there is one."""
    request = b""
    while b"\r\n\r\n" not in request or (b"POST" in request and not request.endswith(b"{}")):
        piece = connection.recv(4096)
        if not piece:
            return b""
        request += piece
    return request


def stream(connection: ssl.SSLSocket, path: str) -> None:
    """Upgrades and sends back all that comes, or waits for the end of what comes."""
    connection.sendall(b"HTTP/1.1 101 UP\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nglued")
    if path == "/until-shut":
        while connection.recv(65536):
            pass
        return
    left = int(path.rsplit("/", 1)[1])
    while left > 0 and (piece := connection.recv(65536)):
        connection.sendall(piece)
        left -= len(piece)
    connection.sendall(b"bye")
    connection.unwrap()


def serve(context: ssl.SSLContext, plain: socket.socket) -> None:
    """One connection; what a client does wrong ends it."""
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            while request := read_request(connection):
                if request.startswith(b"POST"):
                    stream(connection, request.split()[1].decode())
                    return
                certificate = connection.getpeercert() or {}
                subject = dict(part[0] for part in certificate.get("subject", ()))
                name = subject.get("commonName", "nobody").encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                                   % (len(name), name))
    except OSError:
        plain.close()


def listen(folder: str, name: str, client: bool, newest: ssl.TLSVersion) -> int:
    """Listens on a port of 127.0.0.1 in a thread; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/{name}.pem", f"{folder}/{name}.key")
    context.maximum_version = newest
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(f"{folder}/ca.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=serve, args=(context, plain), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def main() -> None:
    """Listens, tells the ports, waits."""
    ports = [listen(sys.argv[1], *port) for port in PORTS]
    print(*ports, flush=True)
    sys.stdin.read()
    os._exit(0)


main()
