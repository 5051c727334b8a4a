"""TLS on a stream, on any event loop."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from toxproxy.dialer import AnyProtocol


async def start_tls(
    transport: asyncio.WriteTransport,
    protocol: AnyProtocol,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
) -> asyncio.Transport:
    """As `loop.start_tls`, for a connection of `Client.dialer`, and on any event loop.

    Returns the transport that `protocol` has to use from now on; its `connection_made` is not called. Raises
    `ssl.SSLError`, and `ConnectionError` where the connection ends meanwhile; then it is closed.
    """
    loop = cast(asyncio.BaseEventLoop, asyncio.get_running_loop())  # of which it needs what every loop has
    secured = await asyncio.BaseEventLoop.start_tls(
        loop, transport, protocol, context, server_hostname=server_hostname
    )
    if secured is None:
        raise ConnectionAbortedError("the connection ended before TLS began")
    return secured
