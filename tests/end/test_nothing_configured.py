"""Two machines on one network, nothing configured, no way out: six words, and the printed commands."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.end.commands import Command, toxproxy
from tests.isolated import needs_namespaces

pytestmark = needs_namespaces

PATIENCE = 150  # seconds; the whole test takes about 25 where little else runs


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, timeout=20)


@pytest.fixture
def places() -> Iterator[dict[str, tuple[str, ...]]]:
    """A machine `there` and one `here`, joined by a cable."""
    names = {name: f"toxproxy-words-{os.getpid()}-{name}" for name in ("there", "here")}
    made = []
    try:
        for name in names.values():
            ip(f"netns add {name}")
            made.append(name)
            ip(f"-n {name} link set lo up")
        there, here = names.values()
        ip(f"-n {there} link add eth type veth peer name eth netns {here}")
        for number, name in enumerate(made, 1):
            ip(f"-n {name} addr add 192.168.77.{number}/24 brd + dev eth")
            ip(f"-n {name} link set eth up")
        yield {name: ("ip", "netns", "exec", made) for name, made in names.items()}
    finally:
        for name in made:
            ip(f"netns del {name}")


@asynccontextmanager
async def web(folder: Path, place: tuple[str, ...]) -> AsyncIterator[None]:
    """A web server in `place`, on port 8000 of its loopback, with one page."""
    (folder / "index.html").write_text("this is a page\n")
    server = ("python3", "-m", "http.server", "8000", "--bind", "127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        *(*place, *server), cwd=folder, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def page(place: tuple[str, ...], command: str) -> bytes:
    """What a printed curl command fetches; it is run again until it ends well."""
    line = command.replace("URL", "http://127.0.0.1:8000/").split()
    async with asyncio.timeout(PATIENCE):
        while True:
            process = await asyncio.create_subprocess_exec(
                *place, *line, "-sS", stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            if process.returncode == 0:
                return out
            await asyncio.sleep(0.2)


async def test_a_page_after_six_words_and_no_id(tmp_path: Path, places: dict[str, tuple[str, ...]]) -> None:
    folders = {name: tmp_path / name for name in places}
    for folder in folders.values():
        folder.mkdir()
    async with AsyncExitStack() as stack:

        async def run(name: str, *arguments: str) -> Command:
            return await stack.enter_async_context(toxproxy(folders[name], *arguments, place=places[name]))

        await stack.enter_async_context(web(tmp_path, places["there"]))
        invite = await run("there", "invite")
        await invite.until(r"^  toxproxy join .*\n")
        join = await run("here", "join", *invite.words())
        assert await join.ended() == 0, join.said + invite.said
        assert await invite.ended() == 0, join.said + invite.said
        await run("there", *invite.printed("server .*--permit"))
        await run("here", *join.printed("client"))
        (curl,) = re.findall(r"^  (curl .*)$", join.said, re.MULTILINE)
        assert await page(places["here"], curl) == b"this is a page\n"
