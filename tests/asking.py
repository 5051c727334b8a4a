"""Requests on the control socket of an end that may run in the same loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from toxproxy.control import client


async def request(folder: Path, method: str, **params: object) -> Any:
    """The only answer; see `control.client.ask`."""
    return await asyncio.to_thread(client.ask, folder, method, **params)
