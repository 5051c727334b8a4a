"""[client NAME]: what each client may at a server. Not [client], which are a client's own forwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toxproxy.address import parse_key, shown
from toxproxy.config import ini
from toxproxy.config.listen import parse_listen
from toxproxy.config.settings import ClientSection

WORD = "client"
MAX_NAME = 64  # characters

# What one value makes; `listen` is a list.
_PARSERS: Mapping[str, Callable[[str], object]] = {"key": parse_key}
_LISTS: Mapping[str, Callable[[str], object]] = {"listen": parse_listen}

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
