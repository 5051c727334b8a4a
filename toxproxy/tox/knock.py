"""Knocks at a friend that fell silent, so that a direct path is used again as soon as it works again.

libtoxcore gives up a direct path when nothing came over it for 8 seconds (net_crypto.c, UDP_DIRECT_TIMEOUT).
From then on it sends one packet below 96 bytes over it every 5 seconds (`send_packet_to`), at both ends in
the same second. Any packet that the friend's libtoxcore can decrypt, from the address that it knows, makes
the path good again (`udp_handle_packet`). A lossy packet that comes twice is taken twice. So the last small
packet that libtoxcore sent directly is sent again, as it left, from the same socket. No NAT or firewall
sees anything new, and it is enough if one end does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from toxproxy.address import Address
from toxproxy.pace import TokenBucket
from toxproxy.system.echo import Datagram, Echo

KNOCK = b"\xe2"  # the id of toxproxy's packets, and nothing else: ignored (SPEC.md, section 2)

_SILENT = 3.5  # seconds without a packet; a link asks after 2 seconds, and each second from then on
_PAUSE = 0.3  # seconds between two knocks
_PATIENCE = 34.0  # seconds of silence; libtoxcore gives up the friend after 32, and finds it again by itself
_LATE = 5.0  # seconds after the last knock until nothing of it is handed back any more; ARP gives up after 3
_AT_ONCE, _RATE = 100, 100.0  # knocks at all friends together, and in each second
_ENCRYPTED = 0x1B  # the first byte of an encrypted packet between two friends


@dataclass(slots=True)
class _Door:
    """What is known of one friend."""

    heard: float
    packet: Datagram | None = None  # the last knock that went directly


class Knocks:
    """Knocks at the friends of one node. `descriptor` is its UDP socket; `send` sends a lossy packet."""

    def __init__(self, descriptor: int, send: Callable[[int, bytes], object]) -> None:
        self._echo = Echo(descriptor)
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._doors: dict[int, _Door] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._bucket = TokenBucket(_AT_ONCE, _RATE)

    def close(self) -> None:
        """Stop."""
        for timer in self._timers.values():
            timer.cancel()
        self._echo.close()

    def place(self, friend: int) -> tuple[Address, int] | None:
        """Where libtoxcore sends the packets for a friend now, seen by a knock; None if it is not known."""
        for sent in self._echo.sent_by(lambda: self._send(friend, KNOCK)):
            if sent.payload[:1] == bytes([_ENCRYPTED]):
                return sent.address, sent.port
        return None

    def send(self, packet: bytes, address: Address, port: int) -> None:
        """Send a packet from the node's socket. One that cannot be sent is lost, as others are."""
        with suppress(OSError):
            self._echo.send(Datagram(address, port, packet))

    def heard(self, friends: Iterable[int], now: float) -> None:
        """Packets of these friends came, by the loop's clock at `now`."""
        for friend in friends:
            if (door := self._doors.get(friend)) is not None:
                door.heard = now
            else:
                self._doors[friend] = _Door(now)
                self._look_at(now + _SILENT, friend)

    def _look_at(self, due: float, friend: int) -> None:
        self._timers[friend] = self._loop.call_at(due, self._look, friend)

    def _look(self, friend: int) -> None:
        door, now = self._doors[friend], self._loop.time()
        silent = now - door.heard
        self._echo.drain()
        if silent > _PATIENCE + _LATE:
            del self._doors[friend], self._timers[friend]
        elif silent < _SILENT:
            door.packet = None
            self._look_at(door.heard + _SILENT, friend)
        else:
            self._look_at(now + _PAUSE, friend)
            if silent <= _PATIENCE and self._bucket.take():
                self._knock(friend, door)

    def _knock(self, friend: int, door: _Door) -> None:
        """Send a new packet. If libtoxcore does not send it directly, send the last one again."""
        for sent in self._echo.sent_by(lambda: self._send(friend, KNOCK)):
            if sent.payload[:1] == bytes([_ENCRYPTED]):
                door.packet = sent
                return
        if door.packet is not None:
            with suppress(OSError):  # there is no way to it now
                self._echo.send(door.packet)
