"""The ways that a client's connections leave: through servers in order, from this machine, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from toxproxy import dialer
from toxproxy.address import Target, ToxId, UdpTarget
from toxproxy.app.choice import Choice, standing
from toxproxy.config.changes import Entry
from toxproxy.config.exits import own_ports
from toxproxy.config.settings import DEFAULT, Config, Forward
from toxproxy.dialer import Flow, FlowOwner, P
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.exit import Exit
from toxproxy.routing.preference import Standing
from toxproxy.routing.routes import Route, Way
from toxproxy.rules import Rules, parse_rules
from toxproxy.tunnel.friend import Friend

_ANYWHERE = Rules(parse_rules("*:*, linklocal:*"))


class Ways:
    """Finds the way for each connection. `config` is the one that holds; `friends` are the servers by key.

    `own` are the names of the proxy ports for which [route] does not hold.
    """

    def __init__(self, config: Config, friends: Mapping[bytes, Friend]) -> None:
        self.config = config
        self.own = own_ports(config)
        self._friends = friends
        self._choices: dict[tuple[Friend, ...], Choice] = {}
        self._direct = Exit(DEFAULT.exit, _ANYWHERE, config.limits.dials)

    def change(self, config: Config) -> None:
        """Use another configuration for new connections."""
        self.config = config
        self.own = own_ports(config)
        known = set(self._friends.values())
        self._choices = {key: choice for key, choice in self._choices.items() if known.issuperset(key)}

    def changed(self) -> None:
        """A server came or went."""
        for choice in self._choices.values():
            choice.changed()

    def through(self, servers: Sequence[ToxId]) -> dialer.Way:
        """Through the first of the servers that is there."""
        friends = tuple(self._friends[server.public_key] for server in servers)
        if len(friends) == 1:
            return friends[0]
        if (choice := self._choices.get(friends)) is None:
            choice = self._choices[friends] = Choice(friends, self.config.tox.wait)
        return choice

    def chosen(self, servers: Sequence[ToxId]) -> ToxId | None:
        """The server that a new connection would leave by; None: it would wait."""
        known = [server for server in servers if server.public_key in self._friends]
        friends = [self._friends[server.public_key] for server in known]
        if len(known) < len(servers):
            return None
        if len(friends) == 1:
            return known[0] if standing(friends[0]) is not Standing.GONE else None
        choice = self.through(servers)
        friend = choice.chosen() if isinstance(choice, Choice) else None
        return None if friend is None else known[friends.index(friend)]

    def of(self, entry: Entry) -> dialer.Way:
        """For the connections of a listener. [route] holds for proxy ports, but not for an exit's own."""
        usual = self.through(entry.servers)
        return usual if isinstance(entry, Forward) else _Routed(self, entry.name, usual)

    def exits(self) -> Mapping[str, dialer.Way]:
        """The exits by their names."""
        return {
            each.name: self._friends[each.server.public_key]
            for each in self.config.exits
            if each.server.public_key in self._friends
        }

    def route(self, target: Target) -> Route | None:
        """The rule of [route] that decides about `target`."""
        return self.config.routes.decide(target)

    def by(self, route: Route) -> dialer.Way:
        """The way that a rule names. Raises `StreamRefused` for `reject`."""
        match route.way:
            case Way.DIRECT:
                return self._direct
            case Way.REJECT:
                raise StreamRefused(Refusal.NOT_PERMITTED, f"rejected by [route] {route.name} of this client")
            case servers:
                return self.through(servers)


class _Routed:
    """A `dialer.Way` by the rules of [route]; by `usual` where none is about the target."""

    def __init__(self, ways: Ways, port: str, usual: dialer.Way) -> None:
        self._ways = ways
        self._port = port
        self._usual = usual

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """As `Dialer.dial`."""
        return await self._to(target).dial(protocol_factory, target, early=early, compress=compress)

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        """As `FlowDialer.open_flow`."""
        return self._to(target).open_flow(owner, target)

    def _to(self, target: Target) -> dialer.Way:
        route = None if self._port in self._ways.own else self._ways.route(target)
        return self._usual if route is None else self._ways.by(route)
