"""[compress] in a client's configuration applies to the listeners that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from toxproxy import config
from toxproxy.address import Target
from toxproxy.app.client import Client
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.friend import Friend

TOX_ID = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
TEXT = f"""\
[tox]
bootstrap = none
local_discovery = no
port = 26000-26999
[client]
web = 0:127.0.0.1:80:{TOX_ID}
ssh = 0:127.0.0.1:22:{TOX_ID}
[socks]
browser = 0:{TOX_ID}
[compress]
ssh = no
"""
CONNECT = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"  # RFC 1928: to 127.0.0.1:443


async def test_each_listener_dials_with_or_without_compression_as_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, bool] = {}

    async def dial(
        friend: Friend,
        protocol_factory: Callable[[], asyncio.Protocol],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        asked[target.port] = compress
        raise StreamRefused(Refusal.OFFLINE, "this server is never found")

    monkeypatch.setattr(Friend, "dial", dial)
    async with Client(config.parse(TEXT, "client.ini"), StateFolder(tmp_path)) as client:
        for listening in client.listening():
            host, _, port = listening.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(CONNECT)
            with suppress(ConnectionError):
                async with asyncio.timeout(5):
                    await reader.read(-1)
            writer.close()
    assert asked == {80: True, 22: False, 443: True}
