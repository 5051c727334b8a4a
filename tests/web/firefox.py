"""A headless Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.web.page import PATIENCE, Tab

COMMAND = next((name for name in ("firefox-esr", "firefox") if shutil.which(name)), None)

# What Firefox asks of others by itself goes to a proxy that there is not; it looks no name up.
_PREFERENCES = {
    "network.proxy.type": 1,
    "network.proxy.socks": "127.0.0.1",
    "network.proxy.socks_port": 9,
    "network.proxy.socks_remote_dns": True,
    "network.proxy.no_proxies_on": "127.0.0.1",
    "network.proxy.allow_hijacking_localhost": False,
    "network.dns.disabled": True,
    "network.trr.mode": 5,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.update.disabledForTesting": True,
    "services.settings.server": "http://127.0.0.1:9",
}


class FirefoxTab(Tab):
    """One page."""

    events = ("log.entryAdded",)
    _context = ""

    def succeeded(self, message: dict[str, Any]) -> bool:
        return bool(message["type"] == "success")

    async def open(self, url: str) -> None:
        """Begin a session, and load a page."""
        await self.call("session.new", capabilities={})
        await self.call("session.subscribe", events=["log.entryAdded"])
        self._context = (await self.call("browsingContext.getTree"))["contexts"][0]["context"]
        await self.call(
            "browsingContext.setViewport", context=self._context, viewport={"width": 400, "height": 900}
        )
        await self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, script: str) -> Any:
        got = await self.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert got["type"] == "success", got
        return json.loads(got["result"]["value"])

    async def _press_at(self, x: float, y: float) -> None:
        actions = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._act({"type": "pointer", "id": "mouse", "actions": actions})

    async def type(self, text: str) -> None:
        actions = [{"type": kind, "value": each} for each in text for kind in ("keyDown", "keyUp")]
        await self._act({"type": "key", "id": "keyboard", "actions": actions})

    async def _act(self, source: dict[str, object]) -> None:
        await self.call("input.performActions", context=self._context, actions=[source])


@asynccontextmanager
async def tab(folder: Path, url: str) -> AsyncIterator[FirefoxTab]:
    """Firefox with one page. Its profile is in `folder`."""
    assert COMMAND is not None
    (folder / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"),
        "about:blank",
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin:/usr/local/bin", "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ready = folder / "WebDriverBiDiServer.json"
        async with asyncio.timeout(2 * PATIENCE):
            while not ready.exists() or not ready.read_text():
                await asyncio.sleep(0.1)
        port = json.loads(ready.read_text())["ws_port"]
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{port}/session", max_msg_size=0) as socket,
        ):
            page = FirefoxTab(socket)
            await page.open(url)
            yield page
            await page.call("browser.close")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
