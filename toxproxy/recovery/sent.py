"""A packet on its way, and what an acknowledgement tells about the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PACKET_SIZE = 1343  # bytes: the longest packet that ENet does not fragment, with an mtu of 1371
# Bytes that a packet takes on the wire beside its own: ENet 2, the carrier 2, Tox 27, UDP 8, IPv4 20.
OVERHEAD = 59


@dataclass(slots=True, eq=False)
class Sent:
    """An eliciting packet that was sent and is neither acknowledged nor lost."""

    number: int
    sent_at: float
    size: int  # bytes on the wire, with `OVERHEAD`
    contents: object  # for the source; None or empty if nothing of it would be sent again


class Report(NamedTuple):
    """What an acknowledgement tells about the path. Seconds.

    It is about the packet with the largest number, if that is acknowledged for the first time.
    """

    rtt: float  # from its departure to its acknowledgement, less what the peer waited before it wrote that
    one_way: float  # its arrival on the peer's clock less its departure here: one-way delay plus a constant
    arrived: float  # its arrival on the peer's clock
