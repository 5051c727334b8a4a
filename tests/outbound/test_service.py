"""What a server answers itself."""

from __future__ import annotations

import asyncio
import socket

import pytest

from toxproxy.address import Target
from toxproxy.config.settings import ExitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound import service
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.service import HOST, Port
from toxproxy.rules import Rules, parse_rule

NOTHING = Rules((parse_rule("127.0.0.1:22"),))


async def refused(way_out: Exit, port: int) -> Refusal | None:
    try:
        transport, _ = await way_out.dial(asyncio.Protocol, Target(HOST, port))
    except StreamRefused as error:
        return error.code
    transport.abort()
    return None


async def test_the_resolver_is_asked_for_a_name_that_cannot_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(code, "")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    way_out = Exit(ExitSettings(), NOTHING)
    code = socket.EAI_NONAME
    assert await refused(way_out, Port.NAMES) is None
    code = socket.EAI_AGAIN
    assert await refused(way_out, Port.NAMES) is Refusal.FAILED
    assert asked == ["names.toxproxy.invalid"] * 2


async def test_a_server_with_an_upstream_does_not_speak_for_its_resolver() -> None:
    way_out = Exit(ExitSettings(upstream="socks5://127.0.0.1:9"), NOTHING)
    assert await refused(way_out, Port.NAMES) is Refusal.UNSUPPORTED


async def test_an_upstream_that_comes_or_goes_later_counts_for_the_resolver_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    way_out = Exit(ExitSettings(), NOTHING)
    guest = way_out.guest()
    assert await refused(guest, Port.NAMES) is None
    way_out.change(ExitSettings(upstream="socks5://127.0.0.1:9"), NOTHING, 5)
    assert await refused(guest, Port.NAMES) is Refusal.UNSUPPORTED
    way_out.change(ExitSettings(), NOTHING, 5)
    assert await refused(guest, Port.NAMES) is None


async def test_all_clients_together_have_a_limit_and_what_has_ended_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "IN_ALL", 3)
    server = Exit(ExitSettings(), NOTHING)
    first, second = server.guest(), server.guest()
    open_ = [await first.dial(asyncio.Protocol, Target(HOST, Port.GENERATE)) for _ in range(3)]
    assert await refused(second, Port.DISCARD) is Refusal.TOO_MANY_STREAMS
    for transport, _ in open_:
        transport.abort()
    async with asyncio.timeout(10):
        while await refused(second, Port.DISCARD) is not None:
            await asyncio.sleep(0.2)


async def test_a_client_begins_so_many_in_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "A_MINUTE", 5)
    way_out = Exit(ExitSettings(), NOTHING).guest()
    outcomes = []
    for _ in range(6):
        outcomes.append(await refused(way_out, Port.DISCARD))
        await asyncio.sleep(0.05)
    assert outcomes == [None] * 5 + [Refusal.TOO_MANY_STREAMS]
