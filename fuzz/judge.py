"""What SPEC.md says of one frame: whether it is the peer's error, given the streams that there are."""

from __future__ import annotations

from fuzz.packets import nearest
from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.sender import SendState
from toxproxy.mux.stream import Stream, StreamState


def forbidden(mux: Multiplexer, message: bytes) -> str | None:
    """The rule of SPEC.md that one frame breaks. "" if it breaks none; None if this does not know."""
    if not message:
        return ""
    try:
        frame, end = frames.decode(message)
    except RemoteProtocolError as error:
        return str(error)
    if end < len(message):
        return None
    if not mux.established:
        return "" if mux.peer is None and not isinstance(frame, frames.Hello) else None
    if isinstance(frame, frames.Hello):
        return "" if frame == mux.peer else "a second HELLO"
    if isinstance(frame, (frames.Ping, frames.Pong)):
        return ""
    number = frame.stream
    ours, stream = mux.is_ours(number), mux.streams.get(number)
    if isinstance(frame, frames.Open):
        if not number or ours:
            return "an id that the peer must not use"
        return "" if stream is None or frame == stream.said else "another OPEN"
    if not number or (ours and number >= mux._next_id):
        return "a stream that was never opened"
    late = stream is None and mux.was_used(number)
    if isinstance(frame, (frames.Opened, frames.Refused)) and not ours and not late:
        return "an answer from the opener"
    if stream is None:  # one whose OPEN did not come, or that is over
        return ""
    return _forbidden_in(stream, frame)


def _forbidden_in(stream: Stream, frame: frames.Frame) -> str | None:
    receiver = stream.receiver
    datagram = isinstance(frame, frames.Datagram | frames.Part)
    flow = isinstance(frame, frames.Data | frames.Packed | frames.Fin | frames.Credit)
    if datagram and stream.flow is None:
        return "a datagram for a stream of bytes"
    if flow and stream.flow is not None:
        return "a frame of streams for a flow of datagrams"
    match frame:
        case frames.Data() | frames.Bulk() | frames.Packed():
            size = frame.length if isinstance(frame, frames.Packed) else len(frame.payload)
            start = frame.offset
            if isinstance(frame, frames.Bulk):
                start = nearest(start, receiver.received)
            end = start + size
            if end > receiver.limit or 0 <= receiver.fin_at < end:
                return "data beyond the limit or the end"
            return None  # a block may be broken, this one or one that comes after it
        case frames.Fin(offset=offset):
            if receiver.fin_at >= 0:
                return "" if offset == receiver.fin_at else "another FIN"
            if not receiver.received <= offset <= receiver.limit:
                return "FIN beyond the limit or before the last byte"
            return None
        case frames.Credit():
            finished = stream.sender.state in (SendState.FINISHED, SendState.DONE)
            return "credit for what was not sent" if frame.consumed > stream.sender.offset + finished else ""
        case frames.Opened():
            return "" if stream.said in (None, frame) else "a second answer"
        case frames.Refused():
            return "" if stream.state is StreamState.OPENING else "a second answer"
    return ""
