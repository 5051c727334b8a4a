"""The events that a `SessionKeeper` reports, and the reasons why sessions end.

They are values; `friend` turns them into log lines.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from toxproxy.errors import CloseCode
from toxproxy.link.base import LinkEnd


class Loss(Enum):
    """Why an interrupted session will not be resumed, as people are told."""

    EXPIRED = "it was interrupted for longer than it is kept"
    RESTARTED = "the client was restarted"
    FORGOTTEN = "the client has another session"


class Closed(NamedTuple):
    """This side ended the session; `text` is what the peer was told."""

    text: str


class PeerClosed(NamedTuple):
    """The peer sent CLOSE; code and text are from it."""

    code: CloseCode
    text: str


class PeerBroke(NamedTuple):
    """The peer broke the protocol; `text` is the error that this side found."""

    text: str


SessionEnd = Closed | PeerClosed | PeerBroke | LinkEnd | Loss


class Change(Enum):
    """What happened to a session, as people are told."""

    BEGAN = "began"  # streams can be opened
    INTERRUPTED = "was interrupted"  # it has lost its link; its streams wait
    RESUMED = "was resumed"  # on a new link
    ENDED = "ended"  # with all its streams; the last event


class SessionEvent(NamedTuple):
    """What happened. The reason of INTERRUPTED is a `LinkEnd`; that of ENDED any."""

    change: Change
    reason: SessionEnd | None = None
