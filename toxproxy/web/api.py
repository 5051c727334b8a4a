"""/api/v1, and what needs no secret: the control plane's methods over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from toxproxy.app.client import Client
from toxproxy.app.orders import explained
from toxproxy.app.server import Server
from toxproxy.config.exits import own_ports
from toxproxy.control.checks import Check, verdict
from toxproxy.control.encoding import decoded
from toxproxy.control.findings import findings
from toxproxy.control.snapshots import EndRole, NetworkPath, PathKind, PeerState, Snapshot
from toxproxy.control.speeds import SpeedSnapshot
from toxproxy.program import diagnosis, report, speed
from toxproxy.program.router import router_line
from toxproxy.web import metrics, pac
from toxproxy.web.answers import answer, asked, failure, params_of, text_of
from toxproxy.web.history import History
from toxproxy.web.journal import Journal
from toxproxy.web.onlookers import Onlookers

_PREFIX = "/api/v1"
_READ = ("status", "streams", "clients", "waiting")  # methods without params
_ORDER = ("close", "allow", "ignore", "revoke", "block", "reload", "ping", "route", "checkup", "speedtest")
_MOST_PINGS = 10


class Api:
    """The resources of one end."""

    def __init__(
        self, end: Server | Client, history: History, journal: Journal, onlookers: Onlookers
    ) -> None:
        self._end = end
        self._history = history
        self._journal = journal
        self._onlookers = onlookers

    def routes(self) -> list[web.AbstractRouteDef]:
        """For aiohttp."""
        return [
            *(web.get(f"{_PREFIX}/{name}", self._method) for name in _READ),
            *(web.post(f"{_PREFIX}/{name}", self._method) for name in _ORDER),
            web.get(f"{_PREFIX}/history", self._samples),
            web.get(f"{_PREFIX}/log", self._log),
            web.get(f"{_PREFIX}/events", self._events),
            web.get("/metrics", self._metrics),
            web.get("/healthz", self._healthz),
            web.get("/ready", self._ready),
            web.get("/proxy.pac", self._pac),
        ]

    async def _method(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        if (method := self._end.methods.get(name)) is None:
            raise failure(web.HTTPNotFound, "unknown_method", f"this role has no {name}")
        params = await params_of(request) if request.method == "POST" else {}
        if name == "ping":
            count = params.setdefault("count", 1)
            if count not in range(1, _MOST_PINGS + 1):
                raise failure(web.HTTPBadRequest, "bad_params", f"count: expected 1 to {_MOST_PINGS}")
        result = await asked(method, params)
        return answer({"result": _SAID[name](result) if name in _SAID else result})

    async def _samples(self, _: web.Request) -> web.Response:
        self._history.looked()
        return answer({"result": self._history.encoded()})

    async def _log(self, _: web.Request) -> web.Response:
        return answer({"result": self._journal.since(0)})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        seen = 0

        async def events() -> list[str]:
            nonlocal seen
            self._history.looked()
            texts = [_event("status", told(await self._end.measured()))]
            if lines := self._journal.since(seen):
                seen = lines[-1].number
                texts.append(_event("log", lines))
            return texts

        return await self._onlookers.lines(request, events, "text/event-stream")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(self._end.status()), headers={"Content-Type": metrics.CONTENT_TYPE}
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        ready = is_ready(self._end.status())
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _pac(self, request: web.Request) -> web.Response:
        host, config = request.url.host or "127.0.0.1", self._end.config
        text = pac.proxies(self._end.status().listeners, host, config.routes, own_ports(config))
        return web.Response(text=text, content_type="application/x-ns-proxy-autoconfig")


def told(snapshot: Snapshot) -> Mapping[str, object]:
    """A snapshot with what `toxproxy status` says of it in sentences."""
    mapping = snapshot.network.mapping
    explanations = [report.explanation(snapshot, finding) for finding in findings(snapshot)]
    return {
        "status": explained(snapshot),
        "verdict": report.verdict(snapshot),
        "network": report.network_line(snapshot),
        "router": None if mapping is None else router_line(mapping),
        "paths": {
            peer.key: report.path(peer) for peer in snapshot.peers if peer.path is not PathKind.UNKNOWN
        },
        "explanations": explanations,
    }


def _examined(result: Any) -> Mapping[str, object]:
    """What was tried, with what `toxproxy doctor` says of it in sentences."""
    checks = [decoded(Check, each) for each in result["checks"]]
    return {**result, "healthy": verdict(checks) is None, "sentences": list(diagnosis.lines(checks))}


def _measured(results: Any) -> Mapping[str, object]:
    """The end of a speed test, with what `toxproxy speedtest` says of it in sentences."""
    shot = decoded(SpeedSnapshot, results[-1])
    return {**results[-1], "sentences": list(speed.lines(shot))}


#: Methods whose results are for people, too.
_SAID = {"checkup": _examined, "speedtest": _measured}


def is_ready(snapshot: Snapshot) -> bool:
    """A server is on the Tox network; a client is connected to all of its servers."""
    if snapshot.end.role is EndRole.SERVER:
        return snapshot.network.path is not NetworkPath.NONE
    return all(peer.state is PeerState.CONNECTED for peer in snapshot.peers)


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {text_of(value)}\n\n"
