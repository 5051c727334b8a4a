"""Lets a client in by command, whether the server runs or not."""

from __future__ import annotations

from toxproxy.admission.access import Access
from toxproxy.app.control import request
from toxproxy.config.settings import AccessSettings
from toxproxy.errors import ToxproxyError
from toxproxy.system.state import StateFolder


async def allow(state: StateFolder, key: bytes) -> str | None:
    """Let the client with this public key in, for good, at the server of `state`.

    Returns what the running server says. None: no server runs, and the client is let in from its next
    start on. Raises `ToxproxyError`.
    """
    answer = await request(state, "allow", key=key.hex())
    if answer is None:
        with state.lock():
            Access(AccessSettings(), state).allow(key)
        return None
    if answer.get("ok") is not True:
        raise ToxproxyError(f"the server says: {answer.get('error')}")
    return str(answer.get("text"))
