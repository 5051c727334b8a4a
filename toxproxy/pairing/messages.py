"""The messages of a pairing: one Tox lossy packet each (SPEC.md, section 12).

    packet = packet id (1 byte) . version (1 byte) . kind (1 byte) . session (8 bytes) . body

The length of the body follows from the kind. Everything else is a violation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from toxproxy.address import KEY_BYTES, TOX_ID_BYTES
from toxproxy.errors import RemoteProtocolError

PACKET_ID = 226  # as that of the link, which never shares a Tox identity with a pairing
VERSION = 1
SESSION_BYTES = 8
MAC_BYTES = 32  # HMAC-SHA-256
TAG_BYTES = 16  # ChaCha20-Poly1305
SHARE_BYTES = 33  # of SPAKE2 on Ed25519: the side and a point

_HEADER_BYTES = 3 + SESSION_BYTES


class Kind(IntEnum):
    """What a message is. The joiner sends the odd ones, REFUSED apart, the inviter the even ones."""

    HELLO = 1
    COMMIT = 2
    SHARE = 3
    REVEAL = 4
    PROOF = 5
    WELCOME = 6
    DONE = 7
    BYE = 8
    REFUSED = 9


_BODY_BYTES = {
    Kind.HELLO: 0,
    Kind.COMMIT: 32,
    Kind.SHARE: SHARE_BYTES,
    Kind.REVEAL: SHARE_BYTES,
    Kind.PROOF: MAC_BYTES + KEY_BYTES + TAG_BYTES,
    Kind.WELCOME: MAC_BYTES + TOX_ID_BYTES + TAG_BYTES,
    Kind.DONE: MAC_BYTES,
    Kind.BYE: 0,
    Kind.REFUSED: 1,
}

MOST_BYTES = _HEADER_BYTES + max(_BODY_BYTES.values())


class OtherVersion(RemoteProtocolError):
    """The peer speaks another version of this protocol."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `session` is 8 bytes that the joiner chose, `body` as long as the kind says."""

    kind: Kind
    session: bytes
    body: bytes = b""


def encode(message: Message) -> bytes:
    """The packet. Raises `ValueError` for a body or a session of another length."""
    if len(message.body) != _BODY_BYTES[message.kind] or len(message.session) != SESSION_BYTES:
        raise ValueError(f"{message.kind.name} has another length")
    return bytes((PACKET_ID, VERSION, message.kind)) + message.session + message.body


def parse(packet: bytes) -> Message:
    """The message of a packet. Raises `OtherVersion` and `RemoteProtocolError`."""
    if len(packet) < _HEADER_BYTES or packet[0] != PACKET_ID:
        raise RemoteProtocolError("expected a message of a pairing, found something else")
    if packet[1] != VERSION:
        raise OtherVersion(f"expected version {VERSION}, found {packet[1]}")
    try:
        kind = Kind(packet[2])
    except ValueError:
        raise RemoteProtocolError(f"expected a kind of message, found {packet[2]}") from None
    session, body = packet[3:_HEADER_BYTES], packet[_HEADER_BYTES:]
    if len(body) != _BODY_BYTES[kind]:
        raise RemoteProtocolError(f"expected {_BODY_BYTES[kind]} bytes in {kind.name}, found {len(body)}")
    return Message(kind, session, body)
