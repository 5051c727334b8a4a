"""A headless Chromium, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE = 30

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


class Tab:
    """One page. Console messages and failures of the page are collected in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []

    async def call(self, method: str, **params: object) -> Any:
        """A command of the protocol, and its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        got = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

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
        x, y = await self.evaluate(script)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)


@asynccontextmanager
async def tab(folder: Path, url: str) -> AsyncIterator[Tab]:
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
                page = Tab(socket)
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
