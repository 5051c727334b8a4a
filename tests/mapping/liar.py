"""A router that lies, on addresses of loopback that no other test has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

from tests.mapping.test_igd import WAN_IP, description, fault, soap_answer
from toxproxy.system.gateway import Gateway

HTTP_PORT = 49000

#: The bytes that answer a datagram; none: silence.
Datagrams = Callable[[bytes], list[bytes]]
#: The bytes that answer a request, an item after the other; the connection is closed then.
Pages = Callable[[str, bytes], AsyncIterator[bytes]]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, liar: Liar, answers: Datagrams) -> None:
        self.liar, self.answers = liar, answers

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.liar.asker = addr
        for answer in self.answers(data):
            self.transport.sendto(answer, addr)


class Liar:
    """`pcp` answers at UDP port 5351, `ssdp` at 1900, `pages` at TCP port 49000."""

    def __init__(self) -> None:
        network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.gateway = Gateway(IPv4Address(f"{network}.1"), IPv4Address(f"{network}.2"))
        self.elsewhere = f"{network}.3"
        self.pcp: Datagrams = lambda data: []
        self.ssdp: Datagrams = lambda data: [self.found()]
        self.pages: Pages = self.device
        self.asked: list[str] = []  # the paths and actions of the requests
        self.answers: dict[str, list[bytes]] = {}  # of the device, by action; the last one stays
        self.asker = ("", 0)  # who sent the last datagram
        self.strayed = 0  # connections to `elsewhere`

    def found(self, url: str = "") -> bytes:
        where = url or f"http://{self.gateway.address}:{HTTP_PORT}/root.xml"
        return f"HTTP/1.1 200 OK\r\nLOCATION: {where}\r\n\r\n".encode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Liar]:
        loop = asyncio.get_running_loop()
        host = str(self.gateway.address)
        udp = [
            await loop.create_datagram_endpoint(
                lambda: _Udp(self, lambda data: self.pcp(data)), local_addr=(host, 5351)
            ),
            await loop.create_datagram_endpoint(
                lambda: _Udp(self, lambda data: self.ssdp(data)), local_addr=(host, 1900)
            ),
        ]
        web = await asyncio.start_server(self._serve, host, HTTP_PORT)
        trap = await asyncio.start_server(self._stray, self.elsewhere, HTTP_PORT)
        try:
            yield self
        finally:
            for transport, _ in udp:
                transport.close()
            web.close()
            trap.close()

    async def device(self, path: str, body: bytes) -> AsyncIterator[bytes]:
        """An Internet Gateway Device that answers each action as `answers` says."""
        if not body:
            yield page(description("/control"))
            return
        answers = self.answers[path]
        yield page(answers.pop(0) if len(answers) > 1 else answers[0])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            body = b""
            for line in head.lower().splitlines():
                if line.startswith("content-length:"):
                    body = await reader.readexactly(int(line.partition(":")[2]))
                if line.startswith("soapaction:"):
                    path = head[head.lower().index("soapaction:") :].partition("#")[2].partition('"')[0]
            self.asked.append(path)
            async for piece in self.pages(path, body):
                writer.write(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _stray(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.strayed += 1
        writer.close()


def page(body: bytes, status: str = "200 OK", fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def done(action: str, **results: str) -> bytes:
    fields = "".join(f"<{name}>{value}</{name}>" for name, value in results.items())
    return soap_answer(f'<u:{action}Response xmlns:u="{WAN_IP}">{fields}</u:{action}Response>')


def honest(address: str = "8.8.4.4") -> dict[str, list[bytes]]:
    """The answers of a device that maps everything."""
    return {
        "GetExternalIPAddress": [done("GetExternalIPAddress", NewExternalIPAddress=address)],
        "GetSpecificPortMappingEntry": [fault("714")],
        "AddPortMapping": [done("AddPortMapping")],
        "DeletePortMapping": [done("DeletePortMapping")],
    }
