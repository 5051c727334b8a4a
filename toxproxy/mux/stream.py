"""One stream: a sender, a receiver and what they have in common.

Each direction ends by itself (half-close). A stream is over when both are DONE, or by RESET or REFUSED.

REQUESTED -> OPEN      opened by the peer
OPENING   -> OPEN      opened here; from any state -> CLOSED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from toxproxy.mux import frames
from toxproxy.mux.datagrams import Flow
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.sender import Sender, SendState


class StreamState(Enum):
    REQUESTED = "requested"  # not answered yet
    OPENING = "opening"  # not answered yet
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True, eq=False, repr=False)
class Stream:
    """A handle on one stream. `Multiplexer` makes it, and its methods take it.

    `data` is free for the owner of the multiplexer to use.
    """

    id: int
    state: StreamState
    sender: Sender
    receiver: Receiver
    said: frames.Open | frames.Opened | None = None  # by the peer
    complete: bool = False  # closed since both directions were done
    scheduled: bool = False
    burst: int = 0  # for the scheduler: bytes sent lately
    rested_at: int = 0  # for the scheduler: bytes that all streams had sent when this one last sent
    base: int = 0  # for the scheduler: when the stream would be due if it had never had a byte to send
    data: Any = None
    flow: Flow | None = None  # of a stream of kind UDP, which carries nothing else

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that were sent and that came in order, before compression."""
        if self.flow is not None:
            return self.flow.sent_bytes, self.flow.received_bytes
        return self.sender.offset, self.receiver.carried

    @property
    def done(self) -> bool:
        """Whether both directions have ended and both sides know it."""
        return self.sender.state is SendState.DONE and self.receiver.done

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.value}>"
