"""The proxy port, for SOCKS5 and its UDP, SOCKS4, SOCKS4a and HTTP. The client's first byte tells which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from toxproxy import relay
from toxproxy.address import Target
from toxproxy.config.settings import LimitSettings, ProxyPort
from toxproxy.dialer import Way
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.http.reader import MAX_EMPTY_LINES
from toxproxy.inbound.flows import Openings
from toxproxy.inbound.guard import Guard
from toxproxy.inbound.handshake import SOCKS4, SOCKS5, Credentials, Handshake, HandshakeError, WrongLogin
from toxproxy.inbound.http_proxy import HttpProxy
from toxproxy.inbound.listener import DEFAULTS, Listener
from toxproxy.inbound.socks_udp import Association
from toxproxy.pace import Notice
from toxproxy.relay.stream import ByteStream

log = logging.getLogger(__name__)

_LINE_ENDS = b"\r\n"  # may come before an HTTP request (RFC 9112, section 2.2)
_TLS_HANDSHAKE = 0x16  # the content type of a ClientHello (RFC 8446, section 5.1)
_ODD_LINES = 10  # a minute, about clients that are turned away


class ProxyListener(Listener):
    """Takes a request from each client, opens a connection to its target, and answers.

    If the port has a user name and password, SOCKS5 and HTTP clients need them. SOCKS4 clients are then
    refused, since they cannot send a password. A client has `limits.handshake` seconds for its request.

    `exits` are the dialers that a SOCKS5 client may choose by its user name, at the moment.
    """

    def __init__(
        self,
        proxy: ProxyPort,
        dialer: Way,
        limits: LimitSettings = DEFAULTS,
        *,
        compress: bool = True,
        exits: Callable[[], Mapping[str, Way]] = dict,
    ) -> None:
        super().__init__(proxy.name, proxy.bind, dialer, limits, compress=compress)
        self._way = dialer
        self._exits = exits
        self._openings = Openings(limits.flows)
        self._odd = Notice(log, most=_ODD_LINES)
        self._guard: Guard | None = None
        if proxy.username is not None:
            credentials = Credentials(proxy.username.encode(), (proxy.password or "").encode())
            self._guard = Guard(proxy.name, credentials)

    async def serve(self, client: ByteStream) -> None:
        deadline = asyncio.get_running_loop().time() + self._limits.handshake
        try:
            async with asyncio.timeout_at(deadline):
                start = await _first_bytes(client)
        except TimeoutError:
            return  # not logged: browsers open connections before they need them
        client.unread(start)
        first = start.lstrip(_LINE_ENDS)[:1]
        if first in (bytes([SOCKS4]), bytes([SOCKS5])):
            await self._serve_socks(client, deadline)
        elif first.isalpha():
            await self._serve_http(client, deadline)
        else:
            if first == bytes([_TLS_HANDSHAKE]):
                self._odd(
                    "%s: a client speaks TLS to the proxy, which expects plain HTTP or SOCKS: "
                    "set the client's proxy to http://, not https://",
                    self.name,
                )
            await client.finish()

    async def _serve_socks(self, client: ByteStream, deadline: float) -> None:
        exits = self._exits()
        handshake = Handshake(self._guard.credentials if self._guard is not None else None, exits)
        try:
            async with asyncio.timeout_at(deadline):
                await self._request(handshake, client)
            way = exits.get(handshake.exit or "")
            if handshake.association is not None:
                await self._associate(handshake, handshake.association, client, way or self._way)
                return
            assert handshake.target is not None
            far = await self.open(client, handshake.target, dialer=way)
        except TimeoutError:
            self.log_slow("a SOCKS client did not finish its request")
            return
        except WrongLogin as error:
            await client.write(error.reply)
            await client.finish()
            return
        except HandshakeError as error:
            self._odd("%s: a SOCKS client was turned away: %s", self.name, error)
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

    async def _associate(
        self, handshake: Handshake, asked: tuple[str, int], client: ByteStream, way: Way
    ) -> None:
        """Carry datagrams for the client as long as its TCP connection lasts."""
        self.has_asked()
        if client.transport is None or not isinstance(client.transport.get_extra_info("sockname"), tuple):
            raise StreamRefused(Refusal.UNSUPPORTED, "a client has to come from an address for UDP")
        self._openings.most = self._limits.flows
        try:
            association = Association(client, asked, way, self._openings, self.log_refused)
        except OSError as error:
            raise StreamRefused(Refusal.FAILED, f"no UDP socket: {error}") from error
        try:
            await client.write(handshake.associated(*association.bound))
            await association.run()
        finally:
            association.close()

    async def _request(self, handshake: Handshake, client: ByteStream) -> None:
        """Do the handshake up to the request. The bytes behind the request stay unread."""
        while not handshake.done:
            if not (data := await client.read()):
                raise ConnectionResetError("the client left during the SOCKS handshake")
            if self._guard is not None and handshake.reads_a_login and not await self._guard.turn(client):
                raise HandshakeError(
                    "too many wrong passwords from its address", handshake.too_many_guesses()
                )
            try:
                replies = handshake.receive(data)
            except WrongLogin:
                if self._guard is not None:
                    self._guard.wrong(client)
                raise
            if replies:
                await client.write(replies)
        client.unread(handshake.rest)

    async def _serve_http(self, client: ByteStream, deadline: float) -> None:
        async def open_to(target: Target) -> ByteStream:
            return await self.open(client, target)

        try:
            await HttpProxy(client, open_to, self._guard).run(deadline)
        except TimeoutError:
            self.log_slow("an HTTP client did not finish its request")


async def _first_bytes(client: ByteStream) -> bytes:
    """The client's first bytes, read until they are more than empty lines (at most `MAX_EMPTY_LINES`)."""
    start = await client.read()
    while start and len(start) <= 2 * MAX_EMPTY_LINES and not start.lstrip(_LINE_ENDS):
        if not (more := await client.read()):
            break
        start += more
    return start
