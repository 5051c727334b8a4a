"""What the ends of the rivals written here have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def both(*directions: Coroutine[Any, Any, None]) -> None:
    """Carry both directions until both have ended. If one fails, the other is cancelled."""
    tasks = [asyncio.create_task(direction) for direction in directions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
