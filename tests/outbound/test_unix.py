"""The server's way to Unix sockets: only those that a rule names, and what it meets there."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from toxproxy.address import Target, parse_unix_target
from toxproxy.config.settings import ExitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.trail import Trail
from toxproxy.relay.stream import ByteStream
from toxproxy.rules import Rules, parse_rules
from toxproxy.system import local


def exit_for(permit: str, deny: str = "") -> Exit:
    rules = Rules(parse_rules(permit), parse_rules(deny) if deny else ())
    return Exit(ExitSettings(connect_timeout=2.0), rules)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"you said " + await reader.read())
    writer.close()


async def ask(exit: Exit, path: Path | str, trail: Trail | None = None) -> bytes:
    transport, stream = await exit.dial(ByteStream, parse_unix_target(f"unix:{path}"), trail=trail)
    transport.write(b"hello")
    transport.write_eof()
    found = b""
    while data := await stream.read():
        found += data
    transport.close()
    return found


async def refused(exit: Exit, path: Path | str) -> StreamRefused:
    with pytest.raises(StreamRefused) as caught:
        await ask(exit, path)
    return caught.value


async def test_a_socket_that_a_rule_names(tmp_path: Path) -> None:
    path, trail = tmp_path / "x.sock", Trail()
    async with await asyncio.start_unix_server(answer, path):
        assert await ask(exit_for(f"*:*, unix:{path}"), path, trail) == b"you said hello"
    assert (trail.permitted, str(trail.rule), trail.addresses) == (True, f"unix:{path}", ())


async def test_nothing_else_permits_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    async with await asyncio.start_unix_server(answer, path):
        for permit in ("*:*", "self:*", f"unix:{tmp_path}", f"unix:{path}2", "*unix*:1"):
            assert (await refused(exit_for(permit), path)).code is Refusal.NOT_PERMITTED, permit
        assert (
            await refused(exit_for(f"unix:{path}", deny=f"unix:{path}"), path)
        ).code is Refusal.NOT_PERMITTED


async def test_a_rule_with_a_link_is_met_by_both_spellings_and_denied_by_either(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run").symlink_to(tmp_path / "run")
    real, spelled = tmp_path / "run" / "x.sock", tmp_path / "var" / "run" / "x.sock"
    async with await asyncio.start_unix_server(answer, real):
        for path in (real, spelled):
            assert await ask(exit_for(f"unix:{spelled}"), path) == b"you said hello"
            for denied in (real, spelled):
                exit = exit_for(f"unix:{spelled}", deny=f"unix:{denied}")
                assert (await refused(exit, path)).code is Refusal.NOT_PERMITTED


async def test_a_link_that_leads_to_a_permitted_socket_is_not_followed_for_a_client(tmp_path: Path) -> None:
    path, link = tmp_path / "x.sock", tmp_path / "link"
    link.symlink_to(path)
    async with await asyncio.start_unix_server(answer, path):
        assert (await refused(exit_for(f"unix:{path}"), link)).code is Refusal.NOT_PERMITTED


@pytest.mark.parametrize("spelled", ["{0}/../{1}/x.sock", "{0}/./x.sock", "{0}//x.sock", "{0}/x.sock/"])
async def test_another_way_to_write_the_path_is_not_permitted(tmp_path: Path, spelled: str) -> None:
    path = tmp_path / "x.sock"
    target = Target("unix:" + spelled.format(tmp_path, tmp_path.name), 1)  # as a hostile client may send it
    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(StreamRefused) as caught:
            await exit_for(f"unix:{path}").dial(ByteStream, target)
        assert caught.value.code is Refusal.NOT_PERMITTED


async def test_a_path_that_is_changed_between_judging_and_connecting(tmp_path: Path, monkeypatch) -> None:
    permitted, other = tmp_path / "x.sock", tmp_path / "other.sock"
    reached = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(True)
        writer.close()

    real: Callable[[str], str] = local.real
    judged = []

    def switch(path: str) -> str:
        found = real(path)
        judged.append(path)
        if len(judged) == 3:  # the rules have judged what the path was resolved to
            os.unlink(permitted)
            os.symlink(other, permitted)
        return found

    async with (
        await asyncio.start_unix_server(answer, permitted),
        await asyncio.start_unix_server(note, other),
    ):
        exit = exit_for(f"unix:{permitted}")
        monkeypatch.setattr(local, "real", switch)
        await refused(exit, permitted)
        await asyncio.sleep(0.05)
    assert len(judged) == 3
    assert reached == []


async def test_what_is_met_at_a_permitted_path(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    exit = exit_for(f"unix:{path}")
    assert (await refused(exit, path)).code is Refusal.CONNECTION_REFUSED
    path.write_text("a file")
    assert (await refused(exit, path)).code is Refusal.CONNECTION_REFUSED
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert (await refused(exit, path)).code is Refusal.CONNECTION_REFUSED


async def test_a_socket_whose_backlog_is_full_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    exit = exit_for(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            assert (await refused(exit, path)).code is Refusal.TIMED_OUT
            dialling = asyncio.create_task(exit.dial(ByteStream, parse_unix_target(f"unix:{path}")))
            await asyncio.sleep(0.1)
            assert not dialling.done()
            server.accept()[0].close()
            transport, _ = await dialling
            transport.abort()
