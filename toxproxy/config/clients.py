"""[client NAME] at a server: a section for each client. [client] without a name is a client's own list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from toxproxy.address import parse_key, shown
from toxproxy.config import ini
from toxproxy.config.listen import parse_listen
from toxproxy.config.settings import ClientSection

SECTION = "client *"  # how `ini.read` is told of such sections
KEYS = frozenset({"key", "listen"})

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


def parse_each(sections: ini.Sections) -> tuple[ClientSection, ...]:
    """What the sections say. Raises `ConfigError`, also for a key that two of them have."""
    clients: dict[bytes, ClientSection] = {}
    for name, entries in _named(sections):
        if not entries:
            continue
        where = next(iter(entries.values()))
        if not _NAME.fullmatch(name):
            expected = "a name of 1 to 32 letters, digits, `_`, `.` and `-` in [client NAME]"
            raise where.error(f"expected {expected}, found {shown(name)}")
        if (key := entries.get("key")) is None:
            raise where.error(f"expected key = the client's public key in [client {name}], found none")
        client = _parse(name, entries)
        if (other := clients.setdefault(client.key, client)) is not client:
            raise key.error(f"expected each client once, found the key of [client {other.name}]")
    return tuple(clients.values())


def _named(sections: ini.Sections) -> Iterator[tuple[str, Mapping[str, ini.Entry]]]:
    for section, entries in sections.items():
        kind, space, name = section.partition(" ")
        if kind == "client" and space:
            yield name.strip(), entries


def _parse(name: str, entries: Mapping[str, ini.Entry]) -> ClientSection:
    listen = entries["listen"].items(parse_listen) if "listen" in entries else ()
    return ClientSection(name, entries["key"].parse(parse_key), listen=listen)
