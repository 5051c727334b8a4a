"""Plain TCP clients whose reading the test controls."""

from __future__ import annotations

import asyncio
import socket

_RECEIVE_BUFFER = 8192  # bytes


async def deaf_client(protocol: asyncio.BaseProtocol) -> tuple[socket.socket, asyncio.Transport]:
    """A client that reads nothing by itself and has a small receive buffer.

    Returns it with the transport of its connection at our side, which belongs to `protocol`.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=accepted)
    return client, transport


async def was_reset(client: socket.socket) -> bool:
    """Read to the end of the connection. True if it was a reset, False if it was an end in order."""
    client.settimeout(10)
    return await asyncio.to_thread(_ends_with_a_reset, client)


def _ends_with_a_reset(client: socket.socket) -> bool:
    with client:
        try:
            while client.recv(1 << 20):
                pass
        except ConnectionResetError:
            return True
    return False
