"""Starts libtoxcore from settings: its options, its errors in words, and its UDP socket."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

from toxproxy.address import join_host_port
from toxproxy.config.settings import ToxSettings
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.system.descriptors import NUMBERS
from toxproxy.system.resolver import Resolver
from toxproxy.system.state import StateFolder
from toxproxy.tox.bootstrap import resolve
from toxproxy.tox.known_nodes import kept_port
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions

_PROXY_TYPES = {"http": Tox.PROXY_TYPE_HTTP, "socks5": Tox.PROXY_TYPE_SOCKS5}
_TRIES = 8  # random ports that are tried before libtoxcore searches by itself


async def tox_options(settings: ToxSettings, resolver: Resolver, state: StateFolder) -> ToxOptions:
    """The options of libtoxcore for `[tox]`. Raises `ToxproxyError` if the proxy's name is not found."""
    options = ToxOptions(
        ipv6_enabled=not settings.on_loopback and _has_ipv6(),
        udp_enabled=settings.udp and settings.proxy is None,
        local_discovery_enabled=settings.local_discovery,
        start_port=_first_port(*settings.ports, kept_port(state)),
        end_port=settings.ports[1],
        tcp_port=settings.tcp_relay,
    )
    if (proxy := settings.proxy) is not None:
        family = socket.AF_UNSPEC if options.ipv6_enabled else socket.AF_INET
        try:
            addresses = await resolve(resolver, proxy.host, family)
        except OSError as error:
            where = join_host_port(proxy.host, proxy.port)
            raise ToxproxyError(f"the proxy {where} for Tox is not found: {error.strerror}") from None
        options.proxy_type = _PROXY_TYPES[proxy.kind]
        options.proxy_host, options.proxy_port = addresses[0], proxy.port
    return options


def explained(error: ToxError, options: ToxOptions, file: object) -> ToxproxyError:
    """The error of `tox_new` in words; `file` is where the identity was read from."""
    match error.code:
        case "TOX_ERR_NEW_PORT_ALLOC":
            busy = []
            if options.udp_enabled:
                busy.append(f"no UDP port from {options.start_port} to {options.end_port} is free")
            if options.tcp_port:
                busy.append(f"TCP port {options.tcp_port} cannot be bound for the relay")
            return ToxproxyError(f"Tox does not start: {' or '.join(busy)}")
        case "TOX_ERR_NEW_LOAD_ENCRYPTED":
            return StateError(f"{file} is encrypted: save it without a password")
        case "TOX_ERR_NEW_LOAD_BAD_FORMAT":
            return damaged(file)
    return ToxproxyError(f"Tox does not start: {error}")


def damaged(file: object) -> StateError:
    """The error for an identity that is not valid."""
    return StateError(f"{file} is damaged: restore a backup, or move it away to start with a new Tox ID")


def find_udp_socket(port: int) -> int | None:
    """The descriptor of this process's UDP socket that is bound to `port` on all addresses, or None.

    libtoxcore does not return it. A search of the open descriptors works on every system.
    """
    for descriptor in NUMBERS:
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError:
            continue
        try:
            if sock.type == socket.SOCK_DGRAM and sock.getsockname()[:2] in (("0.0.0.0", port), ("::", port)):
                return descriptor
        finally:
            sock.detach()
    return None


def _first_port(first: int, last: int, kept: int | None) -> int:
    """The port where libtoxcore begins to search for a free one: that of the last run, or a random one.

    With the same port NATs and firewalls still let in the friends that were there, and friends that
    were started again at the same moment find each other (see `recall`). Friends of which nothing is known
    are better found at another one: libtoxcore 0.2.18 keeps no new DHT key for an address of a local
    network for minutes (`client_or_ip_port_in_list` in DHT.c).
    """
    tries = [random.randint(first, last) for _ in range(_TRIES)]
    for port in [kept, *tries] if kept is not None and first <= kept <= last else tries:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.bind(("", port))
            return port
    return first


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True
