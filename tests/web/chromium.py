"""A headless Chromium, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.web.page import PATIENCE, Tab

CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # Chromium's own requests find no name server.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
    "--window-size=400,900",  # a phone's
]


class ChromiumTab(Tab):
    """One page."""

    events = ("Runtime.exceptionThrown", "Log.entryAdded")

    def succeeded(self, message: dict[str, Any]) -> bool:
        return "error" not in message

    async def evaluate(self, script: str) -> Any:
        got = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    async def _press_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)


@asynccontextmanager
async def tab(folder: Path, url: str) -> AsyncIterator[ChromiumTab]:
    """Chromium with one page."""
    process = await asyncio.create_subprocess_exec(
        *CHROMIUM, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as http:
            async with asyncio.timeout(PATIENCE):
                while not (ready := folder / "DevToolsActivePort").exists() or not ready.read_text():
                    await asyncio.sleep(0.1)
                port = int(ready.read_text().split()[0])
                while not (pages := await _pages(http, port)):
                    await asyncio.sleep(0.1)
            async with http.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = ChromiumTab(socket)
                for domain in ("Runtime", "Log", "Page"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                await page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
                yield page
    finally:
        process.kill()
        await process.wait()


async def _pages(http: aiohttp.ClientSession, port: int) -> list[Any]:
    async with http.get(f"http://127.0.0.1:{port}/json/list") as response:
        return [each for each in await response.json() if each["type"] == "page"]
