"""The configuration file, parsed once into frozen settings.

All names, addresses, keys and numbers in the settings have been checked. A mistake is one `ConfigError`
that names the file, the line, what was expected and what was found. One file may hold the settings of
both roles. Errors never repeat a secret or a password.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeVar

from toxproxy.address import (
    Bind,
    OpenUdpTarget,
    Target,
    UdpTarget,
    UnixBind,
    is_unix,
    join_unix,
    parse_bind_host,
    parse_host,
    parse_key,
    parse_port,
    parse_port_range,
    parse_proxy_url,
    parse_public_key,
    parse_unix_bind,
    parse_unix_target,
    shown,
    split_fields,
    split_listener,
)
from toxproxy.config import clients, exits, ini, reverse, scalars, secret
from toxproxy.config.settings import (
    GIB,
    MIB,
    AccessSettings,
    AuditFormat,
    BootstrapNode,
    Config,
    ExitSettings,
    Forward,
    LimitSettings,
    LogSettings,
    ProxyPort,
    ToxSettings,
    TransportProxy,
    WebSettings,
)
from toxproxy.errors import ConfigError
from toxproxy.patience import Patience
from toxproxy.routing.routes import Routes
from toxproxy.rules import parse_rule
from toxproxy.system.files import is_open

T = TypeVar("T")
D = TypeVar("D")

MAX_FILE_BYTES = 1 << 20
MAX_NICKNAME_BYTES = 128  # TOX_MAX_NAME_LENGTH
MAX_LOGIN_BYTES = 255  # RFC 1929: a user name or password of SOCKS5

_MAX_PATH = 4095  # bytes (PATH_MAX of Linux)
_WEEK = 7 * 24 * 3600  # seconds


def load(path: str | Path) -> Config:
    """The configuration in a file of UTF-8 text, at most 1 MiB. Raises `ConfigError`."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
            found = os.fstat(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, found: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found more")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{raw[error.start]:02X}"
        raise ini.error(str(path), line, f"expected UTF-8 text, found {byte}") from None
    others = stat.S_ISREG(found.st_mode) and is_open(found)
    return replace(parse(text, str(path)), open_file=str(path) if others else None)


def parse(text: str, name: str) -> Config:
    """The configuration in `text`, which errors call `name`. Raises `ConfigError`."""
    sections = ini.read(text, name, _KNOWN, clients.FAMILY)
    listeners = [*sections["client"], *sections["socks"], *(sections["reverse"].keys() - {reverse.PERMIT})]
    forwards, proxies = sections["client"].items(), sections["socks"].items()
    named = exits.parse_each(sections["exits"])
    names = {each.name: each.server for each in named}
    nickname = partial(scalars.parse_text, what="a nickname", limit=MAX_NICKNAME_BYTES)
    config = Config(
        server_name=_get(sections["server"], "name", nickname, None),
        forwards=tuple(each for key, entry in forwards for each in _client(key, entry, names)),
        proxies=tuple(_parse_login(entry, partial(_proxy, key, entry.line, names)) for key, entry in proxies),
        reverse=reverse.parse_each(sections["reverse"], partial(_reversed, names)),
        clients=clients.parse_each(sections, name),
        exits=named,
        routes=Routes(
            tuple(exits.parse_route(key, entry, names) for key, entry in sections["route"].items())
        ),
        uncompressed=_uncompressed(sections["compress"], listeners),
        access=_access(sections["access"]),
        exit=_exit(sections["exit"]),
        tox=_tox(sections["tox"]),
        limits=_limits(sections["limits"]),
        log=LogSettings(**_given(sections["log"], _LOG_PARSERS)),
        web=_web(sections["web"]),
    )
    _check_binds(config, name)
    return replace(config, secrets=secret.parse_each(sections["secrets"], config.servers, names))


def _get(entries: dict[str, ini.Entry], key: str, parser: Callable[[str], T], default: D) -> T | D:
    return entries[key].parse(parser) if key in entries else default


def _parse_login(entry: ini.Entry, parser: Callable[[str], T]) -> T:
    """Parse a value that may hold a password.

    If that fails and a comment seems to have cut the password, the error says so and repeats nothing.
    """
    try:
        return entry.parse(parser)
    except ConfigError:
        entry.whole("a password", cut="@" in entry.comment)
        raise


def _given(entries: dict[str, ini.Entry], parsers: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    """The values of the keys that are in the file. The settings know the defaults of the others."""
    return {key: entries[key].parse(parser) for key, parser in parsers.items() if key in entries}


def _items(entries: dict[str, ini.Entry], key: str, parser: Callable[[str], T]) -> tuple[T, ...]:
    return entries[key].items(parser) if key in entries else ()


def _uncompressed(entries: dict[str, ini.Entry], listeners: list[str]) -> frozenset[str]:
    known = (*listeners, "default")
    for name, entry in entries.items():
        if name not in known:
            found = f"{shown(name)}: did you mean {ini.nearest(name, known)!r}?"
            raise entry.error(f"expected the name of a forward or proxy, or default, found {found}")
    default = _get(entries, "default", scalars.parse_boolean, True)
    return frozenset(name for name in listeners if not _get(entries, name, scalars.parse_boolean, default))


def _access(entries: dict[str, ini.Entry]) -> AccessSettings:
    clients = _items(entries, "allow", lambda text: None if text == "*" else parse_key(text))
    return AccessSettings(
        allow=frozenset(key for key in clients if key is not None),
        anyone=None in clients,
        secret=secret.parse(entries["secret"]) if "secret" in entries else None,
        permit=_items(entries, "permit", parse_rule) or None,
        deny=_items(entries, "deny", parse_rule),
    )


def _exit(entries: dict[str, ini.Entry]) -> ExitSettings:
    given = _given(entries, _EXIT_PARSERS)
    if "upstream" in entries:
        given["upstream"] = _parse_login(entries["upstream"], _upstream)
    return ExitSettings(**given)


def _tox(entries: dict[str, ini.Entry]) -> ToxSettings:
    given = _given(entries, _TOX_PARSERS)
    if "port" in given:
        given["ports"] = given.pop("port")
    if "bootstrap" in entries:
        given["bootstrap"] = _bootstrap(entries["bootstrap"])
    if "relays" in entries:
        given["relays"] = entries["relays"].items(partial(_node, expected=_RELAY))
    if "proxy" in given and given.setdefault("udp", False):
        raise entries["udp"].error("expected no beside a proxy, which carries TCP only, found yes")
    if given.get("port_mapping") and not given.get("udp", True):
        raise entries["port_mapping"].error("expected no without UDP, found yes")
    return ToxSettings(**given)


def _limits(entries: dict[str, ini.Entry]) -> LimitSettings:
    given = _given(entries, _LIMIT_PARSERS)
    patience = Patience(
        **{key: given.pop(key) for key in ("idle", "half_closed", "udp_idle") if key in given}
    )
    return LimitSettings(**given, patience=patience)


def _web(entries: dict[str, ini.Entry]) -> WebSettings | None:
    password = secret.parse(entries["secret"]) if "secret" in entries else None
    if (entry := entries.get("listen")) is None:
        if "secret" in entries:
            raise entries["secret"].error("expected listen beside the secret, as 127.0.0.1:9090, found none")
        return None
    bind = entry.parse(_web_bind)
    if password is None and not bind.is_loopback:
        raise entry.error(
            f"expected a secret in [web], since others than this machine reach {bind}, found none: "
            f"add a line secret = …, or write listen = 127.0.0.1:{bind.port}"
        )
    return WebSettings(bind, password, entry.line, f"{entry.file}:{entry.line}")


def _web_bind(text: str) -> Bind:
    fields = split_fields(text)
    if len(fields) not in (1, 2):
        raise ValueError(f"expected [localip:]localport, as 127.0.0.1:9090, found {shown(text)}")
    return _bind(fields)


def _client(name: str, entry: ini.Entry, names: exits.Names) -> tuple[Forward, ...]:
    try:
        return entry.parse(partial(_forwards, name, entry.line, names))
    except ConfigError as error:
        if name not in clients.KEYS:
            raise
        text = f"{error}; what a client may at a server stands in a section [client NAME]"
        raise ConfigError(text) from None


def _forwards(name: str, line: int, names: exits.Names, text: str) -> tuple[Forward, ...]:
    """One forward, or of `/tcp+udp` one of each."""
    fields = join_unix(split_listener(text))
    if fields[0].lower() == "tcp" and len(fields) > 4:  # as the toxtun of 2018 writes it
        del fields[0]
    targets: list[Target]
    if len(fields) > 1 and is_unix(fields[-2]):
        *bind, target, last = fields
        targets = [parse_unix_target(target)]
    elif len(fields) in ((4,) if is_unix(fields[0]) else (4, 5)):
        *bind, host, port, last = fields
        targets = _targets(host, port)
    else:
        expected = "[localip:]localport:remotehost:remoteport[/udp]:toxid (an IPv6 address in brackets)"
        raise ValueError(f"expected {expected}, found {len(fields)} fields")
    where = _local(bind)
    if isinstance(where, UnixBind) and any(isinstance(each, UdpTarget) for each in targets):
        raise ValueError("expected a local port for /udp, found a Unix socket")
    server, *others = exits.parse_servers(last, names)
    return tuple(Forward(name, where, each, server, line, tuple(others)) for each in targets)


def _targets(host: str, port: str) -> list[Target]:
    port, slash, word = port.partition("/")
    kinds = _TARGETS.get(word.lower()) if slash else (Target,)
    if kinds is None:
        raise ValueError(
            f"expected /udp, /tcp, /tcp+udp or /udp+any after the remote port, found {shown(word)}"
        )
    return [kind(parse_host(host), parse_port(port)) for kind in kinds]


_TARGETS: Mapping[str, tuple[type[Target], ...]] = {
    "tcp": (Target,),
    "udp": (UdpTarget,),
    "tcp+udp": (Target, UdpTarget),
    "udp+any": (OpenUdpTarget,),
}


def _proxy(name: str, line: int, names: exits.Names, text: str) -> ProxyPort:
    """A proxy port. Errors repeat no field: if `:` was typed for `@`, any of them may be the password."""
    login, at, address = text.rpartition("@")
    username, colon, password = login.partition(":")
    if at and not colon:
        raise ValueError("expected user:password before the @, found no colon")
    expected = "[user:password@][localip:]localport:toxid (an IPv6 address in brackets)"
    fields = join_unix(scalars.quietly(split_listener, address, expected))
    if len(fields) not in ((2,) if is_unix(fields[0]) else (2, 3)):
        raise ValueError(f"expected {expected}, found {len(fields)} fields")
    *bind, last = fields
    where = scalars.quietly(_local, bind, f"{expected}, with a port from 0 to 65535")
    server, *others = exits.parse_servers(last, names)
    if not at:
        return ProxyPort(name, where, server, None, None, line, tuple(others))
    username = scalars.parse_text(username, "a user name", MAX_LOGIN_BYTES)
    password = scalars.parse_text(password, "a password", MAX_LOGIN_BYTES)
    return ProxyPort(name, where, server, username, password, line, tuple(others))


def _reversed(names: exits.Names, name: str, entry: ini.Entry) -> tuple[Forward | ProxyPort, ...]:
    """A line of [reverse]."""

    def parsed(text: str) -> tuple[Forward | ProxyPort, ...]:
        if text.lower().startswith(reverse.PROXY):
            return (_proxy(name, entry.line, names, text[len(reverse.PROXY) :]),)
        return _forwards(name, entry.line, names, text)

    return _parse_login(entry, parsed)


def _local(fields: list[str]) -> Bind | UnixBind:
    """Where a forward or a proxy port listens."""
    if len(fields) == 1 and is_unix(fields[0]):
        return parse_unix_bind(fields[0])
    if len(fields) not in (1, 2):
        raise ValueError(f"expected [localip:]localport or unix:/path, found {len(fields)} fields")
    return _bind(fields)


def _bind(fields: list[str]) -> Bind:
    *host, port = fields
    return Bind(parse_bind_host(host[0]) if host else "127.0.0.1", parse_port(port, lowest=0))


_RELAY = "host:port:key (an IPv6 address in brackets)"


def _bootstrap(entry: ini.Entry) -> tuple[BootstrapNode, ...]:
    nodes = entry.items(_bootstrap_node)
    if None in nodes and len(nodes) > 1:
        raise entry.error("expected nodes or none, found both")
    return tuple(node for node in nodes if node is not None)


def _bootstrap_node(text: str) -> BootstrapNode | None:
    return None if text == "none" else _node(text, expected=f"{_RELAY} or none")


def _node(text: str, *, expected: str) -> BootstrapNode:
    fields = split_fields(text)
    if len(fields) != 3:
        raise ValueError(f"expected {expected}, found {shown(text)}")
    return BootstrapNode(parse_host(fields[0]), parse_port(fields[1]), parse_public_key(fields[2]))


def _upstream(text: str) -> str:
    parse_proxy_url(text, "socks5", "socks4", "http", "socks5h", "socks4a")
    return text


def _transport_proxy(text: str) -> TransportProxy:
    url = parse_proxy_url(text, "socks5", "http", "socks5h")
    if url.username is not None:
        raise ValueError("expected a proxy without user and password, which Tox cannot send, found some")
    kind: Literal["socks5", "http"] = "http" if url.scheme == "http" else "socks5"
    return TransportProxy(kind, parse_host(url.hostname or ""), url.port or 0)


def _audit_format(text: str) -> AuditFormat:
    try:
        return AuditFormat(text.lower())
    except ValueError:
        raise ValueError(f"expected text or json, found {shown(text)}") from None


def _check_binds(config: Config, file: str) -> None:
    """Raise `ConfigError` for two listeners on one local address."""
    by_place: dict[tuple[int | str, bool], list[Forward | ProxyPort | WebSettings]] = {}
    page = (config.web,) if config.web is not None else ()
    for listener in sorted((*config.listeners, *page), key=attrgetter("line")):
        bind = listener.bind
        udp = isinstance(listener, Forward) and listener.udp
        others = by_place.setdefault((bind.port if isinstance(bind, Bind) else bind.path, udp), [])
        if isinstance(bind, Bind) and bind.port == 0:
            continue  # each gets a free port of its own
        for other in others:
            if listener.bind.clashes(other.bind):
                found = f"{listener.bind} beside {other.bind} on line {other.line}"
                raise ini.error(file, listener.line, f"expected a local address of its own, found {found}")
        others.append(listener)


_EXIT_PARSERS: Mapping[str, Callable[[str], object]] = {
    "connect_timeout": partial(scalars.parse_seconds, lowest=0.1),
}

_TOX_PARSERS: Mapping[str, Callable[[str], object]] = {
    "proxy": _transport_proxy,
    "udp": scalars.parse_boolean,
    "port": parse_port_range,
    "tcp_relay": partial(parse_port, lowest=0),
    "local_discovery": scalars.parse_boolean,
    "port_mapping": scalars.parse_boolean,
    "wait": partial(scalars.parse_seconds, lowest=0),
    "grace": partial(scalars.parse_seconds, lowest=0, highest=_WEEK),
}

_LIMIT_PARSERS: Mapping[str, Callable[[str], object]] = {
    "streams": partial(scalars.parse_count, lowest=1, highest=1_000_000),
    "flows": partial(scalars.parse_count, lowest=1, highest=65_536),
    "dials": partial(scalars.parse_count, lowest=1, highest=65_536),
    "connections": partial(scalars.parse_count, lowest=1, highest=1_000_000),
    "handshake": partial(scalars.parse_seconds, lowest=1),
    "memory": partial(scalars.parse_size, lowest=MIB, highest=64 * GIB),
    "stream_memory": partial(scalars.parse_size, lowest=64 * 1024, highest=GIB),
    "process_memory": partial(scalars.parse_size, lowest=MIB, highest=64 * GIB),
    "friend_requests": partial(scalars.parse_count, lowest=0, highest=10_000),
    "idle": partial(scalars.parse_seconds, lowest=0, highest=_WEEK),
    "udp_idle": partial(scalars.parse_seconds, lowest=1, highest=_WEEK),
    "half_closed": partial(scalars.parse_seconds, lowest=0, highest=_WEEK),
}

_LOG_PARSERS: Mapping[str, Callable[[str], object]] = {
    "audit": partial(scalars.parse_text, what="log or a file", limit=_MAX_PATH),
    "audit_format": _audit_format,
    "audit_size": partial(scalars.parse_size, lowest=0, highest=64 * GIB),
}

# The keys of each section; None: any.
_KNOWN: Mapping[str, frozenset[str] | None] = {
    "server": frozenset({"name"}),
    "client": None,
    "socks": None,
    "reverse": None,
    "exits": None,
    "route": None,
    "compress": None,
    "secrets": None,
    "access": frozenset({"allow", "secret", "permit", "deny"}),
    "exit": frozenset({"upstream", *_EXIT_PARSERS}),
    "tox": frozenset({"bootstrap", "relays", *_TOX_PARSERS}),
    "limits": frozenset(_LIMIT_PARSERS),
    "log": frozenset(_LOG_PARSERS),
    "web": frozenset({"listen", "secret"}),
}
