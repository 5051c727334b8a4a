"""A packet on its way, and what an acknowledgement tells about the path."""

from __future__ import annotations

from typing import NamedTuple

PACKET_SIZE = 1343  # bytes: the longest packet that ENet does not fragment, with an mtu of 1371
# Bytes that a packet takes on the wire beside its own: ENet 10, the carrier 2, Tox 27, UDP 8, IPv4 20.
OVERHEAD = 67


class Sent:
    """An eliciting packet that was sent and is neither acknowledged nor lost.

    `size` is in bytes on the wire, with `OVERHEAD`. `contents` are for the source. `delivered` is for the
    congestion controller: how many bytes had been delivered when this packet left.
    """

    __slots__ = ("contents", "delivered", "number", "sent_at", "size")

    def __init__(self, number: int, sent_at: float, size: int, contents: object) -> None:
        self.number = number
        self.sent_at = sent_at
        self.size = size
        self.contents = contents
        self.delivered = 0


class Report(NamedTuple):
    """What an acknowledgement tells about the path. Seconds.

    It is about the packet with the largest number, if that is acknowledged for the first time.
    """

    rtt: float  # from its departure to its acknowledgement, less `delay`
    one_way: float  # its arrival on the peer's clock less its departure here: one-way delay plus a constant
    arrived: float  # its arrival on the peer's clock
    delay: float  # how long the peer waited before it wrote the acknowledgement
