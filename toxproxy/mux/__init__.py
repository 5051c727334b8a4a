"""The multiplexer: many streams over one link. Pure: no sockets, no asyncio, no clock.

`Connection` takes frames in and gives frames and events out; whoever owns it does the I/O.
SPEC.md describes the protocol for a second implementation.
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
from toxproxy.mux.multiplexer import Connection
from toxproxy.mux.stream import Stream
from toxproxy.mux.window import Allotment

__all__ = [
    "Allotment",
    "Connection",
    "DataReceived",
    "EndReceived",
    "Established",
    "Event",
    "GoAwayReceived",
    "Limits",
    "PongReceived",
    "Stream",
    "StreamClosed",
    "StreamDrained",
    "StreamOpened",
    "StreamRequested",
]
