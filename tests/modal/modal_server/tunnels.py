"""From a port of this machine to a port in a sandbox: plain, or TLS by a CA of the server's own."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .cells import CellError

HOST = "localhost"
TLS_ADDRESS = "127.0.0.2"


class Authority:
    """A CA and one certificate by it, made at the start, in a folder."""

    def __init__(self, folder):
        self.file = folder / "ca.pem"
        key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA of this server")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        names = x509.SubjectAlternativeName([
            x509.DNSName(HOST), *(x509.IPAddress(ipaddress.ip_address(address))
                                  for address in ("127.0.0.1", TLS_ADDRESS))])
        authority = _certificate(issuer, issuer, key.public_key()).add_extension(
            x509.BasicConstraints(True, 0), True).sign(key, hashes.SHA256())
        leaf = _certificate(subject, issuer, own.public_key()).add_extension(
            x509.BasicConstraints(False, None), True).add_extension(
            names, False).sign(key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        self.file.write_bytes(authority.public_bytes(pem))
        self._chain = folder / "server.pem"
        self._chain.touch(mode=0o600)
        self._chain.write_bytes(leaf.public_bytes(pem) + own.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def context(self, *protocols):
        """For a server; `protocols` are ALPN's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain)
        context.set_alpn_protocols(list(protocols) or ["http/1.1"])
        return context


def _certificate(subject, issuer, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2)))


class Tunnels:
    """The listeners of one sandbox; `touched()` is called when somebody uses one."""

    def __init__(self, cell, authority, touched, allowed=()):
        self.cell = cell
        self.allowed = [ipaddress.ip_network(one) for one in allowed]  # any when empty
        self.authority = authority
        self.touched = touched
        self.open = {}  # container port: (port, encrypted)
        self._servers = []
        self._tasks = set()

    @property
    def busy(self):
        """Is anybody connected?"""
        return bool(self._tasks)

    async def listen(self, port, encrypted, h2=False):
        """A listener for a port in the sandbox."""
        context = self.authority.context("h2" if h2 else "http/1.1") if encrypted else None
        server = await asyncio.start_server(lambda r, w: self._serve(port, r, w), "127.0.0.1", 0,
                                            ssl=context)
        self._servers.append(server)
        self.open[port] = (server.sockets[0].getsockname()[1], encrypted)

    async def _serve(self, port, reader, writer):
        peer = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        if self.allowed and not any(peer in one for one in self.allowed):
            writer.transport.abort()
            return
        task = asyncio.current_task()
        self._tasks.add(task)
        self.touched()
        with contextlib.suppress(CellError, OSError, asyncio.CancelledError):
            inside = await asyncio.open_connection(sock=await self.cell.connect(port))
            pumps = [asyncio.ensure_future(_pump(reader, inside[1])),
                     asyncio.ensure_future(_pump(inside[0], writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait(pumps, timeout=1)
            finally:
                for pump in pumps:
                    pump.cancel()
                inside[1].close()
        writer.close()
        self._tasks.discard(task)
        self.touched()

    def close(self):
        """All listeners and connections."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()


class Relays:
    """This machine's network for a sandbox that has loopback ports of its own: whatever listens on
    this machine's loopback is listened for in the sandbox, too, and its connections are passed on.
    """

    def __init__(self, cell, left_out):
        self.cell = cell
        self.known = set(left_out)
        self._servers = []
        self._tasks = set()

    async def follow(self):
        """Looks for new listeners until it is cancelled."""
        try:
            while True:
                for port in listened_on() - self.known:
                    self.known.add(port)
                    with contextlib.suppress(CellError, OSError):
                        self._servers.append(await asyncio.start_server(
                            lambda r, w, port=port: self._serve(port, r, w),
                            sock=await self.cell.listen(port)))
                await asyncio.sleep(0.2)
        finally:
            for server in self._servers:
                server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, port, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            outside = await asyncio.open_connection("127.0.0.1", port)
            pumps = [asyncio.ensure_future(_pump(reader, outside[1])),
                     asyncio.ensure_future(_pump(outside[0], writer))]
            try:
                await asyncio.wait(pumps)
            finally:
                for pump in pumps:
                    pump.cancel()
                outside[1].close()
        writer.close()
        self._tasks.discard(task)


def listened_on():
    """The TCP ports that somebody listens on at this machine's loopback."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows
            if row[3] == "0A" and row[1].partition(":")[0] in ("0100007F", "00000000")}


async def _pump(reader, writer):
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
