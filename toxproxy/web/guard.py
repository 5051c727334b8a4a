"""Who may see this end, and who may order something: every request passes here first.

- A Host that is a name points somewhere only by DNS, which the page that sent the request may control (DNS
  rebinding). Only addresses, `localhost` and the configured name are taken.
- A request of a page from elsewhere (Origin, Sec-Fetch-Site) is refused. Only a dashboard that speaks the
  Clash API may be such a page, and only with the secret in its request: cookies do not count for it.
- Without the secret nothing is told but what is in `FREE`. Where none is configured, nothing is ordered.

A secret is compared in constant time. Each wrong one makes the next wait; see `inbound.guesses`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from enum import Enum
from hashlib import sha256
from ipaddress import ip_address
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from toxproxy.inbound.guard import LONGEST_WAIT
from toxproxy.inbound.guesses import Guesses
from toxproxy.pace import Notice
from toxproxy.web.answers import answer, failure, params_of

log = logging.getLogger(__name__)

FREE = frozenset(
    {"/", "/login", "/healthz", "/ready", "/proxy.pac"}
)  # these tell nothing that is worth a secret
CLASH = frozenset(
    {
        "version",
        "traffic",
        "memory",
        "connections",
        "proxies",
        "group",
        "rules",
        "logs",
        "configs",
        "providers",
    }
)  # the first part of the path of what a dashboard from elsewhere may ask

_READING = ("GET", "HEAD")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\s:\[\]@/]{1,253})(:[0-9]{1,5})?")
_CORS = {
    "Access-Control-Allow-Methods": "GET, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Allow-Private-Network": "true",  # browsers ask before a public page reaches loopback
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Proof(Enum):
    """By what a request may be answered."""

    NONE = "none"
    NOT_NEEDED = "not needed"  # no secret is configured
    COOKIE = "cookie"
    SECRET = "secret"


class Guard:
    """`secret` and `host` are those of [web]. `name` tells this end's cookie from that of another one."""

    def __init__(self, secret: str | None, host: str, name: str) -> None:
        self._secret = None if secret is None else _digest(secret)
        self._host = host.lower()
        self._cookie = f"toxproxy-{name}"
        self._session = secrets.token_urlsafe(32)
        self._guesses = Guesses()
        self._wrong = Notice(log, logging.WARNING, most=10)

    def middleware(self) -> Middleware:
        """What aiohttp calls for each request."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self._is_here(request):
                raise _forbidden(
                    "host", "this is reached by its address or as localhost, not by another name"
                )
            foreign = _is_foreign(request)
            if foreign and not self._is_for_all_pages(request):
                raise _forbidden("origin", "a page from elsewhere may not ask this")
            if foreign and request.method == hdrs.METH_OPTIONS:
                return web.Response(status=204)
            if foreign or request.path not in FREE:
                await self._prove(request, foreign=foreign)
            return await handler(request)

        return check

    async def login(self, request: web.Request) -> web.Response:
        """POST /login {"secret": …}: sets a cookie that stands for the secret until this program ends."""
        given = (await params_of(request)).get("secret")
        if self._secret is None or not isinstance(given, str) or not await self._is_right(request, given):
            raise _unauthorized()
        response = answer({"result": None})
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="Strict", path="/")
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """POST /logout: no cookie that was set before is taken any more."""
        self._session = secrets.token_urlsafe(32)
        response = answer({"result": None})
        response.del_cookie(self._cookie, path="/")
        return response

    def cors(self, request: web.Request) -> dict[str, str]:
        """The header fields that let a page from elsewhere read the answer, if it may."""
        if not _is_foreign(request) or not self._is_for_all_pages(request):
            return {}
        return {"Access-Control-Allow-Origin": request.headers[hdrs.ORIGIN], **_CORS}

    def _is_for_all_pages(self, request: web.Request) -> bool:
        first = request.path[1:].partition("/")[0]
        return self._secret is not None and (first in CLASH or request.path == "/")

    def _is_here(self, request: web.Request) -> bool:
        host = _HOST.fullmatch(request.headers.get(hdrs.HOST, ""))
        if host is None:
            return False
        name = host[1].strip("[]").lower()
        return name in ("localhost", self._host) or _is_address(name)

    async def _prove(self, request: web.Request, *, foreign: bool) -> None:
        """Raise `web.HTTPError` unless this request may be answered."""
        if not foreign and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise _forbidden("origin", "a page from elsewhere may not ask this")
        proof = await self._proof(request, foreign=foreign)
        if proof is Proof.NONE:
            raise _unauthorized()
        if request.method in _READING:
            return
        if proof is Proof.NOT_NEEDED:
            raise _forbidden(
                "no_secret", "without a secret in [web] nothing can be ordered here: write secret = …"
            )
        if proof is Proof.COOKIE and hdrs.ORIGIN not in request.headers:
            raise _forbidden("origin", "expected an Origin beside a cookie")

    async def _proof(self, request: web.Request, *, foreign: bool) -> Proof:
        if self._secret is None:
            return Proof.NOT_NEEDED
        cookie = request.cookies.get(self._cookie)
        if cookie is not None and not foreign and _same(_digest(cookie), _digest(self._session)):
            return Proof.COOKIE
        given = _bearer(request)
        if given is not None and await self._is_right(request, given):
            return Proof.SECRET
        return Proof.NONE

    async def _is_right(self, request: web.Request, given: str) -> bool:
        """Compare a secret once its turn has come. Raises `web.HTTPError` if that takes too long."""
        host, end = request.remote or "", monotonic() + LONGEST_WAIT
        while pause := self._guesses.pause(host, monotonic()):
            if monotonic() >= end:
                text = "too many wrong secrets came from there: try later"
                raise failure(web.HTTPTooManyRequests, "busy", text)
            await asyncio.sleep(min(pause, max(0.0, end - monotonic())))
        if self._secret is not None and _same(_digest(given), self._secret):
            return True
        count = self._guesses.failed(host, monotonic())
        self._wrong("[web]: a wrong secret from %s (%d recently)", host, count)
        return False


def _bearer(request: web.Request) -> str | None:
    """The secret in a request: in its header, or for a WebSocket, which cannot have one, in its address."""
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    return request.query.get("token") if is_websocket(request) else None


def is_websocket(request: web.Request) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _is_foreign(request: web.Request) -> bool:
    """Whether a page sent this that did not come from where the request goes."""
    if (origin := request.headers.get(hdrs.ORIGIN)) is None:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return True
    own = request.headers.get(hdrs.HOST, "").lower()
    return parts.scheme not in ("http", "https") or parts.netloc.lower() != own


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _forbidden(code: str, text: str) -> web.HTTPError:
    return failure(web.HTTPForbidden, code, text, close=True)


def _unauthorized() -> web.HTTPError:
    error = failure(web.HTTPUnauthorized, "unauthorized", "expected the secret of [web]")
    error.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return error
