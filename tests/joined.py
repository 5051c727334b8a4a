"""Two ends in this process: how one finds the other, and when they are connected."""

from __future__ import annotations

import asyncio

from toxproxy import Client, PeerState, Server

PATIENCE = 60


def node_of(server: Server) -> str:
    """The server's own node on this machine, as `[tox] bootstrap` names it."""
    return f"127.0.0.1:{server.node.udp_port}:{server.node.dht_key.hex()}"


async def connected(client: Client) -> None:
    """Wait until a client has its only server."""
    async with asyncio.timeout(PATIENCE):
        while [peer.state for peer in client.peers()] != [PeerState.CONNECTED]:
            await asyncio.sleep(0.05)
