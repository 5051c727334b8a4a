"""What a `Connection` tells its owner, in the order in which it happened."""

from __future__ import annotations

from typing import NamedTuple

from toxproxy.address import Target
from toxproxy.errors import GoAwayCode, StreamError
from toxproxy.mux.stream import Stream


class Established(NamedTuple):
    """Both sides have said HELLO: streams may flow."""

    session: int  # the peer's session id
    version: int  # the protocol version both will speak


class StreamRequested(NamedTuple):
    """The peer opened a stream; answer with `accept` or `refuse`."""

    stream: Stream
    target: Target


class StreamOpened(NamedTuple):
    """The peer accepted a stream that was opened here."""

    stream: Stream


class DataReceived(NamedTuple):
    """Bytes of a stream, in order; say `consumed` when the application has taken them."""

    stream: Stream
    data: bytes


class EndReceived(NamedTuple):
    """The peer's direction ended; say `consumed(stream, 1)` when the application knows."""

    stream: Stream


class StreamDrained(NamedTuple):
    """A send buffer that was full has room again."""

    stream: Stream


class StreamClosed(NamedTuple):
    """The stream is no more: in order (`error` is None), refused or reset. Its last event."""

    stream: Stream
    error: StreamError | None


class PongReceived(NamedTuple):
    """The answer to `ping(value)`."""

    value: int


class GoAwayReceived(NamedTuple):
    """The peer ended the session; every stream was closed before this."""

    code: GoAwayCode
    text: str


Event = (
    Established
    | StreamRequested
    | StreamOpened
    | DataReceived
    | EndReceived
    | StreamDrained
    | StreamClosed
    | PongReceived
    | GoAwayReceived
)
