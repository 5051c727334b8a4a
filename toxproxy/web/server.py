"""The port of [web]: HTTP with its bounds, and everything behind it."""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from importlib import resources
from re import DOTALL, search

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler

from toxproxy.address import join_host_port
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.config.settings import WebSettings
from toxproxy.errors import ToxproxyError
from toxproxy.web.answers import answer, failure
from toxproxy.web.api import Api
from toxproxy.web.clash import Clash
from toxproxy.web.guard import Guard
from toxproxy.web.history import History
from toxproxy.web.journal import Journal
from toxproxy.web.onlookers import Onlookers

log = logging.getLogger(__name__)

CONNECTIONS = 64
BODY_BYTES = 4096
SECONDS = 10.0  # for the head of the first request on a connection, and for each body
_KEEPALIVE = 15.0  # seconds between two requests

_NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "Content-Security-Policy": _NOTHING,
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """An asynchronous context manager that answers for `end` while it is entered.

    Entering raises `ToxproxyError` if it cannot listen, and returns the addresses for the ready file.
    """

    def __init__(self, end: Server | Client, settings: WebSettings) -> None:
        self._settings = settings
        self._end = end
        self._history = History(end.peers)
        self._journal = Journal()
        self._onlookers = Onlookers()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._heads: dict[RequestHandler, asyncio.TimerHandle] = {}  # of connections, not come yet

    async def __aenter__(self) -> Mapping[str, object]:
        self._runner = web.AppRunner(
            self._app(),
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
            lingering_time=1.0,
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        bind = self._settings.bind
        try:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._accepted, bind.host or None, bind.port)
        except OSError as error:
            await self._runner.cleanup()
            why = str(error) if error.errno is None else os.strerror(error.errno).lower()
            raise ToxproxyError(f"{self._settings.where}: cannot listen on {bind}: {why}") from error
        logging.getLogger().addHandler(self._journal)
        addresses = [join_host_port(*sock.getsockname()[:2]) for sock in self._listening.sockets]
        log.info("the page about this end: http://%s/", addresses[0])
        return {"web": addresses}

    async def __aexit__(self, *exc_info: object) -> None:
        logging.getLogger().removeHandler(self._journal)
        self._onlookers.close()
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for timer in self._heads.values():
            timer.cancel()
        await self._history.close()

    def _app(self) -> web.Application:
        settings, key = self._settings, self._end.node.public_key.hex()[:12]
        guard = Guard(settings.secret, settings.bind.host, key)
        app = web.Application(middlewares=[self._bounded(), guard.middleware()], client_max_size=BODY_BYTES)
        app.add_routes(Api(self._end, self._history, self._journal, self._onlookers).routes())
        app.add_routes(Clash(self._end, self._journal, self._onlookers).routes())
        app.add_routes(
            [web.get("/", Page().show), web.post("/login", guard.login), web.post("/logout", guard.logout)]
        )

        async def protect(request: web.Request, response: web.StreamResponse) -> None:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.update(guard.cors(request))

        app.on_response_prepare.append(protect)
        return app

    def _accepted(self) -> asyncio.Protocol:
        """A connection has come; if there are too many, it is closed at once."""
        assert self._runner is not None
        assert self._runner.server is not None
        if len(self._runner.server.connections) >= CONNECTIONS:
            return _Refuser()
        handler = self._runner.server()
        timer = asyncio.get_running_loop().call_later(SECONDS, self._late, handler)
        self._heads[handler] = timer
        return handler

    def _late(self, handler: RequestHandler) -> None:
        self._heads.pop(handler, None)
        handler.force_close()

    def _bounded(self) -> Middleware:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if timer := self._heads.pop(request.protocol, None):
                timer.cancel()
            try:
                async with asyncio.timeout(SECONDS):
                    await request.read()
            except TimeoutError:
                raise failure(
                    web.HTTPRequestTimeout, "timed_out", "the body took too long", close=True
                ) from None
            return await handler(request)

        return check


class _Refuser(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Page:
    """The page, and the policy under which a browser runs nothing but what is in it."""

    def __init__(self) -> None:
        self._text = (resources.files("toxproxy.web") / "page.html").read_text("utf-8")
        script, style = (_hash(self._text, tag) for tag in ("script", "style"))
        self._policy = (
            f"{_NOTHING}; script-src '{script}'; style-src '{style}'; img-src data:; connect-src 'self'"
        )

    async def show(self, request: web.Request) -> web.Response:
        """The page for a browser; for a program, what a dashboard expects there."""
        if "text/html" not in request.headers.get("Accept", ""):
            return answer({"hello": "clash"})
        return web.Response(
            text=self._text, content_type="text/html", headers={"Content-Security-Policy": self._policy}
        )


def _hash(text: str, tag: str) -> str:
    """The hash source (CSP level 3) of the only element with this tag."""
    found = search(f"<{tag}>(.*?)</{tag}>", text, DOTALL)
    assert found is not None
    return "sha256-" + b64encode(sha256(found[1].encode()).digest()).decode()
