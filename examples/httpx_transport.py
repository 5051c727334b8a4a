"""httpx through a toxproxy server: a transport to copy into a program.

    async with httpx.AsyncClient(transport=Transport(client.dialer())) as http:
        print((await http.get("https://printer.lan/")).text)

The server looks names up and connects; TLS ends in this program. It works on asyncio's event loop and on
uvloop's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

import toxproxy


class Transport(httpx.AsyncBaseTransport):
    """Connects by `dialer`, as `Client.dialer` returns it. What fails is an `httpx.TransportError`.

    `options` are those of `httpcore.AsyncConnectionPool`: how many connections, HTTP/2, retries.
    """

    def __init__(self, dialer: Any, *, context: ssl.SSLContext | None = None, **options: Any) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context or ssl.create_default_context(), network_backend=_Network(dialer), **options
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = await self._pool.handle_async_request(asked)
        body = _Body(answer.stream)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=body, extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """httpx has an error of the same name for each of httpcore's."""
    try:
        yield
    except tuple(_ERRORS) as error:
        raise _ERRORS[type(error)](str(error)) from error


_ERRORS: dict[type[BaseException], type[httpx.TransportError]] = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        "ConnectError", "ConnectTimeout", "LocalProtocolError", "PoolTimeout", "ProxyError", "ReadError",
        "ReadTimeout", "RemoteProtocolError", "UnsupportedProtocol", "WriteError", "WriteTimeout",
    )
}  # fmt: skip


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    def __init__(self, dialer: Any) -> None:
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        reader = asyncio.StreamReader()
        try:
            async with asyncio.timeout(timeout):
                transport, protocol = await self._dialer.dial(
                    lambda: asyncio.StreamReaderProtocol(reader), toxproxy.Target(host, port)
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except toxproxy.StreamRefused as error:
            raise httpcore.ConnectError(str(error)) from error
        return _Stream(reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop()))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, below: _Stream | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._below = below  # without TLS; kept, since a StreamWriter closes its transport when it is freed

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            async with asyncio.timeout(timeout):
                secured = await toxproxy.start_tls(
                    self._writer.transport, protocol, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        protocol.connection_made(secured)
        writer = asyncio.StreamWriter(secured, protocol, reader, asyncio.get_running_loop())
        return _Stream(reader, writer, self)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of a connection that is idle: whether it has ended
            return self._reader.at_eof() or self._reader.exception() is not None
        return self._writer.get_extra_info(info)
