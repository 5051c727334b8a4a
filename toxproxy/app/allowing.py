"""Lets a client in by command, whether the server runs or not."""

from __future__ import annotations

import asyncio

from toxproxy.admission.access import Access
from toxproxy.config.settings import AccessSettings
from toxproxy.control.client import NotRunning, ask
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.friend import short


async def allow(state: StateFolder, key: bytes) -> str | None:
    """Let the client with this public key in, for good, at the server of `state`.

    Returns what the running server says. None: no server runs, and the client is let in from its next
    start on. Raises `ToxproxyError`.
    """
    try:
        await asyncio.to_thread(ask, state.path, "allow", key=key.hex())
    except NotRunning:
        with state.lock():
            Access(AccessSettings(), state).allow(key)
        return None
    return f"client {short(key)} is allowed; it connects by itself"
