"""The two ends of a tunnel made with aioquic.

    server HOST PORT CERTIFICATE KEY TARGET
    client HOST PORT FORWARD

The client forwards the port FORWARD to the port TARGET on the server's loopback, with a QUIC stream for
each connection. Congestion control and windows are aioquic's own defaults.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from contextlib import suppress
from typing import Any

from bench.rivals.joining import both

quic: Any = importlib.import_module("aioquic.asyncio")  # a rival need not be installed to check its types
QuicConfiguration: Any = importlib.import_module("aioquic.quic.configuration").QuicConfiguration

_ALPN = ["bench/1"]
_PIECE = 1 << 16
_MOST_WAITING = 1 << 18  # bytes that a stream holds before its TCP connection is not read any more
_LOOK = 0.002  # seconds between two looks whether it may be read again: aioquic has no event for that


async def join(
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes between a QUIC stream and a TCP connection until both directions have ended."""
    receiving, sending = stream

    async def out() -> None:
        while data := await reader.read(_PIECE):
            sending.write(data)
            while _waiting(sending.transport) > _MOST_WAITING:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)
        sending.write_eof()

    async def back() -> None:
        while data := await receiving.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    with suppress(ConnectionError):
        await both(out(), back())
    writer.close()


def _waiting(transport: Any) -> int:
    """How many bytes of a QUIC stream have not been acknowledged yet. aioquic has no limit of its own."""
    stream = transport.protocol._quic._streams.get(transport.stream_id)
    return len(stream.sender._buffer) if stream is not None else 0


async def serve(host: str, port: int, certificate: str, key: str, target: int) -> None:
    """Run the far end."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=_ALPN)
    configuration.load_cert_chain(certificate, key)
    tasks: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join((reader, writer), *await asyncio.open_connection("127.0.0.1", target))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(attend(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await quic.serve(host, port, configuration=configuration, stream_handler=accept)
    await asyncio.get_running_loop().create_future()


async def connect(host: str, port: int, forward: int) -> None:
    """Run the near end."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=_ALPN, verify_mode=ssl.CERT_NONE)
    async with quic.connect(host, port, configuration=configuration) as connection:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = await connection.create_stream()
            stream[1].write(b"")  # else aioquic gives the next one the same number
            await join(stream, reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", forward)
        await server.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", host, port, certificate, key, target]:
            asyncio.run(serve(host, int(port), certificate, key, int(target)))
        case ["client", host, port, forward]:
            asyncio.run(connect(host, int(port), int(forward)))
        case _:
            sys.exit(__doc__)
