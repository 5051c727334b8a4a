"""Where the server's side may connect: `permit` and `deny`, judged without touching the network.

A rule is `host:port`. The host is an address, a network, a name, a name with `*` for any
run of characters (`*.example.org` is every name below example.org, not example.org itself),
or `*` for every host. The port is a number, a range or `*`.

Names are compared with names and addresses with addresses: `10.*` is no rule, and no name
rule ever matches a literal address. An address that reaches another one is judged as that:

- an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) is its IPv4 address and nothing else;
- `64:ff9b::/96` (NAT64, RFC 6052) is judged as written and as the IPv4 address in it;
- `0.0.0.0` and `::` are judged as written and as loopback, where a connection to them ends up.

6to4 and Teredo addresses stay what they are: they lead to IPv6 hosts, not to the IPv4
address they carry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from toxproxy.address import Target, parse_host, parse_port_range, shown

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Rule:
    """Some hosts and some ports. Made by `parse_rule`.

    `host` is a network (an address is one of itself alone) or a pattern for names in lower
    case, of which "*" alone also matches every address.
    """

    host: IPv4Network | IPv6Network | str
    ports: range

    def matches(self, name: str | None, addresses: tuple[IPv4Address | IPv6Address, ...], port: int) -> bool:
        """Whether the name (lower case, without a trailing dot) or one of the addresses is meant."""
        if port not in self.ports:
            return False
        if not isinstance(self.host, str):
            return any(address in self.host for address in addresses)
        return self.host == "*" or (name is not None and fnmatchcase(name, self.host))


@dataclass(frozen=True, slots=True)
class Rules:
    """All of `permit` and `deny`. With neither, everything is allowed."""

    permit: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    @property
    def needs_addresses(self) -> bool:
        """Whether a rule names an address or a network: a name must then be resolved to be judged."""
        return any(not isinstance(rule.host, str) for rule in self.permit + self.deny)

    def allows(self, target: Target, address: IPv4Address | IPv6Address | None) -> bool:
        """Whether a connection to `target` may be made by dialling `address`.

        `address` is None where the name is not resolved here; no rule for addresses then
        matches, so a caller resolves first where `needs_addresses` says so. Every address of
        a name is judged by itself.
        """
        literal = _literal(target.host)
        name = target.host.removesuffix(".").lower() if literal is None else None
        addresses = tuple(face for each in (literal, address) if each is not None for face in _faces(each))
        if any(rule.matches(name, addresses, target.port) for rule in self.deny):
            return False
        return not self.permit or any(rule.matches(name, addresses, target.port) for rule in self.permit)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _faces(address: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """What `address` is judged as; see the module's docstring."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _faces(address.ipv4_mapped)
        if address in _NAT64:
            return address, *_faces(IPv4Address(address.packed[12:]))
        return (address, IPv6Address("::1")) if address.is_unspecified else (address,)
    return (address, IPv4Address("127.0.0.1")) if address.is_unspecified else (address,)


def parse_rule(text: str) -> Rule:
    """A rule as the module's docstring describes it. Raises `ValueError`."""
    host, colon, ports = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"expected host:port (IPv6 in brackets, * for any port), found {shown(text)}")
    first, last = (1, 65535) if ports == "*" else parse_port_range(ports)
    return Rule(_parse_hosts(host[1:-1] if bracketed else host, bracketed), range(first, last + 1))


def _parse_hosts(text: str, bracketed: bool) -> IPv4Network | IPv6Network | str:
    if bracketed or "/" in text or _literal(text) is not None:
        return _parse_network(text, bracketed)
    if text == "*":
        return text
    if "*" not in text:
        return parse_host(text).removesuffix(".").lower()
    if re.fullmatch(r"(?=[.*]*[0-9])[0-9.*]+", text):
        raise ValueError(f"expected a network such as 10.0.0.0/8, found {shown(text)}")
    if not text.isascii():
        raise ValueError(f"expected a name with * in its ASCII form (xn--…), found {shown(text)}")
    try:
        parse_host(text.replace("*", "x"))
    except ValueError:
        raise ValueError(f"expected a name such as *.example.org, found {shown(text)}") from None
    return text.removesuffix(".").lower()


def _parse_network(text: str, bracketed: bool) -> IPv4Network | IPv6Network:
    if "%" in text:
        raise ValueError(f"expected an address without a zone, found {shown(text)}")
    kind = IPv6Network if bracketed else IPv4Network
    try:
        network = kind(text, strict=False)
    except ValueError:
        expected = "an IPv6 network in brackets" if bracketed else "an IPv4 network such as 10.0.0.0/8"
        raise ValueError(f"expected {expected}, found {shown(text)}") from None
    if ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"expected the network's own address, {network}, found {shown(text)}")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
    return network
