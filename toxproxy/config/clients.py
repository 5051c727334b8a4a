"""[client NAME]: what each client may at a server. Not [client], which are a client's own forwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from toxproxy.address import parse_key, shown
from toxproxy.config import ini, scalars
from toxproxy.config.listen import parse_listen
from toxproxy.config.settings import GIB, KIB, ClientSection, Rate
from toxproxy.rules import parse_rule

WORD = "client"
MAX_NAME = 64  # characters

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    rf"({_DAY.pattern})[ T]([0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}})?)( ?(Z|UTC|[+-][0-9]{{2}}:[0-9]{{2}}))?"
)

_size = partial(scalars.parse_size, highest=64 * GIB)


def parse_rate(text: str) -> Rate:
    """`2M`, or `2M/500K`: bytes in a second to the client, and from it. Raises `ValueError`."""
    down, slash, up = text.partition("/")
    speeds = [_size(each.strip(), lowest=8 * KIB) for each in ((down, up) if slash else (down, down))]
    return Rate(*speeds)


def parse_expires(text: str) -> int:
    """The end of a day, or a minute, in seconds since 1970. Without a zone it is this machine's time.

    Raises `ValueError`.
    """
    try:
        if _DAY.fullmatch(text):
            return int((datetime.fromisoformat(text) + timedelta(days=1)).astimezone().timestamp())
        if match := _TIME.fullmatch(text):
            when = datetime.fromisoformat(f"{match[1]}T{match[2]}")
            if zone := match[5]:
                when = when.replace(tzinfo=UTC if zone in ("Z", "UTC") else _zone(zone))
            return int(when.astimezone().timestamp())
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"expected a date as 2027-01-31, or 2027-01-31 18:00, found {shown(text)}")


def _zone(text: str) -> Any:
    return datetime.fromisoformat(f"2000-01-01T00:00{text}").tzinfo


# What one value makes; `permit`, `deny` and `listen` are lists.
_PARSERS: Mapping[str, Callable[[str], object]] = {
    "key": parse_key,
    "rate": parse_rate,
    "quota": partial(scalars.parse_size, lowest=KIB, highest=1 << 50),
    "expires": parse_expires,
}
_LISTS: Mapping[str, Callable[[str], object]] = {
    "permit": parse_rule,
    "deny": parse_rule,
    "listen": parse_listen,
}

KEYS = frozenset({*_PARSERS, *_LISTS})


FAMILY = ini.Family(WORD, KEYS, "(A client's own forwards stand in [client].)")


def parse_each(sections: ini.Sections, name: str) -> tuple[ClientSection, ...]:
    """The sections [client NAME] of the file `name`. Raises `ConfigError`."""
    clients: list[ClientSection] = []
    for header, entries in sections.items():
        if (called := header.removeprefix(WORD + " ")) == header:
            continue
        section = _parse(called, entries, name)
        for other in clients:
            if other.key == section.key:
                found = f"that of [{WORD} {other.name}]"
                raise entries["key"].error(f"expected each client in one section, found {found}")
        clients.append(section)
    return tuple(clients)


def _parse(called: str, entries: ini.Section, file: str) -> ClientSection:
    where = f"[{WORD} {called}]"
    if len(called) > MAX_NAME:
        text = f"expected a name of 1 to {MAX_NAME} characters, found {shown(called)}"
        raise ini.error(file, entries.line, text)
    if "key" not in entries:
        text = f"expected the client's key in {where}, as key = and 64 hexadecimal digits, found none"
        raise ini.error(file, entries.line, text)
    given: dict[str, Any] = {
        key: entries[key].parse(parse) for key, parse in _PARSERS.items() if key in entries
    }
    given |= {key: entries[key].items(parse) for key, parse in _LISTS.items() if key in entries}
    return ClientSection(name=called, **given)
