"""The multiplexer: many streams in one session. Pure: no sockets, no asyncio, no clock.

`Multiplexer` fills packets and takes what they brought, and reports events; its owner does the I/O. SPEC.md
is the specification of the protocol.
"""

from toxproxy.mux.events import (
    DataReceived,
    EndReceived,
    Established,
    Event,
    StreamClosed,
    StreamDrained,
    StreamOpened,
    StreamRequested,
)
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.stream import Stream

__all__ = [
    "DataReceived",
    "EndReceived",
    "Established",
    "Event",
    "Limits",
    "Multiplexer",
    "Stream",
    "StreamClosed",
    "StreamDrained",
    "StreamOpened",
    "StreamRequested",
]
