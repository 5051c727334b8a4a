"""PINGs that wait for their PONG."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pings:
    """Matches answers with questions. What was not asked is ignored."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[float, asyncio.Future[float]]] = {}

    @contextmanager
    def asking(self) -> Iterator[tuple[int, asyncio.Future[float]]]:
        """A block with the value of a PING, and a future with the seconds until its PONG."""
        value = secrets.randbits(64)
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._asked[value] = time.monotonic(), answer  # the loop's clock may stand still for a millisecond
        try:
            yield value, answer
        finally:
            self._asked.pop(value, None)

    def answered(self, value: int) -> None:
        """PONG came."""
        if (asked := self._asked.pop(value, None)) is not None and not asked[1].done():
            asked[1].set_result(time.monotonic() - asked[0])
