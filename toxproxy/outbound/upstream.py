"""The way out through another proxy: SOCKS5, SOCKS4a or HTTP CONNECT.

The proxy's own name is looked up and all its addresses are tried, as for every target. python-socks then
speaks SOCKS, and h11 HTTP. python-socks is not used for HTTP: an answer may come in pieces, and the
first bytes of the connection may come with it (a mail server's greeting). None of them may be lost.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

import h11
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from toxproxy.address import Address, Target, join_host_port
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.http.reader import HttpReader
from toxproxy.outbound import eyeballs
from toxproxy.system.resolver import Resolver
from toxproxy.system.sockets import os_errors

# With each of these the proxy looks names up. curl has a scheme of its own for that: socks5h, socks4a.
_SOCKS = {
    "socks5": ProxyType.SOCKS5,
    "socks5h": ProxyType.SOCKS5,
    "socks4": ProxyType.SOCKS4,
    "socks4a": ProxyType.SOCKS4,
}
_NO_LIMIT = 86_400.0  # seconds, in place of python-socks' own 60: the caller has a time limit
_READ_BYTES = 65_536

# The reply codes of SOCKS5 (RFC 1928, section 6) and the status codes of HTTP (RFC 9110, section 15)
# that say more than "failed". The numbers of the two do not overlap.
_REPLIES = {
    0x02: Refusal.NOT_PERMITTED,
    0x03: Refusal.NETWORK_UNREACHABLE,
    0x04: Refusal.HOST_UNREACHABLE,
    0x05: Refusal.CONNECTION_REFUSED,
    0x06: Refusal.TIMED_OUT,
    0x07: Refusal.UNSUPPORTED,
    0x08: Refusal.UNSUPPORTED,
    403: Refusal.NOT_PERMITTED,
    502: Refusal.HOST_UNREACHABLE,
    503: Refusal.HOST_UNREACHABLE,
    504: Refusal.TIMED_OUT,
}


class Upstream:
    """One proxy, by its URL `scheme://[user:password@]host:port`, which the configuration has checked.

    `name` is the URL without user name and password, for messages.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._scheme, self._host, self._port = parts.scheme, parts.hostname or "", parts.port or 0
        self._username = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._resolver = Resolver()
        self.name = f"{self._scheme}://{join_host_port(self._host, self._port)}"

    async def connect(self, target: Target, address: Address | None = None) -> tuple[socket.socket, bytes]:
        """A socket connected to `target`, and the bytes that were read from it already.

        The proxy is asked for `address`; without one it looks the name up itself. Has no time limit of
        its own: the caller sets one. Raises `StreamRefused`. Its text does not name `address`.
        """
        host = target.host if address is None else str(address)
        if _SOCKS.get(self._scheme) is ProxyType.SOCKS4 and ":" in host:
            raise self._refused(Refusal.UNSUPPORTED)
        try:
            if self._scheme == "http":
                return await self._connect_http(host, target.port)
            return await self._connect_socks(host, target.port), b""
        except ProxyError as error:
            raise self._refused(_REPLIES.get(error.error_code or 0, Refusal.FAILED)) from error
        # python-socks raises ValueError for a reply that makes no sense.
        except (OSError, ValueError, h11.RemoteProtocolError) as error:
            text = f"the upstream {self.name} does not answer as it should"
            raise StreamRefused(Refusal.FAILED, text) from error

    def _refused(self, code: Refusal) -> StreamRefused:
        return StreamRefused(code, f"{code.words}, says the upstream {self.name}")

    async def _reach(self) -> socket.socket:
        """A connection to the proxy itself."""
        addresses = await self._resolver.look_up(self._host)
        return await eyeballs.connect([ip_address(address) for address in addresses], self._port)

    async def _connect_socks(self, host: str, port: int) -> socket.socket:
        way = _Way(await self._reach())
        kind, login = _SOCKS[self._scheme], (self._username, self._password)
        proxy = Proxy(kind, self._host, self._port, *login, rdns=True, forward=way)
        with os_errors():
            return await proxy.connect(host, port, timeout=_NO_LIMIT)

    async def _connect_http(self, host: str, port: int) -> tuple[socket.socket, bytes]:
        sock = await self._reach()
        try:
            with os_errors():
                return sock, await self._ask_http(sock, join_host_port(host, port))
        except BaseException:
            sock.close()
            raise

    async def _ask_http(self, sock: socket.socket, authority: str) -> bytes:
        """Send CONNECT (RFC 9110, section 9.3.6) and return the bytes that came behind a 2xx answer."""
        loop = asyncio.get_running_loop()
        headers = [("Host", authority)]
        if self._username or self._password:
            credentials = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {credentials}"))
        reader = HttpReader(h11.CLIENT, connect=True)
        request = reader.http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
        await loop.sock_sendall(sock, request or b"")
        reader.http.send(h11.EndOfMessage())
        while not isinstance(event := reader.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                reader.receive(await loop.sock_recv(sock, _READ_BYTES))
        if not 200 <= event.status_code < 300:
            raise ProxyError(event.reason, error_code=event.status_code)
        return reader.rest


class _Way(Proxy):
    """Makes python-socks use a connection to the proxy that is open already."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def connect(self, *_: Any, **__: Any) -> socket.socket:
        return self._sock
