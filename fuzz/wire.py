"""Targets: the contents of single frames, and of packets beside their frames."""

from __future__ import annotations

from fuzz import packets
from fuzz.choices import Choices
from fuzz.peer import any_frame, damaged, packed
from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import HISTORY, Decompressor
from toxproxy.recovery import packet
from toxproxy.recovery.ranges import Ranges

_INEXACT = (frames.Hello, frames.Refused)  # their tail is ignored or cleaned
_UNIT = 16e-6  # seconds, of an acknowledgement's delay
_MOST_RUN = 0xFFFF


def frame(data: bytes) -> None:
    """The bytes of a packet are the peer's error, or frames that are encoded to the same bytes again."""
    choices = Choices(data)
    made = b"".join(any_frame(choices) for _ in range(1 + choices.integer(4)))
    for message in (data, made):
        at = 0
        while at < len(message):
            try:
                read, end = frames.decode(message, at)
            except RemoteProtocolError:
                break
            assert at < end <= len(message)
            written = frames.encode(read)
            again, whole = frames.decode(written)
            assert whole == len(written)
            assert type(again) is type(read)
            if isinstance(read, frames.Refused):
                assert read.text.isprintable()
                assert read.text.startswith(again[-1])  # type: ignore[arg-type]
            else:
                assert again == read
            assert written == message[at:end] or isinstance(read, _INEXACT)
            at = end


def block(data: bytes) -> None:
    """A block is the peer's error, or holds as many bytes as declared. Valid blocks are never refused."""
    choices, reader, history = Choices(data), Decompressor(), b""
    while choices:
        raw = (choices.chunk(255) or b"\0") * (1 + choices.integer(255))
        good = packed(raw, history)
        message = choices.chunk(300) if choices.integer(3) == 1 else damaged(choices, good)
        length = choices.pick((len(raw), 1, frames.MAX_RAW, 1 + choices.integer(frames.MAX_RAW - 1)))
        intact = message == good and length == len(raw)
        try:
            read = reader.unpack(message, length)
        except RemoteProtocolError:
            assert not intact, "a good block was refused"
        else:
            assert len(read) == length
            assert read == raw or not intact
            history = (history + read)[-HISTORY:]


def parts(data: bytes) -> None:
    """CLOSE, introductions and acknowledgements: read as they were written, and lies do no harm."""
    choices = Choices(data)
    _read_anything(data)
    _read_anything(packets.any_packet(choices, choices.integer(0xFFFF_FFFF), choices.integer(0xFFFF)))
    code, text = choices.integer(255), choices.chunk(900).decode(errors="replace")
    written = packet.close(code, text)
    assert len(written) <= 2 + packet.MAX_TEXT
    read = packet.closing(written)
    assert read is not None
    assert read[0] == code
    assert read[1] == "".join(c if c.isprintable() else "�" for c in written[2:].decode())
    _acknowledge(choices)


def _read_anything(data: bytes) -> None:
    said = packet.closing(data)
    assert (said is not None) is (len(data) >= 2 and data[0] == 0x80)
    assert said is None or (said[1].isprintable() and len(said[1]) <= packet.MAX_TEXT)
    ids = packet.introduction(data)
    assert ids is None or data[4:20] == packet.ids(*ids)
    try:
        ack = packet.parse_acknowledgement(data, packet.HEADER)
    except RemoteProtocolError:
        return
    assert 0 < len(ack.runs) <= packet.MOST_RUNS
    assert ack.end <= len(data)


def _acknowledge(choices: Choices) -> None:
    """An acknowledgement says what came, as much as fits, and nothing else."""
    came, most = Ranges(), 1 + choices.integer(63)
    at = 1 + choices.integer(0xFFFF_FFFF)
    for _ in range(1 + choices.integer(70)):
        length = choices.pick((1, 2, 3, _MOST_RUN - 1, _MOST_RUN, _MOST_RUN + 1, 3 * _MOST_RUN + 7))
        came.add(at, at + length)
        at += length + choices.pick((1, 2, 1, 7, _MOST_RUN, _MOST_RUN + 1))
    received, delay = choices.integer(0xFFFF_FFFF) / 1e6, choices.pick((0.0, 0.01, 3.0))
    span = choices.integer(1 << 17)
    written = packet.acknowledgement(span, received, received + delay, came, most)
    ack = packet.parse_acknowledgement(written, 0)
    assert ack.end == len(written)
    assert len(ack.runs) <= most
    assert ack.span == min(span, 0xFFFF)
    assert abs(ack.delay - min(delay, 0xFFFF * _UNIT)) <= 2 * _UNIT
    end = next(iter(came))[1]
    high = packet.expanded(ack.largest, end)
    assert high == end - 1
    for run, gap in ack.runs:
        assert any(first <= high + 1 - run and high < end for first, end in came)
        assert not gap or high - run not in came
        high -= run + gap


def decode_all(packet: bytes, at: int = 0) -> list[frames.Frame]:
    """All frames from `at` to the end of the packet. Raises `RemoteProtocolError`."""
    found: list[frames.Frame] = []
    while at < len(packet):
        frame, at = frames.decode(packet, at)
        found.append(frame)
    return found
