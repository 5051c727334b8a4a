"""Where a client may have the server listen: the patterns of `listen` in [client NAME]. Pure.

A pattern is written as a rule of `permit`: `127.0.0.1:8080`, `[::1]:8000-8100`, `10.0.0.0/8:80`,
`*:80/udp`, `*:8080/tcp+udp`, or `unix:/path`. Without a word behind the port it is about TCP.

- An address or a network matches the addresses in it. 0.0.0.0 and `::` are every address of this machine:
  only `*` or that very address matches them.
- `*` matches everything, the `*` of a client included.
- Port 0, any that is free, needs the port `*`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from toxproxy.address import Bind, UnixBind, plain_address, shown
from toxproxy.rules import Rule, SocketPath, Transport, parse_rule

_EVERY_PORT = 65535


def parse_listen(text: str) -> Rule:
    """A pattern. Raises `ValueError`."""
    rule = parse_rule(text)
    if rule.host != "*" and not isinstance(rule.host, IPv4Network | IPv6Network | SocketPath):
        raise ValueError(f"expected an address, a network or * before the port, found {shown(text)}")
    if rule.transport is Transport.OPEN_UDP:
        raise ValueError(f"expected /udp or /tcp+udp, found {shown(text)}")
    return rule


def permitted(patterns: Iterable[Rule], bind: Bind | UnixBind, *, udp: bool) -> Rule | None:
    """The first of the patterns that permits to listen at `bind`, which has no name; None: none does."""
    return next((rule for rule in patterns if _permits(rule, bind, udp)), None)


def _permits(rule: Rule, bind: Bind | UnixBind, udp: bool) -> bool:
    if isinstance(bind, UnixBind):
        return rule.host == SocketPath(bind.path)
    about = rule.transport or Transport.TCP
    if about is not Transport.BOTH and (about is Transport.UDP) != udp:
        return False
    if not (bind.port in rule.ports or (bind.port == 0 and len(rule.ports) == _EVERY_PORT)):
        return False
    if not isinstance(rule.host, IPv4Network | IPv6Network):
        return rule.host == "*"
    if not bind.host:  # every address
        return False
    address = plain_address(bind.host)
    return rule.host == ip_network(address) if address.is_unspecified else address in rule.host
