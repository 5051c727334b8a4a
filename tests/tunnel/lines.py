"""Links that only record, and packets written by hand, for one side of a session by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from toxproxy.mux import frames
from toxproxy.recovery import packet
from toxproxy.tunnel.events import Change, SessionEnd, SessionEvent
from toxproxy.tunnel.session import Session


def packed(number: int, *contents: frames.Frame, ids: tuple[int, int] | None = None) -> bytes:
    """A packet with these frames; with `ids` it introduces a session."""
    flags = packet.INTRODUCTION if ids else 0
    head = packet.header(flags, number) + (packet.ids(*ids) if ids else b"")
    return head + b"".join(frames.encode(frame) for frame in contents)


def hello(session: int, oldest: int = 2, newest: int = 2) -> frames.Hello:
    """HELLO of a peer that understands no features."""
    return frames.Hello(oldest, newest, session, 0, 1 << 16, 10)


@dataclass
class Line:
    """A link that records what is sent on it, and with which farewell it was closed."""

    sent: list[bytes] = field(default_factory=list)
    flushed: int = 0  # how many packets of `sent` were flushed
    refuses: int = 0  # how many packets the carrier refuses at the next flush
    farewell: bytes | None = None
    heard: float = 0.0

    def send(self, packet: bytes) -> None:
        assert self.farewell is None
        self.sent.append(packet)

    def flush(self) -> int:
        self.flushed = len(self.sent)
        refused, self.refuses = self.refuses, 0
        return refused

    def close(self, farewell: bytes = b"") -> None:
        self.farewell = farewell

    def fail(self, reason: object) -> None:
        raise NotImplementedError


class Side:
    """One side of a session, and the line that carries it now."""

    def __init__(self, introduced: int | None = None) -> None:
        self.changes: list[SessionEvent] = []
        self.session = Session(changed=self.changes.append, introduced=introduced)
        self.line = self.new_line()

    def new_line(self) -> Line:
        self.line = Line()
        self.session.attach(self.line)
        self.session.link_up()
        self.session.link_ready()
        return self.line

    def hear(self, *packets: bytes) -> None:
        """A batch of packets comes."""
        for each in packets:
            self.session.packet_received(each)
        self.session.link_ready()

    @property
    def ended(self) -> list[SessionEnd]:
        return [what.reason for what in self.changes if what.change is Change.ENDED]


def talk(one: Side, other: Side) -> None:
    """Pass on what both have to say, until neither says more."""
    told = [0, 0]
    while any(told[side] < len((one, other)[side].line.sent) for side in (0, 1)):
        for side, (speaker, hearer) in enumerate(((one, other), (other, one))):
            new = speaker.line.sent[told[side] :]
            told[side] += len(new)
            hearer.hear(*new)
