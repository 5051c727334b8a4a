"""What the keeper of a session tells, and why sessions end: values, of which a log makes words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from toxproxy.errors import GoAwayCode
from toxproxy.link.base import LinkEnd


class Loss(Enum):
    """Why an interrupted session is not resumed."""

    EXPIRED = "expired"  # it was interrupted for longer than it is kept
    RESTARTED = "restarted"  # the client began a new one
    FORGOTTEN = "forgotten"  # the client resumes another one


@dataclass(frozen=True, slots=True)
class Closed:
    """This side ended the session, in order."""

    text: str


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer said GOAWAY; the text is its own."""

    code: GoAwayCode
    text: str


@dataclass(frozen=True, slots=True)
class PeerBroke:
    """The peer broke the protocol; the text says how, in words of this side."""

    text: str


SessionEnd = Closed | PeerClosed | PeerBroke | LinkEnd | Loss


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """Streams can be opened."""


@dataclass(frozen=True, slots=True)
class SessionInterrupted:
    """The session has no link; its streams wait."""

    reason: LinkEnd


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """The session goes on, on a new link."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over, and its streams with it."""

    reason: SessionEnd


SessionEvent = SessionBegan | SessionInterrupted | SessionResumed | SessionEnded
