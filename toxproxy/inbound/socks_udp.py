"""UDP through SOCKS5 (RFC 1928, section 7): the header of a datagram, and an association.

The association is a UDP socket beside the TCP connection that asked for it, and ends with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from toxproxy.address import UdpTarget, plain_address
from toxproxy.dialer import FlowDialer
from toxproxy.errors import StreamRefused
from toxproxy.inbound.flows import FlowTable, Openings
from toxproxy.inbound.socks_header import decoded, encoded
from toxproxy.relay.stream import ByteStream
from toxproxy.system.datagrams import DatagramSocket


@dataclass(frozen=True, slots=True)
class Client:
    """Whose datagrams an association takes: of the TCP client's address, and of one port.

    `port` is the one that the request named, or that of the first datagram; 0 until it came.
    """

    host: str
    port: int = 0

    @classmethod
    def asked(cls, peer: str, host: str, port: int) -> Client:
        """From the request. An address that is not the client's own is one behind a NAT: no port is known."""
        named = ip_address(host)
        known = named.is_unspecified or named == plain_address(peer)
        return cls(peer, port if known else 0)

    def is_at(self, host: str, port: int) -> bool:
        """Whether it may have sent from there."""
        return plain_address(host) == plain_address(self.host) and self.port in (0, port)


class Association:
    """The UDP port of one SOCKS client, on the address of this machine that it is connected to.

    `asked` is what the request names: from where the client will send. Each target has a flow of its own;
    `refused` is told of those that the far end refuses. `bound` is where the client has to send.

    Raises `OSError` where no socket can be had.
    """

    def __init__(
        self,
        client: ByteStream,
        asked: tuple[str, int],
        dialer: FlowDialer,
        openings: Openings,
        refused: Callable[[UdpTarget, StreamRefused], None],
    ) -> None:
        assert client.transport is not None
        here = client.transport.get_extra_info("sockname")
        self._control = client
        self._client = Client.asked(client.transport.get_extra_info("peername")[0], *asked)
        self._flows = FlowTable[UdpTarget](dialer, openings, self._answer, refused)
        self._to: Any = None  # the client's address, as the system writes it
        family = socket.AF_INET6 if ":" in here[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind((here[0], 0, *here[2:]))
        except OSError:
            sock.close()
            raise
        self.bound: tuple[str, int] = sock.getsockname()[:2]
        self._socket = DatagramSocket(sock, self._received)

    def __len__(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    async def run(self) -> None:
        """Serve until the TCP connection ends. What comes on it is ignored."""
        try:
            while await self._control.read():
                pass
        except ConnectionError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """End everything."""
        self._flows.close()
        self._socket.close()

    def _received(self, data: bytes, address: Any) -> None:
        host, port = address[:2]
        if not self._client.is_at(host, port) or (said := decoded(data)) is None:
            return
        if not self._client.port:
            self._client = Client(self._client.host, port)
        self._to = address
        self._flows.send(said.target, said.target, said.payload)

    def _answer(self, key: UdpTarget, target: UdpTarget, data: bytes) -> None:
        if self._to is not None:
            self._socket.send(encoded(target) + data, self._to)
