"""A WebSocket server that misbehaves as the path of the request says.

Written with sockets and the standard library only, so that it can break every rule. Usage:
websocket_server.py FOLDER. It makes its certificates in FOLDER by the openssl command and prints
one line: the ports of plain TCP, TLS, TLS with a wrong name, a silent one, and both TLS on ::1.
FOLDER/socket is a unix socket. Afterwards it prints what a test wants to know of the server's side.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qsl, urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode, payload=b"", final=True, size=None, rsv=0, mask=None):
    """One frame; `size` is what its head claims."""
    size = len(payload) if size is None else size
    masked = 128 if mask else 0
    head = bytes([opcode | (128 if final else 0) | rsv << 4])
    if size < 126:
        head += bytes([size | masked])
    elif size < 65536:
        head += bytes([126 | masked]) + struct.pack(">H", size)
    else:
        head += bytes([127 | masked]) + struct.pack(">Q", size)
    return head + (mask or b"") + payload


class Peer:
    """One connection, after its handshake head was read."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""
        self.head = {}
        self.path = ""
        self.query = {}

    def read(self, size):
        """Exactly so many bytes; EOFError when there are no more."""
        while len(self.buffer) < size:
            more = self.connection.recv(1 << 20)
            if not more:
                raise EOFError
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def read_head(self):
        """The request; its text."""
        while b"\r\n\r\n" not in self.buffer:
            more = self.connection.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.head = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        url = urlsplit(lines[0].split(" ")[1])
        self.path = url.path
        self.query = dict(parse_qsl(url.query))
        return head

    def answer(self, accept=None, more=""):
        """The head of the answer that agrees."""
        if accept is None:
            key = self.head["sec-websocket-key"].encode()
            accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()
        return ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n").encode()

    def read_frame(self):
        """Opcode and payload of one frame, unmasked."""
        first, second = self.read(2)
        if not second & 128:
            raise ValueError("a client's frame must be masked")
        size = second & 127
        if size == 126:
            size = struct.unpack(">H", self.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.read(8))[0]
        mask = self.read(4)
        payload = self.read(size)
        repeated = (mask * (size // 4 + 1))[:size]
        plain = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big"))
        return first & 15, plain.to_bytes(size, "big")

    def send(self, *arguments, **named):
        """One frame, at once."""
        self.connection.sendall(frame(*arguments, **named))

    def messages(self):
        """What the client sends until it closes; its closing frame is answered and printed."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == CLOSE:
                print("close", struct.unpack(">H", payload[:2])[0] if payload else 0, flush=True)
                self.send(CLOSE, payload)
                return
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode == PONG:
                print("pong", payload.decode(), flush=True)
            else:
                yield opcode, payload


def pattern(size):
    """Bytes that are not the same everywhere."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


# ---- after an honest handshake ----

def echo(peer):
    for opcode, payload in peer.messages():
        peer.send(opcode, payload)


def headers(peer):
    peer.send(TEXT, "\n".join(f"{k}: {v}" for k, v in peer.head.items()).encode())
    echo(peer)


def two_writes(peer):
    """Each answer is two messages of two small writes each, held together by Nagle's rule only."""
    peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    for opcode, payload in peer.messages():
        for part in (b"first", payload):
            data = frame(opcode, part)
            peer.connection.sendall(data[:2])
            peer.connection.sendall(data[2:])


def fragments(peer):
    """A text in pieces with pings in between, empty ones too, then a binary one."""
    peer.send(TEXT, b"one ", final=False)
    peer.send(PING, b"between")
    peer.send(0, b"", final=False)
    peer.send(0, b"two ", final=False)
    peer.send(PING, b"")
    peer.send(0, "drei \N{SNAKE}".encode(), final=False)
    peer.send(0, b"", final=True)
    peer.send(BINARY, b"", final=False)
    peer.send(0, pattern(300000), final=False)
    peer.send(0, b"end", final=True)
    peer.send(TEXT, b"")
    echo(peer)


def bytewise(peer):
    for byte in frame(TEXT, pattern(200)) + frame(PING, b"p") + frame(BINARY, b"x"):
        peer.connection.sendall(bytes([byte]))
        time.sleep(0.001)
    echo(peer)


def big(peer):
    size, count = int(peer.query["size"]), int(peer.query.get("count", 1))
    data = frame(BINARY, pattern(size))
    for _ in range(count):
        peer.connection.sendall(data)
    print("sent", flush=True)
    echo(peer)


def sink(peer):
    """Answers "sum" with how many messages and bytes came, in which order, and their digest."""
    count, size, digest = 0, 0, hashlib.sha1()
    for opcode, payload in peer.messages():
        if opcode == TEXT and payload == b"sum":
            peer.send(TEXT, f"{count} {size} {digest.hexdigest()}".encode())
        else:
            count, size = count + 1, size + len(payload)
            digest.update(payload)


def deaf(peer):
    """Reads nothing more."""
    time.sleep(60)


def ping(peer):
    peer.send(PING, b"are you there")
    echo(peer)


def pings_unanswered(peer):
    """Reads, and answers nothing."""
    while True:
        opcode, _payload = peer.read_frame()
        print("got", opcode, flush=True)


def counts_pings(peer):
    """Says nothing by itself, but answers pings."""
    while True:
        opcode, payload = peer.read_frame()
        if opcode == PING:
            print("ping", flush=True)
            peer.send(PONG, payload)


def drip(peer):
    """A frame that comes slowly, for three seconds."""
    data = frame(TEXT, pattern(60))
    for byte in data:
        peer.connection.sendall(bytes([byte]))
        time.sleep(0.05)
    echo(peer)


def close(peer):
    payload = struct.pack(">H", int(peer.query["code"])) if "code" in peer.query else b""
    peer.send(CLOSE, payload + peer.query.get("reason", "").encode())
    try:
        opcode, payload = peer.read_frame()
        print("answered", opcode, payload.hex(), flush=True)
    except EOFError:
        print("answered nothing", flush=True)


def never_closes(peer):
    """Answers no closing frame and keeps the connection."""
    while True:
        opcode, _payload = peer.read_frame()
        print("got", opcode, flush=True)


def too_long(peer):
    peer.send(BINARY, pattern(200000), size=int(peer.query.get("size", 1 << 40)))
    echo(peer)


def long_fragments(peer):
    peer.send(TEXT, b"x" * 1000, final=False)
    for _ in range(10000):
        peer.send(0, b"x" * 1000, final=False)


def cut(peer):
    """Ends in the middle of what the query says."""
    data = frame(TEXT, pattern(100000))
    at = {"first": 0, "head": 1, "length": 3, "payload": 5000}[peer.query["at"]]
    if "joined" in peer.query:
        peer.send(TEXT, b"begin", final=False)
    peer.connection.sendall(data[:at])
    if "reset" in peer.query:
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def invalid(peer):
    peer.connection.sendall({
        "opcode": frame(3, b"x"),
        "rsv": frame(TEXT, b"x", rsv=4),
        "continuation": frame(0, b"x"),
        "long-ping": frame(PING, b"x" * 126),
        "half-ping": frame(PING, b"x", final=False),
        "half-text": frame(TEXT, b"x", final=False) + frame(TEXT, b"x"),
        "length": b"\x82\x7f\xff" + b"\xff" * 7,
    }[peer.query["what"]])
    echo(peer)


def garbage(peer):
    peer.connection.sendall(os.urandom(100000))
    echo(peer)


# ---- with a handshake of their own ----

def status(peer):
    body = b"no such kernel"
    peer.connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (
        peer.query["is"].encode(), len(body), b"Location: ws://127.0.0.1:1/\r\n") + body)
    time.sleep(0.2)


def no_answer(peer):
    time.sleep(30)


def cut_head(peer):
    peer.connection.sendall(peer.answer()[:int(peer.query["at"])])


def slow_head(peer):
    for byte in peer.answer():
        peer.connection.sendall(bytes([byte]))
        time.sleep(0.002)
    echo(peer)


def endless_head(peer):
    peer.connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
    for n in range(100000):
        peer.connection.sendall(b"X-Header-%d: %s\r\n" % (n, b"x" * 100))


def large_head(peer):
    more = "".join(f"Set-Cookie: c{n}={'x' * 100}\r\n" for n in range(60))
    peer.connection.sendall(peer.answer(more=more))
    echo(peer)


def no_http(peer):
    peer.connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    time.sleep(0.2)


def wrong_accept(peer):
    peer.connection.sendall(peer.answer(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA="))
    time.sleep(0.2)


def no_accept(peer):
    peer.connection.sendall(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    time.sleep(0.2)


def subprotocol(peer):
    chosen = peer.query.get("choose", peer.head.get("sec-websocket-protocol", ""))
    peer.connection.sendall(peer.answer(more=f"Sec-WebSocket-Protocol: {chosen}\r\n"))
    echo(peer)


def coalesced(peer):
    """The answer and the first messages in one write."""
    peer.connection.sendall(peer.answer() + frame(TEXT, b"at once") + frame(TEXT, b"and again"))
    echo(peer)


HONEST = (echo, headers, two_writes, fragments, bytewise, big, sink, deaf, ping, pings_unanswered,
          counts_pings, drip, close, never_closes, too_long, long_fragments, cut, invalid, garbage)
OWN = (status, no_answer, cut_head, slow_head, endless_head, large_head, no_http, wrong_accept,
       no_accept, subprotocol, coalesced)


def serve(connection, context):
    """One connection, in its own thread."""
    try:
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        peer = Peer(connection)
        if connection.recv(1, socket.MSG_PEEK if not context else 0) == b"\x16":
            return  # TLS on the plain port: cut
        if context:
            peer.buffer = b"G"
        peer.read_head()
        name = peer.path.strip("/").replace("-", "_")
        for handler in HONEST:
            if handler.__name__ == name:
                connection.sendall(peer.answer())
                handler(peer)
        for handler in OWN:
            if handler.__name__ == name:
                handler(peer)
    except (EOFError, OSError, ValueError) as error:
        print("lost", type(error).__name__, flush=True)
    finally:
        connection.close()


def listen(listener, context=None):
    """Accepts for ever."""
    def loop():
        while True:
            connection, _address = listener.accept()
            threading.Thread(target=serve, args=(connection, context), daemon=True).start()
    listener.listen(64)
    threading.Thread(target=loop, daemon=True).start()
    return listener.getsockname()


def certificate(folder, name, names):
    """A context with a new self-signed certificate."""
    key, cert = f"{folder}/{name}.key", f"{folder}/{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key,
                    "-out", cert, "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def tcp():
    """A listener on a free port of loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def tcp6(context):
    """The port of a listener on ::1, 0 where there is no IPv6."""
    try:
        listener = socket.socket(socket.AF_INET6)
        listener.bind(("::1", 0))
    except OSError:
        return 0
    return listen(listener, context)[1]


def main():
    folder = sys.argv[1]
    good = certificate(folder, "good", "DNS:localhost,IP:127.0.0.1,IP:::1")
    wrong = certificate(folder, "wrong", "DNS:elsewhere.example")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"{folder}/socket")
    listen(unix)
    silent = tcp()
    silent.listen(64)
    ports = [listen(tcp())[1], listen(tcp(), good)[1], listen(tcp(), wrong)[1],
             silent.getsockname()[1], tcp6(good), tcp6(wrong)]
    print(*ports, flush=True)
    sys.stdin.read()  # until the test is gone


main()
