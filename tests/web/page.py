"""One page in a browser that a test looks at and clicks in."""

from __future__ import annotations

import asyncio
from typing import Any

PATIENCE = 60


class Tab:
    """One page. Console messages and failures of the page are collected in `complaints`."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

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
