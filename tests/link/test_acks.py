"""Acknowledgements are repeated where that is cheap, and other datagrams are unchanged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.link.acks import Repeater

ROOM = 1371


def ack(number: int) -> bytes:
    """ENetProtocolAcknowledge: command, channel, sequence number, received number and time."""
    return b"\x01\x00" + number.to_bytes(2) + number.to_bytes(2) + b"\x12\x34"


def datagram(*numbers: int, flags: int = 0) -> bytes:
    return bytes((flags, 0)) + b"".join(map(ack, numbers))


def repeated(repeater: Repeater, content: bytes, now: float) -> bytes:
    buffer = memoryview(bytearray(content + bytes(ROOM - len(content))))
    return bytes(buffer[: repeater.repeat(buffer, len(content), now)])


def test_the_next_datagram_repeats_the_last_acknowledgements_after_its_own() -> None:
    repeater = Repeater()
    assert repeated(repeater, datagram(1), 1.0) == datagram(1)
    assert repeated(repeater, datagram(2, 3), 1.001) == datagram(2, 3, 1)
    assert repeated(repeater, datagram(4), 1.002) == datagram(4, 2, 3, 1)


def test_no_more_than_eight_are_repeated() -> None:
    repeater = Repeater()
    for number in range(20):
        said = repeated(repeater, datagram(number), 1.0)
    assert said == datagram(19, *range(18, 10, -1))


def test_old_ones_are_not_repeated_since_enet_would_measure_a_long_round_trip() -> None:
    repeater = Repeater()
    repeated(repeater, datagram(1), 1.0)
    assert repeated(repeater, datagram(2), 1.1) == datagram(2)
    assert repeated(repeater, datagram(3), 1.101) == datagram(3, 2)


def test_a_datagram_with_many_acknowledgements_is_unchanged() -> None:
    repeater = Repeater()
    repeated(repeater, datagram(1), 1.0)
    many = datagram(*range(2, 7))
    assert repeated(repeater, many, 1.0) == many


@given(st.binary(min_size=2, max_size=ROOM), st.sampled_from([0x40, 0x80, 0xC0]))
def test_a_datagram_with_other_commands_is_unchanged(content: bytes, flags: int) -> None:
    repeater = Repeater()
    repeated(repeater, datagram(1), 1.0)
    content = bytes((content[0] | flags,)) + content[1:]
    assert repeated(repeater, content, 1.0) == content


def test_a_disconnect_is_unchanged() -> None:
    repeater = Repeater()
    repeated(repeater, datagram(1), 1.0)
    end = b"\0\0\x44\xff\0\5\0\0\0\0"
    assert repeated(repeater, end, 1.001) == end
