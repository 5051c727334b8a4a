"""aiohttp through a toxproxy server: a connector to copy into a program.

    async with aiohttp.ClientSession(connector=Connector(client.dialer())) as session:
        async with session.get("https://printer.lan/") as answer:
            print(await answer.text())

The server looks names up and connects; TLS ends in this program. It works on asyncio's event loop and on
uvloop's.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp

import toxproxy


class Connector(aiohttp.BaseConnector):
    """Connects by `dialer`, as `Client.dialer` returns it. `options` are those of `aiohttp.BaseConnector`.

    `context` is for requests that do not bring their own `ssl`. What fails is an `aiohttp.ClientError`.
    """

    def __init__(self, dialer: Any, *, context: ssl.SSLContext | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._dialer = dialer
        self._context = context or ssl.create_default_context()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        """What each connector of aiohttp overrides: a connection, ready for a request."""
        protocol = self._factory()
        try:
            async with asyncio.timeout(timeout.sock_connect):
                await self._connect(req, protocol)
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except (toxproxy.StreamRefused, ConnectionError) as error:
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(None, str(error))) from error
        return protocol

    async def _connect(self, req: Any, protocol: Any) -> None:
        target = toxproxy.Target(req.url.raw_host, req.url.port)
        if not req.is_ssl():
            await self._dialer.dial(lambda: protocol, target)
            return
        transport, _ = await self._dialer.dial(asyncio.Protocol, target)
        name = req.server_hostname or req.url.raw_host
        secured = await toxproxy.start_tls(transport, protocol, self._chosen(req.ssl), server_hostname=name)
        if isinstance(req.ssl, aiohttp.Fingerprint):
            try:
                req.ssl.check(secured)
            except aiohttp.ServerFingerprintMismatch:
                secured.abort()
                raise
        protocol.connection_made(secured)

    def _chosen(self, asked: Any) -> ssl.SSLContext:
        """`asked` is the `ssl` of a request: a context, True, or something else for no certificate."""
        if isinstance(asked, ssl.SSLContext):
            return asked
        if asked is True:
            return self._context
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
