"""TLS before a server of HTTP/2 on the same machine, for test-grpc-tls.

`h2_front.py FOLDER PORT` makes two ports of 127.0.0.1, told on the first line of stdout: one that
agrees on "h2" by ALPN and one that knows nothing of it. Both carry what comes to PORT and back.
FOLDER holds the certificate (good.pem, good.key). It ends when its stdin does.
"""

import asyncio
import contextlib
import os
import ssl
import sys

PIECE = 65536


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Bytes from one to the other, until one of them ends."""
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            target.write(piece)
            await target.drain()
    target.close()


async def listen(folder: str, port: int, protocols: list[str]) -> int:
    """Listens on a port of its own, which is returned."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/good.pem", f"{folder}/good.key")
    if protocols:
        context.set_alpn_protocols(protocols)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    return server.sockets[0].getsockname()[1]


async def main() -> None:
    """Listens, tells the ports, waits."""
    folder, port = sys.argv[1], int(sys.argv[2])
    print(await listen(folder, port, ["h2"]), await listen(folder, port, []), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


asyncio.run(main())
