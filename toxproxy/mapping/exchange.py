"""Questions to the router and their answers, over UDP and HTTP, within bounds of time and memory.

Everything goes to the gateway's address from this machine's address in its network, and only what comes
from the gateway is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import h11

from toxproxy.http.reader import HttpReader
from toxproxy.mapping.grant import Failure, MappingError
from toxproxy.mapping.igd import Url
from toxproxy.system.gateway import Gateway

T = TypeVar("T")

PAUSES = (0.25, 0.5, 1.0)  # seconds until a datagram is sent again, and until the end
MOST_PAGE = 65_536  # bytes of an answer over HTTP, its head and its chunks included
_HTTP_SECONDS = 4.0  # of one request and its answer
_READ_BYTES = 16_384


class _Answer(asyncio.DatagramProtocol, Generic[T]):
    """Waits for a datagram of the gateway that `parse` understands."""

    def __init__(self, gateway: Gateway, parse: Callable[[bytes], T | None], *, connected: bool) -> None:
        self._connected = connected
        self._host = str(gateway.address)
        self._parse = parse
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.future.done() or addr[0] != self._host:
            return
        try:
            answer = self._parse(data)
        except MappingError as error:
            self.future.set_exception(error)
            return
        if answer is not None:
            self.future.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """Connected: the router says that nobody listens there. Else one of several hosts is out of reach."""
        if self._connected and not self.future.done():
            self.future.set_exception(MappingError(Failure.UNREACHABLE))


async def ask(gateway: Gateway, port: int, request: bytes, parse: Callable[[bytes], T | None]) -> T:
    """Send a request to a UDP port of the router until an answer comes that `parse` understands.

    Takes at most the sum of `PAUSES`. Raises `MappingError`.
    """
    loop = asyncio.get_running_loop()
    with _failing():
        transport, answer = await loop.create_datagram_endpoint(
            lambda: _Answer(gateway, parse, connected=True),
            local_addr=(str(gateway.source), 0),
            remote_addr=(str(gateway.address), port),
        )
    with contextlib.closing(transport):
        return await _repeat(answer.future, lambda: transport.sendto(request))


async def search(
    gateway: Gateway, port: int, group: str, requests: Iterable[bytes], parse: Callable[[bytes], T | None]
) -> T:
    """As `ask`, with several requests, which go to a multicast group as well.

    Only the gateway's answer counts, so that no other host of the network can pose as the router.
    """
    requests = list(requests)
    hosts = [str(gateway.address)] if gateway.source.is_loopback else [str(gateway.address), group]
    loop = asyncio.get_running_loop()
    with _failing():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, gateway.source.packed)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
            sock.bind((str(gateway.source), 0))
            transport, answer = await loop.create_datagram_endpoint(
                lambda: _Answer(gateway, parse, connected=False), sock=sock
            )
        except BaseException:
            sock.close()
            raise

    def send() -> None:
        for host in hosts:
            for request in requests:
                transport.sendto(request, (host, port))

    with contextlib.closing(transport):
        return await _repeat(answer.future, send)


async def _repeat(answer: asyncio.Future[T], send: Callable[[], None]) -> T:
    for pause in PAUSES:
        send()
        done, _ = await asyncio.wait([answer], timeout=pause)
        if done:
            return answer.result()
    raise MappingError(Failure.SILENT)


async def fetch(
    gateway: Gateway, url: Url, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """The body of the answer to a request to the gateway: POST if there is a `body`, else GET.

    Of an error status, too, since UPnP's errors have a body. Redirects are not followed. Raises
    `MappingError`.
    """
    if url.host != gateway.address:
        raise MappingError(Failure.NONSENSE)
    try:
        with _failing():
            async with asyncio.timeout(_HTTP_SECONDS):
                return await _fetch(gateway, url, headers, body)
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        raise MappingError(Failure.NONSENSE) from None


async def _fetch(gateway: Gateway, url: Url, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    http = HttpReader(h11.CLIENT)
    fields = [("Host", f"{url.host}:{url.port}"), ("Connection", "close"), *headers]
    if body:
        fields.append(("Content-Length", str(len(body))))
    request = h11.Request(method="POST" if body else "GET", target=url.path, headers=fields)
    sent = http.http.send(request) or b""
    sent += (http.http.send(h11.Data(data=body)) or b"") if body else b""
    sent += http.http.send(h11.EndOfMessage()) or b""
    reader, writer = await asyncio.open_connection(
        str(url.host), url.port, local_addr=(str(gateway.source), 0), limit=_READ_BYTES
    )
    try:
        writer.write(sent)
        return await _body(http, reader)
    finally:
        writer.transport.abort()


async def _body(http: HttpReader, reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    read = 0
    while True:
        match event := http.next_event():
            case h11.NEED_DATA:
                data = await reader.read(_READ_BYTES)
                if (read := read + len(data)) > MOST_PAGE:
                    raise MappingError(Failure.NONSENSE)
                http.receive(data)
            case h11.Response() if 300 <= event.status_code < 400:
                raise MappingError(Failure.REFUSED, event.status_code)
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return bytes(body)
            case h11.ConnectionClosed() | h11.PAUSED:
                raise MappingError(Failure.NONSENSE)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """A block in which the system's errors are those of a mapping."""
    try:
        yield
    except TimeoutError:
        raise MappingError(Failure.SILENT) from None
    except OSError:
        raise MappingError(Failure.UNREACHABLE) from None
