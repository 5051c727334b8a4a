"""The errors that toxproxy raises, and the error codes of the wire protocol.

There are two families. A `ProtocolError` says which side broke the wire protocol (as in h11). A
`StreamError` says what happened to one stream, for the person or program that uses it.
"""

from __future__ import annotations

from enum import IntEnum


class ToxproxyError(Exception):
    """The base of every error that toxproxy raises on purpose."""


class ConfigError(ToxproxyError):
    """The configuration cannot be used. The text gives the file, the line and what was expected."""


class StateError(ToxproxyError):
    """The state folder or a file in it cannot be used. The text says which, and what to do."""


class Refusal(IntEnum):
    """Why a stream was not opened: the code of a REFUSED frame, one byte.

    1 to 7 are the reply codes of SOCKS5 (RFC 1928, section 6), so that a SOCKS client gets the reason
    that the far end found.
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
    OFFLINE = 0x12  # not sent: the client found no server in time
    QUOTA_USED = 0x13  # what this client may carry in a month
    ADDRESS_IN_USE = 0x14  # where the server was asked to listen

    @property
    def words(self) -> str:
        """The name in words: `CONNECTION_REFUSED` is "connection refused"."""
        return self.name.lower().replace("_", " ")


class ResetCode(IntEnum):
    """Why an open stream was reset: the code of a RESET frame, one byte."""

    CONNECTION_RESET = 0x01  # the TCP connection behind it was reset
    CANCELLED = 0x02  # the application cancelled it
    LINK_LOST = 0x03  # not sent: the session was lost
    GOING_AWAY = 0x04  # not sent: the session was ended by a CLOSE
    QUOTA_USED = 0x05  # the client has carried what it may in a month


class CloseCode(IntEnum):
    """Why a session ends: the code of a CLOSE packet, one byte."""

    STOPPING = 0x00  # the program is stopping
    PROTOCOL_ERROR = 0x01
    VERSION = 0x02  # there is no protocol version that both sides understand
    NO_SESSION = 0x03  # the session to resume is not known


class StreamError(ToxproxyError):
    """One stream failed. The other streams are not affected."""


class StreamRefused(StreamError):
    """The stream was not opened.

    `code` is the reason for programs, `text` the reason for people. The text does not name the target;
    the caller knows it, and adds it where it shows the text.
    """

    def __init__(self, code: Refusal, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamReset(StreamError, ConnectionResetError):
    """The stream was open, and was reset before all data came."""

    def __init__(self, code: ResetCode, text: str = "") -> None:
        super().__init__(text or code.name.lower().replace("_", " "))
        self.code = code


class ProtocolError(ToxproxyError):
    """The rules of the wire protocol were broken."""


class LocalProtocolError(ProtocolError):
    """This side tried something that the protocol does not allow: a bug in the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow. The session with it ends.

    `code` is what the peer is told.
    """

    code = CloseCode.PROTOCOL_ERROR
