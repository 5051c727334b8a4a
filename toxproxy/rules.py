"""The rules of `permit` and `deny`: where a server may connect. Pure: no look-up, no connection.

A rule is `host:port`, or `host:port/udp` for datagrams, or `host:port/tcp+udp` for both. Without such a word
`permit` means TCP, and `deny` means both: what is closed for one is not left open for the other. `/udp+any`
also permits datagrams whose answers may come from anywhere, which a client has to ask for. No other word
does, and `/udp` denies both kinds. The port is a number, a range or `*`. The host is one of these:

- an address or a network;
- a name. `*` in it is any run of characters: `*.example.org` is every name below example.org, but not
  example.org itself;
- a word for a set of addresses, as below. For a host with such a name, write a dot at its end (`self.`);
- `*`, every host.

A rule `unix:/path` is about a Unix socket at the server. No other rule is, `*:*` included.

The words:

- `loopback`: 127.0.0.0/8 and ::1.
- `self`: this machine: `loopback`, and every address of its interfaces.
- `private`: the networks that the internet does not route (see `NETWORKS`), and the /64 around each
  global IPv6 address of this machine. Loopback and link-local are not among them.
- `linklocal`: 169.254.0.0/16 and fe80::/10, where cloud metadata services are. These addresses need a
  permit rule of their own: this word, or a network or an address within it. `*` is not enough.

`self` and `private` change with the machine's addresses. The caller passes those as a `Machine`.

Names are compared with names only, and addresses with addresses only: `10.*` is no rule, and a rule for
a name never matches a literal address. Some addresses lead to another one and are judged as that too:

- An IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) is judged as its IPv4 address alone.
- An address of `64:ff9b::/96` (NAT64, RFC 6052) is judged as itself and as the IPv4 address in it.
- `0.0.0.0` and `::` are judged as themselves and as loopback, where a connection to them goes.

6to4 and Teredo addresses are judged as IPv6 only: they lead to IPv6 hosts. Multicast and broadcast
addresses need no rule: the system makes no TCP connection to them. Datagrams never go to multicast
addresses, whatever the rules say, and the system sends none to broadcast addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from toxproxy.address import (
    UNIX,
    UNIX_PORT,
    Address,
    OpenUdpTarget,
    Target,
    UdpTarget,
    is_unix,
    parse_host,
    parse_port_range,
    parse_unix_path,
    shown,
)

Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")


class HostSet(Enum):
    """A word for a set of addresses; see the module's docstring."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "linklocal"
    SELF = "self"


def _networks(*texts: str) -> Networks:
    return tuple(map(ip_network, texts))


#: The part of each set that is the same on every machine (IANA's special-purpose registries).
NETWORKS: Mapping[HostSet, Networks] = {
    HostSet.LOOPBACK: _networks("127.0.0.0/8", "::1"),
    HostSet.PRIVATE: _networks(
        "10.0.0.0/8",  # private use (RFC 1918)
        "100.64.0.0/10",  # behind a provider's NAT (RFC 6598), and in VPNs
        "172.16.0.0/12",  # private use (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890); a cloud's metadata service is here
        "192.168.0.0/16",  # private use (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544), and in VPNs
        "240.0.0.0/4",  # reserved (RFC 1112), but used in some large networks
        "64:ff9b:1::/48",  # a network's own NAT64 (RFC 8215)
        "fc00::/7",  # unique local (RFC 4193)
        "fec0::/10",  # site-local (RFC 3879)
    ),
    HostSet.LINK_LOCAL: _networks("169.254.0.0/16", "fe80::/10"),
    HostSet.SELF: _networks("127.0.0.0/8", "::1"),
}


_OF_THE_MACHINE = frozenset({HostSet.PRIVATE, HostSet.SELF})
_WORDS = frozenset(word.value for word in HostSet)


@dataclass(frozen=True, slots=True)
class Machine:
    """The addresses of the machine that connects, and the networks around them that count as private."""

    addresses: frozenset[Address] = frozenset()
    networks: Networks = ()


class Verdict(Enum):
    """What the rules say about a name before its addresses are known."""

    PERMITTED = "whatever its addresses are"
    UNLESS_DENIED = "but none of the addresses that `deny` names"
    IF_PERMITTED = "only at the addresses that `permit` names"
    DENIED = "whatever its addresses are, denied"


class Transport(Enum):
    """What a rule is about, if it says so."""

    TCP = "tcp"
    UDP = "udp"
    BOTH = "tcp+udp"
    OPEN_UDP = "udp+any"


_TRANSPORTS = frozenset(each.value for each in Transport)


@dataclass(frozen=True, slots=True)
class SocketPath:
    """The path of a Unix socket, as a rule names it."""

    path: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Some hosts and some ports. Made by `parse_rule`.

    `host` is a network, a set, or a pattern for names in lower case. A single address is a network of
    one. The pattern "*" matches every address too.
    """

    host: Network | HostSet | SocketPath | str
    ports: range
    transport: Transport | None = None  # TCP in `permit`, both in `deny`

    def __str__(self) -> str:
        """As in a file: `parse_rule` makes the same rule of it."""
        if isinstance(self.host, SocketPath):
            return UNIX + self.host.path
        host = str(self.host)
        if isinstance(self.host, HostSet):
            host = self.host.value
        elif isinstance(self.host, IPv4Network | IPv6Network):
            whole = self.host.prefixlen == self.host.max_prefixlen
            host = str(self.host.network_address if whole else self.host)
            host = f"[{host}]" if ":" in host else host
        elif host in _WORDS:
            host += "."
        first, last = self.ports[0], self.ports[-1]
        ports = str(first) if first == last else f"{first}-{last}"
        word = f"/{self.transport.value}" if self.transport is not None else ""
        return f"{host}:{'*' if (first, last) == (1, 65535) else ports}{word}"

    def is_about(self, target: Target, default: Transport) -> bool:
        """Whether this rule is about targets of this transport; `default` is for one that does not say."""
        said = self.transport or default
        if not isinstance(target, UdpTarget):
            return said in (Transport.TCP, Transport.BOTH)
        denies, any_answer = default is Transport.BOTH, isinstance(target, OpenUdpTarget)
        if said is Transport.OPEN_UDP:
            return any_answer or not denies
        return said is not Transport.TCP and (denies or not any_answer)

    @property
    def about_addresses(self) -> bool:
        """Whether a name must be looked up before this rule can match it."""
        return not isinstance(self.host, str | SocketPath)

    def matches_name(self, name: str | None, port: int) -> bool:
        """Whether this rule matches the name (lower case, no trailing dot). None: only `*` matches."""
        return (
            isinstance(self.host, str)
            and port in self.ports
            and (self.host == "*" or (name is not None and fnmatchcase(name, self.host)))
        )

    def matches_address(self, faces: tuple[Address, ...], port: int, machine: Machine | None) -> bool:
        """Whether this rule matches one of the addresses. Raises `ValueError` if it needs a `machine`."""
        if port not in self.ports or isinstance(self.host, str | SocketPath):
            return False
        if not isinstance(self.host, HostSet):
            return _within(faces, (self.host,))
        if self.host in _OF_THE_MACHINE:
            if machine is None:
                raise ValueError(f"rules about {self.host.value} need this machine's addresses")
            if self.host is HostSet.PRIVATE and _within(faces, machine.networks):
                return True
            if self.host is HostSet.SELF and not machine.addresses.isdisjoint(faces):
                return True
        return _within(faces, NETWORKS[self.host])

    def matches(self, target: Target) -> bool:
        """Whether this rule matches a target, by what is known on every machine and without a look-up."""
        if (literal := _literal(target.host)) is not None:
            faces = _faces(literal)
            return self.matches_name(None, target.port) or self.matches_address(faces, target.port, Machine())
        return self.matches_name(target.host.removesuffix(".").lower(), target.port)

    @property
    def names_link_local(self) -> bool:
        """Whether this rule is only about link-local addresses."""
        if isinstance(self.host, HostSet):
            return self.host is HostSet.LINK_LOCAL
        return not isinstance(self.host, str | SocketPath) and any(
            self.host.network_address in network and self.host.prefixlen >= network.prefixlen
            for network in NETWORKS[HostSet.LINK_LOCAL]
        )


class Decision(NamedTuple):
    """What the rules say about one address. `rule` is the one that decided; None: none permits it."""

    permitted: bool
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of `permit` and `deny`. `deny` wins, and what no `permit` matches is denied too.

    `place`: where in the file a `permit` is missing, for people.
    """

    permit: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    place: str = field(default="[access] permit", compare=False)

    @property
    def need_machine(self) -> bool:
        """Whether a rule depends on this machine's addresses, which `allows` then needs."""
        return any(rule.host in _OF_THE_MACHINE for rule in self.permit + self.deny)

    @property
    def permit_everything(self) -> bool:
        """Whether everything but link-local addresses is permitted."""
        return not self.deny and any(
            rule.host == "*"
            and len(rule.ports) == 65535
            and rule.transport in (None, Transport.TCP, Transport.BOTH)
            for rule in self.permit
        )

    @property
    def forget_loopback(self) -> bool:
        """Whether `deny` names the private networks, but a permitted name may still lead to loopback."""
        hosts = {rule.host for rule in self.deny}
        return (
            HostSet.PRIVATE in hosts
            and hosts.isdisjoint({HostSet.SELF, HostSet.LOOPBACK, *NETWORKS[HostSet.LOOPBACK]})
            and any(isinstance(rule.host, str) for rule in self.permit)
        )

    def judge_name(self, target: Target) -> Verdict:
        """The verdict on a `target` that is a name, before it is looked up."""
        name, port = target.host.removesuffix(".").lower(), target.port
        permit, deny = self._about(target)
        if any(rule.matches_name(name, port) for rule in deny):
            return Verdict.DENIED
        if any(rule.matches_name(name, port) for rule in permit):
            may_deny = any(rule.about_addresses and port in rule.ports for rule in deny)
            return Verdict.UNLESS_DENIED if may_deny else Verdict.PERMITTED
        may_permit = any(rule.about_addresses and port in rule.ports for rule in permit)
        return Verdict.IF_PERMITTED if may_permit else Verdict.DENIED

    def deciding(self, target: Target) -> Rule | None:
        """The rule that decides on a `target` that is a name, by its name; None: none does."""
        name, port = target.host.removesuffix(".").lower(), target.port
        permit, deny = self._about(target)
        return next((rule for rule in deny + permit if rule.matches_name(name, port)), None)

    def allows(self, target: Target, address: Address, machine: Machine | None = None) -> bool:
        """Whether `address` may be dialled for a connection to `target`; see `decide`."""
        return self.decide(target, address, machine).permitted

    def decide(self, target: Target, address: Address, machine: Machine | None = None) -> Decision:
        """Whether `address` may be dialled for a connection to `target`, and by which rule.

        Each address of a name is judged by itself. Raises `ValueError` if `need_machine` is true and no
        machine is given.
        """
        literal = _literal(target.host)
        name = target.host.removesuffix(".").lower() if literal is None else None
        faces = tuple(face for each in (literal, address) if each is not None for face in _faces(each))
        link_local = _within(faces, NETWORKS[HostSet.LINK_LOCAL])

        def matches(rule: Rule) -> bool:
            return rule.matches_name(name, target.port) or rule.matches_address(faces, target.port, machine)

        permit, deny = self._about(target)
        if (denying := next(filter(matches, deny), None)) is not None:
            return Decision(False, denying)
        if isinstance(target, UdpTarget) and any(face.is_multicast for face in faces):
            return Decision(False, None)
        about = (rule for rule in permit if rule.names_link_local or not link_local)
        permitting = next(filter(matches, about), None)
        return Decision(permitting is not None, permitting)

    def _about(self, target: Target) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """The rules of `permit` and of `deny` for the target's transport."""
        permit = tuple(rule for rule in self.permit if rule.is_about(target, Transport.TCP))
        return permit, tuple(rule for rule in self.deny if rule.is_about(target, Transport.BOTH))

    def decide_path(self, path: str, real: Callable[[str], str]) -> Decision:
        """Whether the Unix socket at `path` may be connected to, and by which rule.

        The path is compared with those of the rules, as they are written and as `real` resolves their
        symbolic links. So nothing is looked for where only the client's path leads.
        """
        permitting = next((rule for rule in self.permit if path in _spellings(rule, real)), None)
        if permitting is None:
            return Decision(False, None)
        denying = next((rule for rule in self.deny if real(path) in _spellings(rule, real)), None)
        return Decision(False, denying) if denying is not None else Decision(True, permitting)


def _spellings(rule: Rule, real: Callable[[str], str]) -> tuple[str, ...]:
    return (rule.host.path, real(rule.host.path)) if isinstance(rule.host, SocketPath) else ()


def _within(addresses: tuple[Address, ...], networks: Networks) -> bool:
    return any(address in network for network in networks for address in addresses)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _faces(address: Address) -> tuple[Address, ...]:
    """The addresses that `address` is judged as; see the module's docstring."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _faces(address.ipv4_mapped)
        if address in _NAT64:
            return address, *_faces(IPv4Address(address.packed[12:]))
        return (address, IPv6Address("::1")) if address.is_unspecified else (address,)
    return (address, IPv4Address("127.0.0.1")) if address.is_unspecified else (address,)


def is_literal(host: str) -> bool:
    """Whether a host is an address and no name."""
    return _literal(host) is not None


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules, at least one, divided by commas. Raises `ValueError`."""
    rules = tuple(parse_rule(item.strip()) for item in text.split(",") if item.strip())
    if not rules:
        raise ValueError("expected at least one host:port, found none")
    return rules


def parse_rule(text: str) -> Rule:
    """A rule as the module's docstring describes it. Raises `ValueError`."""
    if is_unix(text):
        return Rule(SocketPath(parse_unix_path(text)), range(UNIX_PORT, UNIX_PORT + 1))
    host, colon, ports = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"expected host:port (IPv6 in brackets, * for any port), found {shown(text)}")
    ports, slash, word = ports.partition("/")
    if slash and word.lower() not in _TRANSPORTS:
        raise ValueError(f"expected /udp, /tcp, /tcp+udp or /udp+any after the port, found {shown(text)}")
    first, last = (1, 65535) if ports == "*" else parse_port_range(ports)
    hosts = _parse_hosts(host[1:-1] if bracketed else host, bracketed)
    return Rule(hosts, range(first, last + 1), Transport(word.lower()) if slash else None)


def _parse_hosts(text: str, bracketed: bool) -> Network | HostSet | str:
    if bracketed or "/" in text or _literal(text) is not None:
        return _parse_network(text, bracketed)
    if text == "*":
        return text
    if text.lower() in _WORDS:
        return HostSet(text.lower())
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


def _parse_network(text: str, bracketed: bool) -> Network:
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
