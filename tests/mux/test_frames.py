"""Frames: decoding gives back what was encoded, and everything else is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.wire import decode_all
from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, ResetCode
from toxproxy.mux import frames
from toxproxy.mux.frames import (
    MAX_RAW,
    Bulk,
    Credit,
    Data,
    Datagram,
    Fin,
    Frame,
    Hello,
    Open,
    Opened,
    Packed,
    Part,
    Ping,
    Pong,
    Refused,
    Reset,
)
from toxproxy.recovery.packet import MAX_TEXT

# Every frame, byte by byte as in SPEC.md.
EXAMPLES: list[tuple[Frame, str]] = [
    (Hello(1, 2, 3, 4, 5, 6), "01 01 02 0000000000000003 00000004 00000005 00000006 00"),
    (Ping(0x0102030405060708), "02 0102030405060708"),
    (Pong(0x0102030405060708), "03 0102030405060708"),
    (Open(1, 1, 0x40000, 443, "a.example"), "10 00000001 01 00040000 01bb 09 612e6578616d706c65"),
    (Opened(1, 0x40000), "11 00000001 00040000"),
    (Refused(1, 5, "no"), "12 00000001 05 0002 6e6f"),
    (Data(1, 7, b"\x00\xff"), "13 00000001 0000000000000007 0002 00ff"),
    (Bulk(1, 7, b"\x00\xff"), "17 0001 00000007 00ff"),
    (Fin(1, 9), "14 00000001 0000000000000009"),
    (Reset(1, 2), "15 00000001 02"),
    (Credit(1, 9, 0x40009), "16 00000001 0000000000000009 0000000000040009"),
    (Packed(1, 7, 5, b"\x00\xff"), "18 00000001 0000000000000007 00000005 0002 00ff"),
    (Datagram(1, b"\x00\xff"), "20 00000001 0002 00ff"),
    (Datagram(1, b""), "20 00000001 0000"),
    (Part(1, 2, 3000, 7, b"\x00\xff"), "21 00000001 0002 0bb8 0007 0002 00ff"),
]

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
u64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
text = st.text(max_size=MAX_TEXT // 4).filter(str.isprintable)
host = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
any_frame: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, u8, u8, u64, u32, u32, u32, st.binary(max_size=255)),
    st.builds(Ping, u64),
    st.builds(Pong, u64),
    st.builds(Open, u32, u8, u32, st.integers(1, 0xFFFF), host),
    st.builds(Opened, u32, u32),
    st.builds(Refused, u32, u8, text),
    st.builds(Data, u32, u64, st.binary(min_size=1, max_size=1400)),
    st.builds(Packed, u32, u64, st.integers(1, MAX_RAW), st.binary(min_size=1, max_size=1400)),
    st.builds(Fin, u32, u64),
    st.builds(Reset, u32, u8),
    st.builds(Credit, u32, u64, u64),
    st.builds(Datagram, u32, st.binary(max_size=1400)),
    st.builds(Part, u32, u16, st.just(0xFFFF), st.integers(0, 60_000), st.binary(min_size=1, max_size=1400)),
)

examples = pytest.mark.parametrize(
    "frame", [frame for frame, _ in EXAMPLES], ids=[frames.name(type(frame)) for frame, _ in EXAMPLES]
)


def is_read_as(spelled: bytes, frame: Frame) -> bool:
    """Whether bytes decode to this frame. Types are compared too: PING and PONG are equal tuples."""
    read, end = frames.decode(spelled)
    return type(read) is type(frame) and read == frame and end == len(spelled)


@pytest.mark.parametrize(("frame", "spelled"), EXAMPLES)
def test_a_frame_is_laid_out_as_specified(frame: Frame, spelled: str) -> None:
    message = bytes.fromhex(spelled)
    assert frames.encode(frame) == message
    assert is_read_as(message, frame)


def test_the_examples_cover_every_type() -> None:
    types = {frames.encode(frame)[0] for frame, _ in EXAMPLES}
    known = set()
    for number in range(256):
        try:
            frames.decode(bytes((number,)))
        except RemoteProtocolError as error:
            if "unknown" in str(error):
                continue
        known.add(number)
    assert types == known


@given(any_frame | st.builds(Bulk, u16, u32, st.binary(min_size=1, max_size=1400)))
def test_every_frame_round_trips(frame: Frame) -> None:
    assert is_read_as(frames.encode(frame), frame)


@given(st.lists(any_frame, max_size=6), st.binary(max_size=20))
def test_frames_follow_one_another_in_a_packet(several: list[Frame], header: bytes) -> None:
    packet = header + b"".join(map(frames.encode, several))
    read = decode_all(packet, len(header))
    assert read == several
    assert list(map(type, read)) == list(map(type, several))


@given(
    st.binary(min_size=1, max_size=64)
    | st.builds(lambda t, rest: bytes((t,)) + rest, st.integers(0, 0x19), st.binary())
)
def test_arbitrary_bytes_are_a_frame_or_the_peers_error(packet: bytes) -> None:
    try:
        frame, end = frames.decode(packet)
    except RemoteProtocolError:
        return
    again = frames.encode(frame)
    assert is_read_as(again, frame)
    if not isinstance(frame, Refused):  # whose text may be cut or cleaned
        assert again == packet[:end]


@examples
def test_a_frame_cut_at_every_byte(frame: Frame) -> None:
    spelled = frames.encode(frame)
    for length in range(1, len(spelled)):
        if isinstance(frame, Bulk) and length > frames.BULK_HEADER:
            continue  # it is as long as its packet
        with pytest.raises(RemoteProtocolError, match=r"cut short|without bytes"):
            frames.decode(spelled[:length])


@examples
def test_what_follows_a_frame_is_not_part_of_it(frame: Frame) -> None:
    spelled = frames.encode(frame)
    if isinstance(frame, Bulk):
        assert frames.decode(spelled + b"!") == (Bulk(frame.stream, frame.offset, frame.payload + b"!"), 10)
    else:
        assert frames.decode(spelled + b"!") == (frame, len(spelled))


def test_a_hello_of_a_later_version_may_be_longer() -> None:
    hello = Hello(1, 9, 3, 0xFFFF_FFFF, 5, 6)
    assert is_read_as(frames.encode(hello)[:-1] + b"\x0dsomething new", hello._replace(more=b"something new"))
    with pytest.raises(RemoteProtocolError, match="cut short"):
        frames.decode(frames.encode(hello)[:-1] + b"\x0esomething new")


def test_data_fills_a_packet_as_bulk_and_is_short_of_it_as_data() -> None:
    assert frames.data(1, 2**32 + 7, 13, 20) == (bytes.fromhex("17 0001 00000007"), 13)
    assert frames.data(1, 7, 12, 20) == (bytes.fromhex("13 00000001 0000000000000007 0005"), 5)
    assert frames.data(0x1_0000, 7, 13, 20) == (bytes.fromhex("13 00010000 0000000000000007 0005"), 5)
    assert frames.data(1, 7, 3, 20) == (bytes.fromhex("13 00000001 0000000000000007 0003"), 3)


def test_data_without_bytes() -> None:
    with pytest.raises(RemoteProtocolError, match="without bytes"):
        frames.decode(bytes.fromhex("13 00000001 0000000000000007 0000"))


@pytest.mark.parametrize("number", [0x00, 0x04, 0x05, 0x06, 0x07, 0x0F, 0x19, 0x80, 0xFF])
def test_an_unknown_type(number: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"unknown frame type 0x{number:02x}"):
        frames.decode(bytes((number,)) + bytes(40))


@pytest.mark.parametrize("length", [0, MAX_RAW + 1, 0xFFFF_FFFF])
def test_a_block_of_a_size_that_is_not_allowed(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"PACKED frame of {length} bytes"):
        frames.decode(frames.encode(Packed(1, 0, length, b"block")))


@pytest.mark.parametrize(
    ("port", "name"),
    [
        (0, b"host"),
        (80, b""),
        (80, b"two words"),
        (80, b"a\x00b"),
        (80, b"a\nb"),
        (80, b"\x7f"),
        (80, "ö.example".encode()),
    ],
)
def test_an_open_with_an_impossible_target(port: int, name: bytes) -> None:
    head = frames.encode(Open(1, 1, 0, port, "x"))[:-2]
    with pytest.raises(RemoteProtocolError, match="OPEN frame"):
        frames.decode(head + bytes((len(name),)) + name)


@pytest.mark.parametrize(("letter", "kept"), [("x", 512), ("é", 256), ("€", 170), ("😀", 128)])
def test_a_long_text_is_cut_at_a_character(letter: str, kept: int) -> None:
    sent, _ = frames.decode(frames.encode(Refused(1, 1, letter * 600)))
    assert sent == Refused(1, 1, letter * kept)


def test_control_characters_in_a_peers_text_are_replaced() -> None:
    said = b"red \x1b[31m\r\n\x00 bad \xff tail" + b"x" * 1000
    frame, _ = frames.decode(b"\x12" + bytes(5) + len(said).to_bytes(2) + said)
    assert isinstance(frame, Refused)
    assert frame.text.isprintable()
    assert frame.text.startswith("red �[31m���")
    assert len(frame.text) == MAX_TEXT


@pytest.mark.parametrize("code", set(Refusal) - {Refusal.OFFLINE})
def test_every_code_of_a_refusal(code: Refusal) -> None:
    assert frames.refusal(code.value) is code


def test_a_peer_cannot_say_that_it_is_offline() -> None:
    assert frames.refusal(Refusal.OFFLINE.value) is Refusal.FAILED


def test_unknown_codes_have_a_default() -> None:
    assert frames.refusal(0xFE) is Refusal.FAILED
    assert frames.reset_code(0xFE) is ResetCode.CONNECTION_RESET
    assert frames.close_code(0xFE) is CloseCode.PROTOCOL_ERROR
