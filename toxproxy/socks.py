"""The proxy port: SOCKS5, SOCKS4, SOCKS4a and HTTP, told apart by their first byte, as `ssh -D` and more."""

from __future__ import annotations

import asyncio
import logging

from toxproxy import relay
from toxproxy.address import Target
from toxproxy.config import ProxyPort
from toxproxy.connection import Connection
from toxproxy.dialer import Dialer
from toxproxy.errors import StreamRefused
from toxproxy.handshake import SOCKS4, SOCKS5, Credentials, Handshake, HandshakeError
from toxproxy.http_proxy import HttpProxy
from toxproxy.listener import MAX_PENDING, Listener

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 30.0
_TLS_HANDSHAKE = 0x16  # RFC 8446, section 5.1: the content type of a ClientHello


class ProxyListener(Listener):
    """Lets each client say where it wants to go, and tells it what came of that before anything else.

    Where the port has a user name and password, SOCKS5 and HTTP clients need them and SOCKS4
    clients, which cannot send any, are refused.
    """

    def __init__(self, proxy: ProxyPort, dialer: Dialer, *, max_pending: int = MAX_PENDING) -> None:
        super().__init__(proxy.name, proxy.bind, dialer, max_pending=max_pending)
        self._credentials: Credentials | None = None
        if proxy.username is not None:
            self._credentials = Credentials(proxy.username.encode(), (proxy.password or "").encode())

    async def serve(self, client: Connection) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                start = await client.read()
        except TimeoutError:
            return
        client.unread(start)
        first = start[:1]
        if first in (bytes([SOCKS4]), bytes([SOCKS5])):
            await self._serve_socks(client)
        elif first.isalpha():
            await self._serve_http(client)
        else:
            if first == bytes([_TLS_HANDSHAKE]):
                log.info(
                    "%s: a client speaks TLS to the proxy: set it up without (http://, not https://)",
                    self.name,
                )
            await client.finish()

    async def _serve_socks(self, client: Connection) -> None:
        handshake = Handshake(self._credentials)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                target = await _request(handshake, client)
            far = await self.open(client, target)
        except TimeoutError:
            return
        except HandshakeError as error:
            log.info("%s: a SOCKS client was turned away: %s", self.name, error)
            await client.write(error.reply)
            await client.finish()
            return
        except StreamRefused as refusal:
            await client.write(handshake.refused(refusal.code))
            await client.finish()
            return
        try:
            await client.write(handshake.granted())
            await relay.run(client, far)
        finally:
            far.reset()

    async def _serve_http(self, client: Connection) -> None:
        async def open_to(target: Target, half_closed: bool) -> Connection:
            return await self.open(client, target, half_closed=half_closed)

        await HttpProxy(client, open_to, self._credentials).run()


async def _request(handshake: Handshake, client: Connection) -> Target:
    """Go through the handshake up to the request; what follows the request is left unread."""
    while handshake.target is None:
        if not (data := await client.read()):
            raise ConnectionResetError("the client left during the SOCKS handshake")
        if replies := handshake.receive(data):
            await client.write(replies)
    client.unread(handshake.rest)
    return handshake.target
