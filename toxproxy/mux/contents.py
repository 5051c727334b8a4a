"""What a packet carried, so that it can be sent again if the packet is lost.

The contents of a packet are one item or a list of them. `Scheduler.lost` knows what each kind of item means.
"""

from __future__ import annotations

from typing import NamedTuple

from toxproxy.mux.segment import Segment
from toxproxy.mux.stream import Stream


class SessionFrame(NamedTuple):
    """HELLO, PING or PONG: goes again as it was."""

    frame: bytes


class ControlFrame(NamedTuple):
    """OPEN or OPENED of `stream`: goes again while the stream lives. REFUSED or RESET: goes again."""

    frame: bytes
    stream: Stream | None


class BlockedFrame(NamedTuple):
    """BLOCKED: is said again if it is still so."""

    frame: bytes
    stream: Stream


class CreditFrame(NamedTuple):
    """CREDIT: goes again with the newest values."""

    stream: Stream


Item = Segment | SessionFrame | ControlFrame | BlockedFrame | CreditFrame
Contents = Segment | list[Item]
