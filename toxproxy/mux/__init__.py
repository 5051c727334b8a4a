"""The multiplexer: many streams over one link. Pure: no sockets, no asyncio, no clock.

`Multiplexer` takes frames and returns frames and events; its owner does the I/O. SPEC.md is the
specification of the protocol.
"""

from toxproxy.mux.events import (
    DataReceived,
    EndReceived,
    Established,
    Event,
    GoAwayReceived,
    PongReceived,
    StreamClosed,
    StreamDrained,
    StreamOpened,
    StreamRequested,
)
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.stream import Stream
from toxproxy.mux.window import Allotment

__all__ = [
    "Allotment",
    "DataReceived",
    "EndReceived",
    "Established",
    "Event",
    "GoAwayReceived",
    "Limits",
    "Multiplexer",
    "PongReceived",
    "Stream",
    "StreamClosed",
    "StreamDrained",
    "StreamOpened",
    "StreamRequested",
]
