"""[limits]: how much peers, clients and strangers may make a process hold, and for how long.

Every default is more than a user with a browser needs; what happens beyond is said with each
value, and the log says it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from toxproxy.address import shown
from toxproxy.config import ini
from toxproxy.config.settings import GIB, KIB, MIB, LimitSettings
from toxproxy.patience import Patience

_WEEK = 7 * 24 * 3600
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)")
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}


def parse(entries: Mapping[str, ini.Entry]) -> LimitSettings:
    """The section's entries, whose keys are among `KEYS`. Raises `ConfigError`."""
    given = {key: entry.parse(_PARSERS[key]) for key, entry in entries.items()}
    patience = Patience(**{key: given.pop(key) for key in ("idle", "half_closed") if key in given})
    return LimitSettings(**given, patience=patience)


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
    unit = next(unit for unit in "GMK" if number % _UNITS[unit] == 0)
    return f"{number // _UNITS[unit]}{unit}"


_PARSERS: dict[str, Callable[[str], Any]] = {
    "streams": partial(ini.parse_count, lowest=1, highest=1_000_000),
    "dials": partial(ini.parse_count, lowest=1, highest=65_536),
    "connections": partial(ini.parse_count, lowest=1, highest=1_000_000),
    "handshake": partial(ini.parse_seconds, lowest=1),
    "memory": partial(parse_size, lowest=MIB, highest=64 * GIB),
    "stream_memory": partial(parse_size, lowest=64 * KIB, highest=GIB),
    "process_memory": partial(parse_size, lowest=MIB, highest=64 * GIB),
    "friend_requests": partial(ini.parse_count, lowest=0, highest=10_000),
    "idle": partial(ini.parse_seconds, lowest=0, highest=_WEEK),
    "half_closed": partial(ini.parse_seconds, lowest=0, highest=_WEEK),
}

KEYS = frozenset(_PARSERS)
