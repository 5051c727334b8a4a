"""[exits]: names for servers, which may stand wherever a Tox ID may. In order: `home,office`. And [route]."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from toxproxy.address import KEY_BYTES, TOX_ID_BYTES, ToxId, parse_tox_id, shown
from toxproxy.config import ini
from toxproxy.config.settings import Config, NamedExit
from toxproxy.routing.routes import Route, Way, parse_pattern

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_HEX = re.compile(rf"[0-9A-Fa-f]{{{2 * KEY_BYTES}}}|[0-9A-Fa-f]{{{2 * TOX_ID_BYTES}}}")
_RESERVED = frozenset({"direct", "reject", "default", "none", "tox", "unix"})  # words of this file
MOST = 8  # servers that one entry may name

Names = Mapping[str, ToxId]


def parse_each(entries: Mapping[str, ini.Entry]) -> tuple[NamedExit, ...]:
    """The entries of [exits]. Raises `ConfigError`."""
    return tuple(_parse(name, entry) for name, entry in entries.items())


def _parse(name: str, entry: ini.Entry) -> NamedExit:
    if not _NAME.fullmatch(name) or name in _RESERVED or _HEX.fullmatch(name):
        expected = "a name of 1 to 32 letters, digits, `_`, `.` and `-`, and none of the words of this file"
        raise entry.error(f"expected {expected}, found {shown(name)}")
    return NamedExit(name, entry.parse(parse_tox_id), entry.line)


def parse_servers(text: str, names: Names) -> tuple[ToxId, ...]:
    """One Tox ID or name, or several with commas between them, each once. Raises `ValueError`."""
    servers = tuple(_server(part.strip(), names) for part in text.split(","))
    if len(servers) > MOST:
        raise ValueError(f"expected at most {MOST} servers, found {len(servers)}")
    if len({server.public_key for server in servers}) < len(servers):
        raise ValueError("expected each server once, found one twice")
    return servers


def _server(text: str, names: Names) -> ToxId:
    if (server := names.get(text)) is not None:
        return server
    if names and _NAME.fullmatch(text) and not _HEX.fullmatch(text):
        # What was found is not repeated: in a proxy port it may be a password.
        found = f"neither: did you mean {ini.nearest(text, names)!r}?"
        raise ValueError(f"expected a Tox ID or a name of [exits], found {found}")
    return parse_tox_id(text)


def parse_route(name: str, entry: ini.Entry, names: Names) -> Route:
    """A line of [route]. Raises `ConfigError`."""
    try:
        rule = parse_pattern(name)
    except ValueError as error:
        raise entry.error(str(error)) from None
    return Route(name, rule, entry.parse(lambda text: _way(text, names)), entry.line)


def _way(text: str, names: Names) -> Way | tuple[ToxId, ...]:
    return Way(text) if text in (Way.DIRECT.value, Way.REJECT.value) else parse_servers(text, names)


def own_ports(config: Config) -> frozenset[str]:
    """The names of proxy ports that are an exit's own: such a port leads there alone, and has its name.

    [route] does not hold for it.
    """
    own = {(each.name, (each.server,)) for each in config.exits}
    return frozenset(port.name for port in config.proxies if (port.name, port.servers) in own)


def in_words(servers: Sequence[ToxId], exits: Sequence[NamedExit]) -> str:
    """Servers for people: their names, or how their keys begin."""
    names = {each.server.public_key: each.name for each in reversed(exits)}
    return ", ".join(names.get(each.public_key, str(each)[:12]) for each in servers)
