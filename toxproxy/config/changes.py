"""What differs between two configurations, and what of it a running end can take over.

Keys are named as in the file: `[limits] streams`; listeners too: `[client] ssh`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from toxproxy.config.advice import Role
from toxproxy.config.settings import Config, Forward, ProxyPort

Entry = Forward | ProxyPort


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The names of what differs. `restart`: it counts from the next start on."""

    added: tuple[str, ...] = ()  # listeners; at a server, sections [client NAME]
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # listeners and keys
    restart: tuple[str, ...] = ()


def changes(old: Config, new: Config, role: Role) -> Changes:
    """What differs for this role. Keys of the other one do not count."""
    live = [*_keys(old, new, "limits"), *(_server_keys(old, new) if role == "server" else ())]
    restart = list(_keys(old, new, "tox", ports="port"))
    restart += ["[web]"] if _page(old) != _page(new) else []
    if role == "server":
        restart += ["[server] name"] if old.server_name != new.server_name else []
        was, are = ({f"[client {each.name}]": each for each in config.clients} for config in (old, new))
        live += [f"{name} {key}" for name in are if name in was for key in _different(was[name], are[name])]
        return Changes(
            added=tuple(name for name in are if name not in was),
            removed=tuple(name for name in was if name not in are),
            changed=tuple(live),
            restart=tuple(restart),
        )
    live += [f"[{section}]" for section in ("exits", "route") if _said(old, section) != _said(new, section)]
    restart += _asked_otherwise(old, new)
    before, after = ({_called(each): each for each in config.listeners} for config in (old, new))
    both = [name for name in after if name in before]
    live += [name for name in both if not same(before[name], after[name])]
    uncompressed = old.uncompressed ^ new.uncompressed
    live += [f"[compress] {after[name].name}" for name in both if after[name].name in uncompressed]
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(live),
        restart=tuple(restart),
    )


def same(old: Entry, new: Entry) -> bool:
    """Whether two entries say the same, on whatever line."""
    return replace(old, line=0) == replace(new, line=0)


def _called(entry: Entry) -> str:
    if isinstance(entry, Forward):
        return f"[client] {entry.name}{'/udp' if entry.udp else ''}"
    return f"[socks] {entry.name}"


def _said(config: Config, section: str) -> list[object]:
    """The lines of a section, wherever they stand."""
    lines = config.exits if section == "exits" else config.routes.lines
    return [replace(each, line=0) for each in lines]


def _page(config: Config) -> object:
    """What [web] says, on whatever line."""
    return None if config.web is None else replace(config.web, line=0)


def _server_keys(old: Config, new: Config) -> Iterator[str]:
    yield from _keys(old, new, "access", anyone="allow")
    yield from _keys(old, new, "exit")
    yield from _keys(old, new, "log")


def _keys(old: Config, new: Config, section: str, **spelled: str) -> Iterator[str]:
    """The keys of a section whose values differ; `spelled` are those that settings call otherwise."""
    names = [spelled.get(each, each) for each in _different(getattr(old, section), getattr(new, section))]
    yield from (f"[{section}] {name}" for name in dict.fromkeys(names))


def _different(old: Any, new: Any) -> Iterator[str]:
    for each in fields(old):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if each.name == "patience":
            yield from _different(before, after)
        elif before != after:
            yield each.name


def _asked_otherwise(old: Config, new: Config) -> Iterator[str]:
    """The secrets of friend requests that were sent already."""
    asked = {server.public_key for server in old.servers}
    for server in new.servers:
        if server.public_key in asked and old.secret_for(server) != new.secret_for(server):
            yield f"[secrets] {str(server)[:12]}" if new.secrets else "[access] secret"
