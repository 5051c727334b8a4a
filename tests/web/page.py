"""One page in a browser that a test looks at and clicks in."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

PATIENCE = 120


class Tab:
    """One page, by commands on a WebSocket. What it logs and what fails in it is in `complaints`."""

    events: tuple[str, ...]  # that are complaints

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **params: object) -> Any:
        """A command of the protocol, and its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE)
            if message.get("id") == self._number:
                assert self.succeeded(message), message
                return message["result"]
            if message.get("method") in self.events:
                self.complaints.append(json.dumps(message["params"]))

    def succeeded(self, message: dict[str, Any]) -> bool:
        """Whether the answer to a command says so."""
        raise NotImplementedError

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        raise NotImplementedError

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        raise NotImplementedError

    async def _press_at(self, x: float, y: float) -> None:
        raise NotImplementedError

    async def until(self, script: str) -> Any:
        """Wait until an expression has a value that is true."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not (value := await self.evaluate(script)):
            assert loop.time() < end, (
                script,
                self.complaints,
                await self.evaluate("document.body.innerText"),
            )
            await asyncio.sleep(0.1)
        return value

    async def click(self, element: str) -> None:
        """Click with the mouse in the middle of what a script finds."""
        script = f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); "
        script += "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        await self._press_at(*await self.evaluate(script))
