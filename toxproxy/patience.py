"""The timeouts of silent connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may be silent, in seconds; 0 is without limit. Then it is reset.

    `idle`: without a byte in either direction.
    `udp_idle`: the same of a flow of datagrams, which then ends in order.
    `half_closed`: the same after one direction has ended. Often the program there is gone, and the one
    at the other end does not notice.

    It is a reset because FIN would claim that the data is complete.
    """

    idle: float = 0.0
    half_closed: float = 3600.0
    udp_idle: float = 120.0  # the least that RFC 4787 (REQ-5) asks of a NAT
