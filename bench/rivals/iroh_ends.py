"""The two ends of a tunnel made with iroh: `server HOST PORT TARGET`, `client HERE HOST PORT KEY FORWARD`.

The client forwards the port FORWARD to the port TARGET on the server's loopback, with a QUIC stream for
each TCP connection, and QUIC datagrams for UDP, of one program at a time. The server prints its key. There
are no relays and no discovery.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from contextlib import suppress
from functools import partial
from typing import Any

from bench.rivals.joining import both

iroh: Any = importlib.import_module("iroh")  # a rival need not be installed to check the types of its ends

_ALPN = b"bench/1"
_PIECE = 1 << 16


async def _endpoint(address: str) -> Any:
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    builder = iroh.EndpointBuilder()
    builder.apply_minimal()
    builder.relay_mode(iroh.RelayMode.disabled())
    builder.bind_addr(address)
    builder.alpns([_ALPN])
    return await builder.bind()


async def join(stream: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes between a QUIC stream and a TCP connection until both directions have ended."""
    sending, receiving = stream.send(), stream.recv()

    async def out() -> None:
        while data := await reader.read(_PIECE):
            await sending.write_all(data)
        await sending.finish()

    async def back() -> None:
        while data := await receiving.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    with suppress(ConnectionError, iroh.IrohError):
        await both(out(), back())
    writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    """A UDP socket beside a QUIC connection. What the connection does not take is dropped."""

    def __init__(self, connection: Any, program: Any = None) -> None:
        self._connection = connection
        self._program = program  # the address of the one that is there; None: of the last that has sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._program = addr
        with suppress(iroh.IrohError):
            self._connection.send_datagram(data)

    async def back(self) -> None:
        """Send what comes, until the connection ends."""
        with suppress(iroh.IrohError):
            while True:
                data = await self._connection.read_datagram()
                if self._program is not None:
                    self._transport.sendto(data, self._program)


async def serve(host: str, port: int, target: int) -> None:
    """Run the far end."""
    endpoint = await _endpoint(f"{host}:{port}")
    print(endpoint.id(), flush=True)

    async def attend(stream: Any) -> None:
        await join(stream, *await asyncio.open_connection("127.0.0.1", target))

    async with asyncio.TaskGroup() as group:
        while incoming := await endpoint.accept_next():
            connection = await (await incoming.accept()).connect()
            _, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
                partial(_Datagrams, connection, ("127.0.0.1", target)), local_addr=("127.0.0.1", 0)
            )
            group.create_task(datagrams.back())
            while True:
                group.create_task(attend(await connection.accept_bi()))


async def connect(here: str, host: str, port: int, key: str, forward: int) -> None:
    """Run the near end."""
    endpoint = await _endpoint(f"{here}:0")
    address = iroh.EndpointAddr(iroh.EndpointId.from_string(key), None, [f"{host}:{port}"])
    connection = await endpoint.connect(address, _ALPN)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join(await connection.open_bi(), reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", forward)
    _, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
        partial(_Datagrams, connection), local_addr=("127.0.0.1", forward)
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(datagrams.back())
        await server.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", host, port, target]:
            asyncio.run(serve(host, int(port), int(target)))
        case ["client", here, host, port, key, forward]:
            asyncio.run(connect(here, host, int(port), key, int(forward)))
        case _:
            sys.exit(__doc__)
