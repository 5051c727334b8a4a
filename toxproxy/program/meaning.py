"""What a configuration means, in plain lines. Secrets and passwords are not repeated."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from toxproxy.config.advice import Role
from toxproxy.config.changes import Entry
from toxproxy.config.exits import in_words
from toxproxy.config.reverse import rules_of, udp
from toxproxy.config.settings import TO_THE_LOG, ClientSection, Config, Forward, ToxSettings
from toxproxy.program.amounts import counted, moment, rate, size
from toxproxy.reverse.request import Request
from toxproxy.routing.routes import Way
from toxproxy.rules import Rule


def roles(config: Config) -> tuple[Role, ...]:
    """The roles that a file is for: a client needs listeners, and all but those may be a server's."""
    if not (config.listeners or config.reverse.entries):
        return ("server",)
    access = config.access
    serves = access.allow or access.anyone or access.permit or access.deny or config.server_name
    return ("server", "client") if serves or config.clients or config.exit.upstream else ("client",)


def lines(config: Config, role: Role) -> Iterator[str]:
    """What the file says to one of the roles."""
    yield f"As a {role}:"
    yield from _server(config) if role == "server" else _client(config)
    yield f"  Tox: {_tox(config.tox)}"
    if config.web is not None:
        lock = "without a secret" if config.web.secret is None else "with a secret"
        yield f"  has a page at http://{config.web.bind} {lock}"


def _client(config: Config) -> Iterator[str]:
    for listener in config.listeners:
        plain = ", not compressed" if listener.name in config.uncompressed else ""
        yield f"  {listener.name}: {listener.bind} {_way(listener, config)}{plain}"
    for entry in config.reverse.entries:
        plain = ", not compressed" if entry.name in config.uncompressed else ""
        named = in_words(entry.servers, config.exits)
        where = f"{Request(entry.bind, udp(entry))} at the server {named}, where it permits that"
        yield f"  {entry.name}: {where} {_reversed(entry, config)}{plain}"
    for route in config.routes.in_turn:
        way = route.way.value if isinstance(route.way, Way) else in_words(route.way, config.exits)
        yield f"  {route.name} leaves by: {way}"
    for server in config.servers:
        if config.secret_for(server) is not None:
            yield f"  asks the server {str(server)[:12]} to be let in with a secret"


def _way(listener: Entry, config: Config) -> str:
    named = in_words(listener.servers, config.exits)
    server = f"the first that is there of {named}" if listener.others else f"the server {named}"
    if isinstance(listener, Forward):
        return f"-> {listener.target} at {server}"
    login = "" if listener.username is None else f", with the password of {listener.username}"
    return f"(SOCKS and HTTP proxy) -> {server}{login}"


def _reversed(entry: Entry, config: Config) -> str:
    if isinstance(entry, Forward):
        return f"-> {entry.target} here"
    login = "" if entry.username is None else f", with the password of {entry.username}"
    rules = rules_of(entry, config.reverse.permit)
    deny = f", but not {_rules(rules.deny)}" if rules.deny else ""
    return f"(SOCKS and HTTP proxy) -> from here to {_rules(rules.permit)}{deny}{login}"


def _server(config: Config) -> Iterator[str]:
    access = config.access
    who = ["the clients of `toxproxy allow`"]
    if access.allow:
        who.append(counted(len(access.allow), "client") + " of [access] allow")
    if config.clients:
        who.append(counted(len(config.clients), "client") + " of [client NAME]")
    if access.secret is not None:
        who.append("whoever sends the secret")
    yield f"  lets in: {'anyone with the Tox ID' if access.anyone else ', '.join(who)}"
    default = " (there is no permit)" if access.permit is None else ""
    yield f"  they may connect to: {_rules(access.rules.permit)}{default}"
    if access.deny:
        yield f"  but not to: {_rules(access.deny)}"
    for section in config.clients:
        yield f"  {section.name} ({section.key.hex().upper()[:12]}): {', '.join(_limits(section))}"
    if config.exit.upstream is not None:
        url = urlsplit(config.exit.upstream)
        yield f"  connects through: {url.scheme}://{url.netloc.rpartition('@')[2]}"
    log = config.log
    if log.audit is not None:
        where = "the log" if log.audit == TO_THE_LOG else log.audit
        bound = f", moved to {where}.1 at {size(log.audit_size)}" if log.audit_size else ""
        bound = "" if log.audit == TO_THE_LOG else bound
        yield f"  writes a line for each connection to {where}, as {log.audit_format.value}{bound}"


def _limits(section: ClientSection) -> Iterator[str]:
    """What one client may beside or instead of the others."""
    if section.permit is not None:
        yield f"connects to {_rules(section.permit)}"
    if section.deny:
        yield f"not to {_rules(section.deny)}"
    if section.listen:
        yield f"has this server listen on {_rules(section.listen)}"
    if (most := section.rate) is not None:
        both = f"{rate(most.down)} to it and {rate(most.up)} from it"
        yield f"at most {rate(most.down) if most.down == most.up else both}"
    if section.quota is not None:
        yield f"at most {size(section.quota)} a month"
    yield "for good" if section.expires is None else f"until {moment(section.expires)}"


def _rules(rules: tuple[Rule, ...]) -> str:
    return ", ".join(map(str, rules))


def _tox(tox: ToxSettings) -> str:
    nodes = "starts from the public nodes"
    if tox.bootstrap is not None:
        nodes = (
            f"starts from {counted(len(tox.bootstrap), 'node')}" if tox.bootstrap else "starts from no node"
        )
    if tox.proxy is not None:
        return f"{nodes}, over TCP through {tox.proxy.kind}://{tox.proxy.host}:{tox.proxy.port}"
    first, last = tox.ports
    ports = f"UDP port {first}" if first == last else f"a UDP port from {first} to {last}"
    return f"{nodes}, {ports if tox.udp else 'over TCP only'}"
