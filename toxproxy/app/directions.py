"""The orders `route` and `pac`: which way a connection would leave, and the same rules for a browser."""

from __future__ import annotations

from collections.abc import Mapping

from toxproxy.address import Target, ToxId, parse_host
from toxproxy.app.orders import expect, number, text
from toxproxy.app.ways import Ways
from toxproxy.config.exits import in_words
from toxproxy.control.encoding import encoded
from toxproxy.control.server import Method, Params
from toxproxy.control.snapshots import RouteSnapshot, WayKind, WaySnapshot
from toxproxy.routing.routes import Way

_KINDS = {Way.DIRECT: WayKind.DIRECT, Way.REJECT: WayKind.REJECT}


class Directions:
    """Of a client. `ways` are those that hold."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names in requests."""
        return {"route": self.route}

    async def route(self, params: Params) -> object:
        """A `RouteSnapshot` for a connection to `host` and `port` (443) through a proxy port."""
        expect(params, "host", "port")
        port = int(number(params, "port", 443, least=1, most=65535))
        return encoded(explained(self._ways, Target(parse_host(text(params, "host")), port)))


def explained(ways: Ways, target: Target) -> RouteSnapshot:
    """The rule that decides, and where to; without one, what each proxy port does."""
    route, config = ways.route(target), ways.config
    shown: list[tuple[str | None, tuple[ToxId, ...]]] = []
    if route is None:
        shown += [(port.name, port.servers) for port in config.proxies]
    else:
        shown += [] if isinstance(route.way, Way) else [(None, route.way)]
        shown += [(port.name, port.servers) for port in config.proxies if port.name in ways.own]
    kind = WayKind.SERVERS if route is None or not isinstance(route.way, Way) else _KINDS[route.way]
    return RouteSnapshot(
        target=str(target),
        rule=None if route is None else route.name,
        line=None if route is None else route.line,
        kind=kind,
        ways=tuple(_way(ways, port, servers) for port, servers in shown),
    )


def _way(ways: Ways, port: str | None, servers: tuple[ToxId, ...]) -> WaySnapshot:
    chosen = ways.chosen(servers)
    return WaySnapshot(
        port=port,
        servers=tuple(in_words((each,), ways.config.exits) for each in servers),
        chosen=None if chosen is None else in_words((chosen,), ways.config.exits),
    )
