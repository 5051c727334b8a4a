"""The page in a browser."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.web import chromium, firefox
from tests.web.page import Tab
from tests.web.site import PATIENCE, SECRET, Site
from toxproxy.app.client import Client
from toxproxy.control.snapshots import PeerState
from toxproxy.system.state import StateFolder

pytestmark = pytest.mark.asyncio(loop_scope="session")

_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass
class Download:
    """A running download, and what its client counted in the last seconds."""

    counts: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=100_000))
    total: int = 0

    async def read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.total += len(data)
            self.counts.append((asyncio.get_running_loop().time(), self.total))

    def rate(self, seconds: float) -> float:
        """Bytes a second, of the last `seconds`."""
        at, total = self.counts[-1]
        then, before = next(each for each in self.counts if at - each[0] <= seconds)
        return (total - before) / (at - then)


@asynccontextmanager
async def downloading(site: Site) -> AsyncIterator[Download]:
    reader, writer = await asyncio.open_connection(*site.forward("flow"))
    download = Download()
    reading = asyncio.create_task(download.read(reader))
    try:
        yield download
    finally:
        reading.cancel()
        writer.transport.abort()
        await site.idle()


Open = Callable[[str], AbstractAsyncContextManager[Tab]]


@pytest.fixture(params=["chromium", "firefox"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the page at an address in a browser, and logs in."""
    name: str = request.param
    if (shutil.which(name) if name == "chromium" else firefox.COMMAND) is None:
        pytest.skip(f"this system has no {name}")
    tab = chromium.tab if name == "chromium" else firefox.tab

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Tab]:
        async with tab(tmp_path, f"{url}/") as browser:
            await browser.until("!document.getElementById('login').hidden")
            await browser.click("document.getElementById('secret')")
            await browser.type(SECRET)
            await browser.click("document.querySelector('#login button')")
            await browser.until("document.querySelector('.peer .state') !== null")
            yield browser

    return opened


def bytes_of(text: str) -> float:
    """What `size` of the page wrote, as a number."""
    number, unit = text.removesuffix("/s").split()
    return float(number) * _UNITS[unit]


async def test_the_rate_of_a_download_is_the_one_that_its_client_counts(site: Site, page: Open) -> None:
    async with downloading(site) as download, page(site.client_page) as browser:
        await asyncio.sleep(7)
        async with asyncio.timeout(60):  # a busy machine may be late, now and then
            while True:
                shown = await browser.evaluate("document.querySelector('.peer .one').textContent")
                if bytes_of(shown) == pytest.approx(download.rate(5), rel=0.1):
                    break
                await asyncio.sleep(1)
        drawn = await browser.evaluate("document.querySelector('.chart polyline').getAttribute('points')")
        assert len(drawn.split()) >= 5
        assert len({point.split(",")[1] for point in drawn.split()}) > 1
        verdict = await browser.evaluate("document.getElementById('verdict').textContent")
        assert re.fullmatch(r"Connected to the server, direct( \(\d+ ms\))?\.", verdict)
        assert "the page about this end" in await browser.evaluate(
            "document.querySelector('#log').textContent"
        )
        wide = await browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert wide
        errors = [each for each in browser.complaints if '"level": "error"' in each or "exception" in each]
        assert [each for each in errors if "401" not in each] == []  # 401: before the login


async def test_exactly_the_connection_that_is_clicked_is_closed(site: Site, page: Open) -> None:
    async with (
        site.talking() as (first, _),
        site.talking() as (second, _),
        site.talking() as (third, last),
        page(site.client_page) as browser,
    ):
        ids = [each["id"] for each in await site.streams()]
        row = f"document.querySelector('#streams li[data-key=\"{ids[1]}\"]')"
        await browser.until(f"{row} !== null")
        assert await browser.evaluate("document.querySelectorAll('#streams li').length") == 3
        await browser.click(f"{row}.querySelector('button')")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(second.read(), PATIENCE)
        await browser.until(f"{row} === null")
        assert [each["id"] for each in await site.streams()] == [ids[0], ids[2]]
        last.write(b"still")
        assert await asyncio.wait_for(third.readexactly(5), PATIENCE) == b"still"
        assert not first.at_eof()
        await browser.click("document.getElementById('search')")
        await browser.type("no such target")
        await browser.until("document.querySelectorAll('#streams li').length === 0")
    await site.idle()


async def test_a_client_that_waits_is_let_in_by_a_click(site: Site, page: Open, tmp_path: Path) -> None:
    async with (
        Client(site.stranger.config, StateFolder(tmp_path / "state")) as stranger,
        page(site.server_page) as browser,
    ):
        key = stranger.node.public_key.hex().upper()
        row = f"document.querySelector('#waiting li[data-key=\"{key}\"]')"
        await browser.until(f"{row} !== null")
        assert stranger.peers()[0].state is PeerState.WAITING
        words = await browser.evaluate(f"{row}.querySelector('.words').textContent")
        assert words == stranger.status().end.words
        await browser.click(f"{row}.querySelector('button')")
        async with asyncio.timeout(PATIENCE):
            while stranger.peers()[0].state is not PeerState.CONNECTED:
                await asyncio.sleep(0.1)
        await browser.until(f"{row} === null")


async def test_the_doctor_is_a_click_away(site: Site, page: Open) -> None:
    async with page(site.client_page) as browser:
        await browser.click("document.getElementById('checkup')")
        told = "document.getElementById('told').textContent"
        await browser.until(f"{told}.startsWith('Everything works')")
        assert "ok     other end" in await browser.evaluate(told)
        assert await browser.evaluate("!document.getElementById('speedtest').hidden")


async def test_a_name_with_markup_is_text(site: Site, page: Open) -> None:
    async with page(site.server_page) as browser:
        titles = await browser.until("[...document.querySelectorAll('.peer h2')].map(e => e.textContent)")
        assert any(title.startswith("<b onclick=alert(1)>laptop</b> · ") for title in titles)
        assert await browser.evaluate("document.querySelectorAll('b').length") == 0


async def test_a_script_that_got_into_the_page_does_not_run(site: Site, page: Open) -> None:
    async with page(site.client_page) as browser:
        script = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">');"
        script += "const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
        script += "document.body.append(made)"
        await browser.evaluate(f"(() => {{ {script} }})()")
        await asyncio.sleep(0.5)
        assert await browser.evaluate("window.ran === undefined")
        assert any(
            "Content Security Policy" in each or "Content-Security" in each for each in browser.complaints
        )
