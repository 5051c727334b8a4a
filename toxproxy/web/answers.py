"""Answers in JSON, and failures as the control socket has them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from aiohttp import web

from toxproxy.control.encoding import encoded
from toxproxy.control.server import Method, Params
from toxproxy.errors import ToxproxyError


def text_of(value: object) -> str:
    """A value as JSON."""
    return json.dumps(value, allow_nan=False, default=encoded)


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(text=text_of(value), status=status, content_type="application/json")


def failure(kind: type[web.HTTPError], code: str, text: str, *, close: bool = False) -> web.HTTPError:
    """An HTTP error to raise: `error` as on the control socket, `message` as in the Clash API.

    `close`: nothing more is read on the connection.
    """
    body = text_of({"error": {"code": code, "message": text}, "message": text})
    error = kind(text=body, content_type="application/json")
    if close:
        error.force_close()
    return error


async def asked(method: Method, params: Params) -> object:
    """The result of a method of the control plane, or the list of all results. Raises `web.HTTPError`."""
    try:
        outcome = method(params)
        if isinstance(outcome, AsyncGenerator):
            return [result async for result in outcome]
        return await outcome
    except ToxproxyError as error:
        raise failure(web.HTTPInternalServerError, "failed", str(error)) from None
    except ValueError as error:
        raise failure(web.HTTPBadRequest, "bad_params", str(error)) from None


async def params_of(request: web.Request) -> dict[str, object]:
    """The JSON object in the body of a request, {} without one. Raises `web.HTTPError`."""
    try:
        params = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise failure(web.HTTPBadRequest, "malformed", "expected a JSON object")
    return params
