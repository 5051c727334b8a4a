"""Pictures of the page. `make pictures` keeps them in docs/pictures; here they are only looked at."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.web import chromium
from tests.web.site import SECRET, Site
from tests.web.test_page import downloading

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT = os.environ.get("TOXPROXY_PICTURES")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="this system has no chromium")
@pytest.mark.parametrize(("name", "width", "scheme"), [("page", 1100, "light"), ("page-phone", 400, "dark")])
async def test_the_page_is_drawn(site: Site, tmp_path: Path, name: str, width: int, scheme: str) -> None:
    async with downloading(site), site.talking(), chromium.tab(tmp_path, f"{site.client_page}/") as browser:
        await browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        await browser.call("Emulation.setScrollbarsHidden", hidden=True)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await browser.call("Emulation.setEmulatedMedia", features=[feature])
        await browser.until("!document.getElementById('login').hidden")
        await browser.click("document.getElementById('secret')")
        await browser.type(SECRET)
        await browser.click("document.querySelector('#login button')")
        await browser.until("document.querySelectorAll('#streams li').length === 2")
        await asyncio.sleep(60 if KEPT else 3)  # the charts need some seconds to look like charts
        got = await browser.call("Page.captureScreenshot", format="png")
        dark = await browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        background = await browser.evaluate("getComputedStyle(document.body).backgroundColor")
    await site.idle()
    picture = base64.b64decode(got["data"])
    assert struct.unpack(">II", picture[16:24]) == (width, 900)  # PNG's IHDR
    assert len(picture) > 10_000  # an empty page has less
    red, green, blue = map(int, background.removeprefix("rgb(").removesuffix(")").split(","))
    assert dark == (scheme == "dark") == (red + green + blue < 3 * 128)
    if KEPT:
        await asyncio.to_thread((Path(KEPT) / f"{name}.png").write_bytes, picture)
