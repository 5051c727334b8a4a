"""Single values of the configuration, as people write them: texts, yes and no, seconds, counts, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from toxproxy.address import shown

A = TypeVar("A")
T = TypeVar("T")

MAX_SECONDS = 3600

_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def quietly(parser: Callable[[A], T], value: A, expected: str) -> T:
    """What `parser` makes of a value that may be a password. The `ValueError` repeats nothing of it."""
    try:
        return parser(value)
    except ValueError:
        raise ValueError(f"expected {expected}, found something else") from None


def parse_text(text: str, what: str, limit: int) -> str:
    """The text itself, 1 to `limit` bytes of UTF-8. Raises `ValueError`, which does not repeat the text."""
    size = len(text.encode())
    if not 1 <= size <= limit:
        raise ValueError(f"expected {what} of 1 to {limit} bytes of UTF-8, found {size}")
    return text


def parse_boolean(text: str) -> bool:
    """`yes`, `on`, `true`, `no`, `off` or `false`, in any case. Raises `ValueError`."""
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"expected yes or no, found {shown(text)}")
    return _BOOLEANS[text.lower()]


def parse_seconds(text: str, *, lowest: float, highest: int = MAX_SECONDS) -> float:
    """A decimal number of seconds, from `lowest` to `highest`. Raises `ValueError`."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not lowest <= float(text) <= highest:
        raise ValueError(f"expected seconds from {lowest:g} to {highest}, found {shown(text)}")
    return float(text)


def parse_count(text: str, *, lowest: int, highest: int) -> int:
    """A whole number, from `lowest` to `highest`. Raises `ValueError`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
        raise ValueError(f"expected a number from {lowest} to {highest}, found {shown(text)}")
    return int(text)


def parse_size(text: str, *, lowest: int, highest: int) -> int:
    """A number of bytes, or of KiB, MiB or GiB with K, M or G behind it. Raises `ValueError`."""
    match = _SIZE.fullmatch(text.upper())
    size = int(match[1]) * _UNITS[match[2]] if match else -1
    if not lowest <= size <= highest:
        raise ValueError(
            f"expected a size from {_size(lowest)} to {_size(highest)}, as 64M, found {shown(text)}"
        )
    return size


def _size(number: int) -> str:
    if not number:
        return "0"
    unit = next(unit for unit in "GMK" if number % _UNITS[unit] == 0)
    return f"{number // _UNITS[unit]}{unit}"
