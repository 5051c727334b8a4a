"""[reverse]: where servers listen for this client. What comes there leaves from this machine.

A line is written as one of [client], or as one of [socks] with `socks:` before it. `permit` says where the
proxy ports among them lead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network

from toxproxy.address import UNIX_PORT, Bind, OpenUdpTarget, Target, UdpTarget, UnixBind, plain_address, shown
from toxproxy.config import ini
from toxproxy.config.settings import Forward, ProxyPort, ReverseSettings
from toxproxy.rules import Rule, Rules, SocketPath, Transport, is_literal, parse_rule, parse_rules

PERMIT = "permit"  # the key that is no line
PROXY = "socks:"
MOST = 64  # lines; a server takes as many of a client

#: Where the proxy ports lead without a `permit`: what is neither private nor this machine.
DEFAULT_RULES = Rules(parse_rules("*:*"), parse_rules("private:*, self:*"))

Entry = Forward | ProxyPort
Parser = Callable[[str, ini.Entry], tuple[Entry, ...]]


def parse_each(entries: Mapping[str, ini.Entry], parser: Parser) -> ReverseSettings:
    """The section. `parser` makes of a line one of [client] or [socks]. Raises `ConfigError`."""
    lines: list[Entry] = []
    for name, entry in entries.items():
        if name != PERMIT:
            for line in parser(name, entry):
                _check(line, lines, entry)
                lines.append(line)
    permit = entries[PERMIT].items(parse_rule) if PERMIT in entries else None
    return ReverseSettings(tuple(lines), permit)


def _check(line: Entry, others: list[Entry], entry: ini.Entry) -> None:
    if line.others:
        raise entry.error("expected one server, which is to listen, found several")
    if isinstance(line.bind, Bind) and line.bind.host and not is_literal(line.bind.host):
        found = f"the name {shown(line.bind.host)}"
        raise entry.error(f"expected an address of the server, as 127.0.0.1, or *, found {found}")
    if isinstance(line, Forward) and isinstance(line.target, OpenUdpTarget):
        raise entry.error("expected /udp: answers come from the target alone, found /udp+any")
    if isinstance(line.bind, UnixBind) and line.bind != UnixBind(line.bind.path):
        raise entry.error("expected unix:/path without a mode: the server makes it 0600, found one")
    if len(others) >= MOST:
        raise entry.error(f"expected at most {MOST} lines in [reverse], found more")
    for other in others:
        if _clash(line, other):
            raise entry.error(
                f"expected an address of its own at the server, found {line.bind} beside {other.bind} "
                f"on line {other.line}"
            )


def _clash(line: Entry, other: Entry) -> bool:
    if line.server.public_key != other.server.public_key or udp(line) != udp(other):
        return False
    same_port = isinstance(line.bind, UnixBind) or (
        isinstance(other.bind, Bind) and line.bind.port == other.bind.port != 0
    )
    return same_port and line.bind.clashes(other.bind)


def udp(entry: Entry) -> bool:
    """Whether a line is about datagrams."""
    return isinstance(entry, Forward) and entry.udp


def rules_of(entry: Entry, permit: tuple[Rule, ...] | None) -> Rules:
    """Where a line leads: a forward to its target alone, a proxy port where `permit` says."""
    if isinstance(entry, Forward):
        return Rules((exactly(entry.target),))
    return DEFAULT_RULES if permit is None else Rules(permit)


def exactly(target: Target) -> Rule:
    """The rule that is about this target and nothing else."""
    ports = range(target.port, target.port + 1)
    if target.path is not None:
        return Rule(SocketPath(target.path), range(UNIX_PORT, UNIX_PORT + 1))
    transport = Transport.UDP if isinstance(target, UdpTarget) else None
    try:
        return Rule(ip_network(plain_address(target.host)), ports, transport)
    except ValueError:
        return Rule(target.host.removesuffix(".").lower(), ports, transport)
