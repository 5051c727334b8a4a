"""What libtoxcore reports in one iteration, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from toxproxy.tox.pytox import Tox, ToxError, ToxOptions
from toxproxy.tox.relay_list import MOST, Relay
from toxproxy.tox.rendezvous import Rendezvous
from toxproxy.tox.sleep_counts import SleepCounts

if TYPE_CHECKING:
    from _cffi_backend import buffer as Buffer


_RELAYS = 64  # that are remembered


class ConnectionStatus(Enum):
    """How a node is connected to the network or to a friend; the values are libtoxcore's."""

    NONE = 0
    TCP = 1  # through a relay
    UDP = 2


class NodeEvents(Protocol):
    """The owner of a node. It is called between two iterations, and may call any method of the node."""

    def connection_changed(self, connection: ConnectionStatus) -> None: ...

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None: ...

    def friend_request(self, key: bytes, message: bytes) -> None: ...


class PacketSink(Protocol):
    """Receives the lossy packets of one friend."""

    def packet_received(self, packet: Buffer) -> None:
        """A packet came, with its id byte. The buffer is valid until the call returns; a slice is a copy.

        The call may send packets. It must not use the node otherwise.
        """
        ...

    def batch_ended(self) -> None:
        """The packets of this iteration were all passed on."""
        ...


class Inbox(Tox):
    """Passes packets on as they arrive, and keeps other events until the iteration has ended."""

    def __init__(self, options: ToxOptions) -> None:
        super().__init__(options)
        self.sinks: dict[int, PacketSink] = {}
        self.fed: dict[int, PacketSink] = {}
        self.events: list[Callable[[NodeEvents], None]] = []
        self.packets = 0  # that were passed on
        self.news: list[Callable[[Rendezvous], None]] = []  # of friends; kept until the iteration has ended
        self.counts = SleepCounts()
        self.oversleeps = False  # relays have to be connected anew
        self.met = False  # a friend
        self.relays: dict[tuple[str, int], Relay] = {}  # that it was told to connect to, the last ones

    def add_tcp_relay(self, address: str, port: int, public_key: str) -> bool:
        self.relays.pop((address, port), None)
        self.relays[address, port] = Relay(ip_address(address), port, bytes.fromhex(public_key))
        if len(self.relays) > _RELAYS:
            del self.relays[next(iter(self.relays))]
        return super().add_tcp_relay(address, port, public_key)

    def relays_at(self, peers: Iterable[tuple[str, int]]) -> tuple[Relay, ...]:
        """The relays among these peers that it was told of, 4 at most."""
        return tuple(self.relays[peer] for peer in sorted(peers) if peer in self.relays)[:MOST]

    def on_friend_lossy_packet(self, friend_number: int, data: Buffer) -> None:
        if (sink := self.sinks.get(friend_number)) is not None:
            self.fed[friend_number] = sink
            self.packets += 1
            sink.packet_received(data)

    def on_friend_lossless_packet(self, friend_number: int, data: Buffer) -> None:
        packet = data[:]
        self.news.append(lambda rendezvous: rendezvous.told(friend_number, packet))

    def on_self_connection_status(self, status: int) -> None:
        self.events.append(lambda owner: owner.connection_changed(ConnectionStatus(status)))

    def on_friend_connection_status(self, friend_number: int, status: int) -> None:
        connection = ConnectionStatus(status)
        relayed = connection is ConnectionStatus.TCP
        connected = connection is not ConnectionStatus.NONE
        self.oversleeps |= self.counts.changed(
            friend_number, direct=connected and not relayed, relayed=relayed
        )
        self.met |= connected
        self.news.append(
            lambda rendezvous: rendezvous.friend_changed(friend_number, connected=connected, relayed=relayed)
        )
        self.events.append(lambda owner: owner.friend_connection_changed(friend_number, connection))

    def on_friend_request(self, public_key: str, message: str) -> None:
        key, raw = bytes.fromhex(public_key), message.encode("utf-8", "surrogateescape")

        def asked(owner: NodeEvents) -> None:
            try:
                owner.friend_request(key, raw)
            finally:
                self._let_ask_again(public_key)

        self.events.append(asked)

    def _let_ask_again(self, public_key: str) -> None:
        """Make libtoxcore accept another request from this key, with another secret for example.

        It ignores further requests of a key that has not been a friend since its last one.
        """
        with suppress(ToxError):  # it is a friend
            self.friend_delete(self.friend_add_norequest(public_key))
