"""The events that a `Multiplexer` reports to its owner, in the order in which they happened."""

from __future__ import annotations

from typing import NamedTuple

from toxproxy.address import Target
from toxproxy.errors import StreamError
from toxproxy.mux.stream import Stream


class Established(NamedTuple):
    """The peer's HELLO came: streams can be opened."""

    session: int  # the peer's session id


class StreamRequested(NamedTuple):
    """The peer opened a stream; answer with `accept` or `refuse`."""

    stream: Stream
    target: Target


class StreamTurnedAway(NamedTuple):
    """The peer opened more streams than it may: this one was refused already."""

    target: Target


class StreamOpened(NamedTuple):
    """The peer accepted a stream that was opened here."""

    stream: Stream


class StreamReadable(NamedTuple):
    """`read` will return bytes or the end. The next event of this kind follows when it has returned None."""

    stream: Stream


class DatagramReceived(NamedTuple):
    """A datagram of a flow came, whole."""

    stream: Stream
    data: bytes


class StreamDrained(NamedTuple):
    """A send buffer that was full has room again."""

    stream: Stream


class StreamClosed(NamedTuple):
    """The stream has ended. Its last event. `error` is None in order, or as this side gave none."""

    stream: Stream
    error: StreamError | None


class PongReceived(NamedTuple):
    """The answer to `ping(value)`."""

    value: int


Event = (
    Established | StreamRequested | StreamTurnedAway | StreamOpened | StreamReadable | DatagramReceived
    | StreamDrained | StreamClosed | PongReceived
)  # fmt: skip
