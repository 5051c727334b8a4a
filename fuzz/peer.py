"""What a hostile peer sends: arbitrary bytes, and frames that are valid except for one field."""

from __future__ import annotations

from collections.abc import Iterable

from lz4.block import compress

from fuzz.choices import Choices

# the widths of the fields of each frame type in bytes (SPEC.md, section 5), and of its tail's length
_FIELDS: dict[int, tuple[tuple[int, ...], int]] = {
    0x01: ((1, 1, 8, 4, 4, 4), 1),  # HELLO
    0x02: ((8,), 0),  # PING
    0x03: ((8,), 0),  # PONG
    0x10: ((4, 1, 4, 2), 1),  # OPEN
    0x11: ((4, 4), 0),  # OPENED
    0x12: ((4, 1), 2),  # REFUSED
    0x13: ((4, 8), 2),  # DATA
    0x14: ((4, 8), 0),  # FIN
    0x15: ((4, 1), 0),  # RESET
    0x16: ((4, 8, 8), 0),  # CREDIT
    0x17: ((2, 4), 0),  # BULK
    0x18: ((4, 8, 4), 2),  # PACKED
    0x20: ((4,), 2),  # DATAGRAM
    0x21: ((4, 2, 2, 2), 2),  # PART
}
_TYPES = tuple(_FIELDS)
_OPEN, _PACKED = 0x10, 0x18
_MOST_TAIL = 300  # bytes
_EDGES = (0, 1, 2, 3, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 62, (1 << 64) - 1)


def any_frame(choices: Choices, likely: Iterable[int] = ()) -> bytes:
    """A frame, perhaps damaged, or arbitrary bytes. A field is one of `likely`, an extreme or any number."""
    number = choices.pick((*_TYPES, 0x00))
    if number not in _FIELDS:
        return choices.chunk(_MOST_TAIL)
    numbers = (*likely, *_EDGES)
    widths, length = _FIELDS[number]
    fields = b"".join(_field(choices, numbers, width) for width in widths)
    tail = _tail(choices, number)[: (1 << 8 * length) - 1] if length else b""
    said = len(tail).to_bytes(length) if length else b""
    return damaged(choices, bytes((number,)) + fields + said + tail)


def damaged(choices: Choices, message: bytes) -> bytes:
    """The message: mostly unchanged, else cut short, with bytes appended, or with one byte changed."""
    match choices.integer(15):
        case 1:
            return message[: choices.integer(len(message))]
        case 2:
            return message + choices.chunk(_MOST_TAIL)
        case 3 if message:
            changed = bytearray(message)
            changed[choices.integer(len(message) - 1)] ^= 1 << choices.integer(7)
            return bytes(changed)
    return message


def packed(raw: bytes, history: bytes = b"") -> bytes:
    """An LZ4 block of `raw`, which may refer to `history`."""
    block: bytes = compress(raw, store_size=False, dict=history)
    return block


def _field(choices: Choices, numbers: tuple[int, ...], width: int) -> bytes:
    which = choices.integer(len(numbers))
    number = numbers[which] if which < len(numbers) else choices.integer((1 << 8 * width) - 1)
    return (number % (1 << 8 * width)).to_bytes(width)


def _tail(choices: Choices, number: int) -> bytes:
    tail = choices.chunk(_MOST_TAIL)
    if number == _OPEN:
        return tail or b"127.0.0.1"
    return packed(tail) if number == _PACKED and choices.integer(1) else tail
