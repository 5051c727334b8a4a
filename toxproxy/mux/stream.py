"""One stream: a sender, a receiver and what they have in common.

The two do not know each other, so each direction ends by itself (half-close). A stream is over when both
are DONE, or at once by RESET or REFUSED.
"""

from __future__ import annotations

from enum import Enum

from toxproxy.errors import LocalProtocolError
from toxproxy.mux import frames
from toxproxy.mux.receiver import Receiver, ReceiveState
from toxproxy.mux.sender import Sender, SendState


class StreamState(Enum):
    WAITING = "waiting"  # frames of a stream of the peer came before its OPEN
    OPENING = "opening"  # opened here, not answered yet
    REQUESTED = "requested"  # opened by the peer, not answered yet
    OPEN = "open"
    CLOSED = "closed"


_MAY_BECOME = {
    StreamState.WAITING: {StreamState.REQUESTED, StreamState.CLOSED},
    StreamState.OPENING: {StreamState.OPEN, StreamState.CLOSED},
    StreamState.REQUESTED: {StreamState.OPEN, StreamState.CLOSED},
    StreamState.OPEN: {StreamState.CLOSED},
    StreamState.CLOSED: set(),
}


class Stream:
    """A handle on one stream. `Multiplexer` makes it, and its methods take it.

    `data` is free for the owner of the multiplexer to use.
    """

    __slots__ = (
        "burst", "complete", "data", "id", "receiver", "rested_at", "said", "scheduled", "sender", "state",
    )  # fmt: skip

    def __init__(self, id: int, state: StreamState, sender: Sender, receiver: Receiver) -> None:
        self.id = id
        self.state = state
        self.sender = sender
        self.receiver = receiver
        self.said: frames.Open | frames.Opened | None = None  # by the peer
        self.complete = False  # closed since both directions were done
        self.scheduled = False
        self.burst = 0  # for the scheduler: bytes sent lately
        self.rested_at = 0  # for the scheduler: bytes that all streams had sent when this one last sent
        self.data: object = None

    def become(self, state: StreamState) -> None:
        """Change to another state. Raises `LocalProtocolError` where `_MAY_BECOME` does not allow it."""
        if state not in _MAY_BECOME[self.state]:
            raise LocalProtocolError(f"{self} cannot become {state.value}")
        self.state = state

    @property
    def done(self) -> bool:
        """Whether both directions have ended and both sides know it."""
        return self.sender.state is SendState.DONE and self.receiver.state is ReceiveState.DONE

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.value}>"
