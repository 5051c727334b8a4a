"""The Clash API, as far as dashboards such as yacd and metacubexd need it to show what goes on.

A peer is a proxy, a stream a connection. Nothing can be configured. Published at
https://en.clash.wiki/runtime/external-controller.html and https://wiki.metacubex.one/api/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from toxproxy import __version__
from toxproxy.address import is_unix, split_fields
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.snapshots import EndRole, ListenerKind, PeerSnapshot, PeerState, Snapshot
from toxproxy.rules import HostSet, Rule
from toxproxy.system.memory import resident
from toxproxy.web.answers import answer, asked, failure, text_of
from toxproxy.web.guard import is_websocket
from toxproxy.web.journal import Journal
from toxproxy.web.onlookers import Onlookers

_GLOBAL = "GLOBAL"  # the group that dashboards look for
_LEVELS = ("debug", "info", "warning", "error", "critical")
_LONGEST_PING = 10.0  # seconds
_MOST_PINGS = 64  # at once
_CONFIGURED = "toxproxy is configured in its file"


class Clash:
    """The resources of one end."""

    def __init__(self, end: Server | Client, journal: Journal, onlookers: Onlookers) -> None:
        self._end = end
        self._journal = journal
        self._onlookers = onlookers

    def routes(self) -> list[web.AbstractRouteDef]:
        """For aiohttp."""
        return [
            web.get("/version", self._version),
            web.get("/configs", self._configs),
            *(web.route(method, "/configs", self._refuse) for method in ("PUT", "PATCH")),
            web.get("/traffic", self._traffic),
            web.get("/memory", self._memory),
            web.get("/logs", self._logs),
            web.get("/connections", self._connections),
            web.delete("/connections", self._close_all),
            web.delete("/connections/{id}", self._close),
            web.get("/proxies", self._proxies),
            web.get("/proxies/{name}", self._proxy),
            web.put("/proxies/{name}", self._refuse),
            web.get("/proxies/{name}/delay", self._delay),
            web.get("/group/{name}/delay", self._delays),
            web.get("/rules", self._rules),
            web.get("/providers/proxies", self._providers),
            web.get("/providers/rules", self._providers),
        ]

    # What it is

    async def _version(self, _: web.Request) -> web.Response:
        return answer({"version": f"toxproxy {__version__}", "premium": False, "meta": False})

    async def _configs(self, _: web.Request) -> web.Response:
        listeners = self._end.status().listeners
        proxies = [
            each for each in listeners if each.kind is ListenerKind.PROXY and not is_unix(each.address)
        ]
        ports = [int(each.address.rpartition(":")[2]) for each in proxies]
        return answer(
            {
                "port": 0,
                "socks-port": 0,
                "redir-port": 0,
                "tproxy-port": 0,
                "mixed-port": ports[0] if ports else 0,
                "authentication": [],
                "allow-lan": any(not entry.bind.is_loopback for entry in self._end.config.proxies),
                "bind-address": split_fields(proxies[0].address)[0] if proxies else "127.0.0.1",
                "mode": "rule",
                "log-level": "info",
                "ipv6": True,
            }
        )

    async def _refuse(self, _: web.Request) -> web.Response:
        raise failure(web.HTTPBadRequest, "failed", _CONFIGURED)

    async def _rules(self, _: web.Request) -> web.Response:
        return answer(
            {"rules": [{**rule, "index": at, "size": -1} for at, rule in enumerate(self._all_rules())]}
        )

    def _all_rules(self) -> list[dict[str, str]]:
        if isinstance(self._end, Server):
            rules = self._end.config.access.rules
            return [
                *({"type": "Deny", "payload": shown(rule), "proxy": "REJECT"} for rule in rules.deny),
                *({"type": "Permit", "payload": shown(rule), "proxy": "DIRECT"} for rule in rules.permit),
            ]
        snapshot = self._end.status()
        names = {peer.key: called(peer) for peer in snapshot.peers}
        return [
            {
                "type": each.kind.value.capitalize(),
                "payload": each.address if each.target is None else f"{each.address} -> {each.target}",
                "proxy": names.get(each.peer_key or "", "DIRECT"),
            }
            for each in snapshot.listeners
        ]

    async def _providers(self, _: web.Request) -> web.Response:
        return answer({"providers": {}})

    # What goes on

    async def _traffic(self, request: web.Request) -> web.StreamResponse:
        async def now() -> Sequence[str]:
            snapshot = await self._end.measured()
            sent = sum(peer.traffic.sent_bytes_per_s or 0 for peer in snapshot.peers)
            received = sum(peer.traffic.received_bytes_per_s or 0 for peer in snapshot.peers)
            up, down = _directions(snapshot.end.role, round(sent), round(received))
            return [text_of({"up": up, "down": down}) + "\n"]

        return await self._follow(request, now)

    async def _memory(self, request: web.Request) -> web.StreamResponse:
        async def now() -> Sequence[str]:
            return [text_of({"inuse": resident(), "oslimit": 0}) + "\n"]

        return await self._follow(request, now)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        level = request.query.get("level", "info")
        least = _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)  # silent
        seen = 0

        async def now() -> Sequence[str]:
            nonlocal seen
            lines = self._journal.since(seen)
            seen = lines[-1].number if lines else seen
            told = [line for line in lines if _LEVELS.index(line.level) >= least]
            return [text_of({"type": line.level, "payload": line.text}) + "\n" for line in told]

        return await self._follow(request, now)

    async def _connections(self, request: web.Request) -> web.StreamResponse:
        async def now() -> Sequence[str]:
            return [text_of(await self._all_connections())]

        if is_websocket(request):
            return await self._onlookers.socket(request, now)
        return web.Response(text=(await now())[0], content_type="application/json")

    async def _follow(
        self, request: web.Request, make: Callable[[], Awaitable[Sequence[str]]]
    ) -> web.StreamResponse:
        if is_websocket(request):
            return await self._onlookers.socket(request, make)
        return await self._onlookers.lines(request, make, "application/json")

    async def _all_connections(self) -> Mapping[str, object]:
        snapshot = self._end.status()
        role = snapshot.end.role
        names = {peer.key: called(peer) for peer in snapshot.peers}
        totals = _directions(
            role,
            sum(peer.traffic.sent_bytes for peer in snapshot.peers),
            sum(peer.traffic.received_bytes for peer in snapshot.peers),
        )
        found: Any = await asked(self._end.methods["streams"], {})
        connections = [
            connection(stream, role, names[stream["peer_key"]], snapshot.taken_unix_s)
            for stream in found["streams"]
        ]
        return {
            "uploadTotal": totals[0],
            "downloadTotal": totals[1],
            "connections": connections,
            "memory": resident(),
        }

    # Orders

    async def _close(self, request: web.Request) -> web.Response:
        try:
            await asked(self._end.methods["close"], {"id": request.match_info["id"]})
        except web.HTTPBadRequest:  # it has ended by itself
            raise failure(web.HTTPNotFound, "bad_params", "there is no such connection") from None
        return web.Response(status=204)

    async def _close_all(self, _: web.Request) -> web.Response:
        found: Any = await asked(self._end.methods["streams"], {})
        for stream in found["streams"]:
            await asked(self._end.methods["close"], {"id": stream["id"]})
        return web.Response(status=204)

    # Proxies

    async def _proxies(self, _: web.Request) -> web.Response:
        return answer({"proxies": proxies(self._end.status())})

    async def _proxy(self, request: web.Request) -> web.Response:
        found = proxies(self._end.status()).get(request.match_info["name"])
        if found is None:
            raise failure(web.HTTPNotFound, "bad_params", "there is no such proxy")
        return answer(found)

    async def _delay(self, request: web.Request) -> web.Response:
        """The round trip to a peer; the URL that is asked for with it is not fetched."""
        name = request.match_info["name"]
        wanted = [peer for peer in self._end.peers() if name in (called(peer), _GLOBAL)]
        if not wanted:
            raise failure(web.HTTPNotFound, "bad_params", "there is no such proxy")
        if (delay := await self._measured(wanted[0], request)) is None:
            raise failure(web.HTTPGatewayTimeout, "timed_out", "Timeout")
        return answer({"delay": delay})

    async def _delays(self, request: web.Request) -> web.Response:
        """The same of every peer that is connected, at most `_MOST_PINGS` of them, by name."""
        if request.match_info["name"] != _GLOBAL:
            raise failure(web.HTTPNotFound, "bad_params", "there is no such group")
        there = [peer for peer in self._end.peers() if peer.state is PeerState.CONNECTED][:_MOST_PINGS]
        delays = await asyncio.gather(*(self._measured(peer, request) for peer in there))
        measured = zip(there, delays, strict=True)
        return answer({called(peer): delay for peer, delay in measured if delay is not None})

    async def _measured(self, peer: PeerSnapshot, request: web.Request) -> int | None:
        """Milliseconds, at least 1; None without an answer in the time that the request gives it."""
        text = request.query.get("timeout", "5000")
        seconds = int(text) / 1000 if text.isascii() and text.isdigit() and len(text) < 8 else 5.0
        params = {"peer": peer.key, "count": 1, "timeout_s": min(max(seconds, 0.2), _LONGEST_PING)}
        pongs: Any = await asked(self._end.methods["ping"], params)
        rtt = pongs[0]["rtt_ms"]
        return None if rtt is None else max(1, round(rtt))


def called(peer: PeerSnapshot) -> str:
    """The name of a peer, no two of which are the same."""
    return f"{peer.name} {peer.key[:12]}" if peer.name else peer.key[:12]


def proxies(snapshot: Snapshot) -> dict[str, dict[str, object]]:
    """Every peer as a proxy, and the group of them all."""
    now = datetime.fromtimestamp(snapshot.taken_unix_s, UTC).isoformat()
    found: dict[str, dict[str, object]] = {}
    for peer in snapshot.peers:
        rtt = peer.link.rtt_ms if peer.link is not None else None
        found[called(peer)] = {
            "name": called(peer),
            "type": "Tox",
            "alive": peer.state is PeerState.CONNECTED,
            "history": [] if rtt is None else [{"time": now, "delay": max(1, round(rtt))}],
            "udp": False,
            "xudp": False,
            "tfo": False,
            "extra": {},
        }
    names = list(found)
    first = next((name for name, proxy in found.items() if proxy["alive"]), names[0] if names else "")
    group = {"name": _GLOBAL, "type": "Selector", "now": first, "all": names, "history": [], "udp": False}
    return {_GLOBAL: {**group, "alive": True, "xudp": False, "tfo": False, "extra": {}}, **found}


def connection(stream: Mapping[str, Any], role: EndRole, peer: str, now_unix_s: float) -> dict[str, object]:
    """A stream as a dashboard knows connections."""
    target = stream["target"].removesuffix("/udp")
    *host, port = split_fields(target)
    up, down = _directions(role, stream["sent_bytes"], stream["received_bytes"])
    return {
        "id": stream["id"],
        "metadata": {
            "network": "tcp" if target == stream["target"] else "udp",
            "type": "Tox",
            "sourceIP": "",
            "sourcePort": "",
            "destinationIP": "",
            "destinationPort": port,
            "host": ":".join(host),
            "dnsMode": "normal",
            "process": "",
            "processPath": "",
            "inboundIP": "",
            "inboundPort": "",
            "inboundName": "",
            "inboundUser": "",
            "remoteDestination": "",
            "sniffHost": "",
            "specialProxy": "",
            "specialRules": "",
            "uid": 0,
        },
        "upload": up,
        "download": down,
        "start": datetime.fromtimestamp(now_unix_s - stream["age_s"], UTC).isoformat(),
        "chains": [peer],
        "rule": "Match",
        "rulePayload": "",
    }


def _directions(role: EndRole, sent: int, received: int) -> tuple[int, int]:
    """Bytes towards the targets, and from them."""
    return (sent, received) if role is EndRole.CLIENT else (received, sent)


def shown(rule: Rule) -> str:
    """A rule of `permit` or `deny` as it is written."""
    host = rule.host.value if isinstance(rule.host, HostSet) else str(rule.host)
    first, last = rule.ports[0], rule.ports[-1]
    ports = "*" if (first, last) == (1, 65535) else str(first) if first == last else f"{first}-{last}"
    return f"[{host}]:{ports}" if ":" in host else f"{host}:{ports}"
