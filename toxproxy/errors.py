"""What can go wrong, by whose fault, and the codes that say it on the wire.

Two families never mix: a `ProtocolError` says which *side* broke the rules of the wire
protocol (as h11 does), a `StreamError` says what happened to one stream and is meant for
the person or program behind it.
"""

from __future__ import annotations

from enum import IntEnum


class ToxproxyError(Exception):
    """The base of every error that toxproxy raises on purpose."""


class ConfigError(ToxproxyError):
    """A configuration that cannot be used; the text names the file, the line and what was expected."""


class StateError(ToxproxyError):
    """The state folder, or a file in it, cannot be used; the text says which and what to do."""


class Refusal(IntEnum):
    """Why the far end did not open a stream (the code of a REFUSED frame, one byte).

    The values from 1 to 8 are the reply codes of SOCKS5 (RFC 1928, section 6), so that a
    proxy's client is told exactly what the far end met.
    """

    FAILED = 0x01
    NOT_PERMITTED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    CONNECTION_REFUSED = 0x05
    TIMED_OUT = 0x06
    UNSUPPORTED = 0x07
    NAME_NOT_FOUND = 0x10
    TOO_MANY_STREAMS = 0x11
    OFFLINE = 0x12  # said by the near end itself: the server was not found in time

    @property
    def words(self) -> str:
        """As people say it: `CONNECTION_REFUSED` is "connection refused"."""
        return self.name.lower().replace("_", " ")


class ResetCode(IntEnum):
    """Why a stream that was open ended at once (the code of a RESET frame, one byte)."""

    CONNECTION_RESET = 0x01  # the TCP connection behind it was reset
    CANCELLED = 0x02  # the application gave it up
    LINK_LOST = 0x03  # said by each side to itself when the session ended
    GOING_AWAY = 0x04  # the program is stopping


class GoAwayCode(IntEnum):
    """Why a session ends (the code of a GOAWAY frame, one byte)."""

    STOPPING = 0x00  # the program is stopping
    PROTOCOL_ERROR = 0x01
    VERSION = 0x02  # the two versions of the protocol have nothing in common
    NO_SESSION = 0x03  # there is no such session to resume


class StreamError(ToxproxyError):
    """One stream failed; the others go on."""


class StreamRefused(StreamError):
    """The stream was not opened.

    `code` says why for programs, `text` for people. The text does not name the target: whoever shows
    it knows that, and says so in its own way.
    """

    def __init__(self, code: Refusal, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamReset(StreamError, ConnectionResetError):
    """The stream was open and ended before its data did."""

    def __init__(self, code: ResetCode, text: str = "") -> None:
        super().__init__(text or code.name.lower().replace("_", " "))
        self.code = code


class ProtocolError(ToxproxyError):
    """The rules of the wire protocol were broken."""


class LocalProtocolError(ProtocolError):
    """This side tried what the protocol does not allow: a bug of the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow: the session with it ends."""
