"""The messages of a pairing: there and back, and what else a peer may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import RemoteProtocolError
from toxproxy.pairing.messages import MOST_BYTES, Kind, Message, OtherVersion, encode, parse

SESSION = b"12345678"
LENGTHS = {
    Kind.HELLO: 0,
    Kind.COMMIT: 32,
    Kind.SHARE: 33,
    Kind.REVEAL: 33,
    Kind.PROOF: 80,
    Kind.WELCOME: 86,
    Kind.DONE: 32,
    Kind.BYE: 0,
    Kind.REFUSED: 1,
}


@pytest.mark.parametrize("kind", Kind)
def test_there_and_back(kind: Kind) -> None:
    message = Message(kind, SESSION, bytes(range(LENGTHS[kind])))
    packet = encode(message)
    assert packet[:11] == bytes((226, 1, kind)) + SESSION
    assert len(packet) <= MOST_BYTES == 97
    assert parse(packet) == message


@pytest.mark.parametrize("kind", Kind)
def test_cut_short_or_with_more_behind_it_is_a_violation(kind: Kind) -> None:
    packet = encode(Message(kind, SESSION, bytes(LENGTHS[kind])))
    for length in range(len(packet)):
        with pytest.raises(RemoteProtocolError):
            parse(packet[:length])
    with pytest.raises(RemoteProtocolError):
        parse(packet + b"\0")


@pytest.mark.parametrize("kind", Kind)
def test_no_message_of_another_length_is_made(kind: Kind) -> None:
    with pytest.raises(ValueError, match="another length"):
        encode(Message(kind, SESSION, bytes(LENGTHS[kind] + 1)))
    with pytest.raises(ValueError, match="another length"):
        encode(Message(kind, SESSION[1:], bytes(LENGTHS[kind])))


def test_another_version_is_told_apart_from_nonsense() -> None:
    with pytest.raises(OtherVersion, match="expected version 1, found 2"):
        parse(bytes((226, 2, 77)) + SESSION)
    with pytest.raises(RemoteProtocolError, match="something else") as caught:
        parse(bytes((225, 2, 1)) + SESSION)
    assert not isinstance(caught.value, OtherVersion)


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda rest: b"\xe2\x01" + rest))
def test_any_packet_is_a_message_that_is_written_the_same_or_a_violation(packet: bytes) -> None:
    try:
        message = parse(packet)
    except RemoteProtocolError:
        return
    assert encode(message) == packet
