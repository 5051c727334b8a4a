"""`toxproxy invite` and `toxproxy join` in processes, and then the commands that they print."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.end.clients import curl
from tests.end.commands import Command, toxproxy
from tests.inbound.http_origin import BIG, HttpOrigin
from tests.ports import unused_port
from tests.tox.pair import PRIVATE, Diary
from toxproxy.demo.network import Process
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node

_TOX = "[tox]\nbootstrap = 127.0.0.1:{port}:{key}\nlocal_discovery = no\nport = 22000-22999\n"


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[None]:
    """A node of a private network, and in `folder` a file for a server and one for `--tox`."""
    async with Node(PRIVATE, StateFolder(folder / "node"), "node", Diary()) as node:
        tox = _TOX.format(port=node.udp_port, key=node.dht_key.hex())
        (folder / "server.ini").write_text(tox + "[access]\npermit = 127.0.0.1:*\n")
        (folder / "tox.ini").write_text(tox)
        yield


async def paired(stack: AsyncExitStack, folder: Path, port: int) -> tuple[Command, Command]:
    """Run `invite` and the `join` that it prints. Both have ended well."""
    server, client = ("--state", folder / "server.state"), ("--state", folder / "client.state")
    invite = await stack.enter_async_context(toxproxy(folder, "invite", "server.ini", *server))
    await invite.until(r"^  toxproxy join .*\n")
    words = invite.words()
    options = ("--tox", "tox.ini", "--port", port, *client)
    join = await stack.enter_async_context(toxproxy(folder, "join", *words, *options))
    assert await join.ended() == 0, join.said + invite.said
    assert await invite.ended() == 0, join.said + invite.said
    return invite, join


def check_words(command: Command) -> str:
    (words,) = re.findall(r"^  check words: (\w+ \w+)$", command.said, re.MULTILINE)
    return str(words)


async def test_a_client_joins_a_running_server_by_words_and_fetches_a_page(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(HttpOrigin())
        await stack.enter_async_context(network(tmp_path))
        server = Process("server", tmp_path)
        stack.push_async_callback(server.stop)
        await server.start((tmp_path / "server.ini").read_text())
        port = unused_port()
        invite, join = await paired(stack, tmp_path, port)
        assert check_words(invite) == check_words(join)
        assert server.ready["tox_id"] in join.said
        assert "toxproxy server" not in invite.said
        assert any("is allowed" in line for line in server.tail)
        assert (tmp_path / "cfg.ini").stat().st_mode & 0o777 == 0o600
        client = await stack.enter_async_context(toxproxy(tmp_path, *join.printed("client")))
        await client.until("connected to the server")
        assert "waits to be let in" not in "\n".join(server.tail)
        got = await curl("--proxy", f"socks5h://127.0.0.1:{port}", f"{web.url}/big")
        assert got.out == BIG
        assert f"curl -x socks5h://127.0.0.1:{port} URL" in join.said


async def test_words_before_the_first_start_of_the_server_and_then_the_printed_commands(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(HttpOrigin())
        await stack.enter_async_context(network(tmp_path))
        port = unused_port()
        invite, join = await paired(stack, tmp_path, port)
        assert check_words(invite) == check_words(join)
        await stack.enter_async_context(toxproxy(tmp_path, *invite.printed("server")))
        client = await stack.enter_async_context(toxproxy(tmp_path, *join.printed("client")))
        await client.until("connected to the server")
        got = await curl("--proxy", f"socks5h://127.0.0.1:{port}", f"{web.url}/big")
        assert got.out == BIG


async def test_a_wrong_word_is_said_at_both_ends_and_nothing_is_written(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(network(tmp_path))
        server, client = ("--state", tmp_path / "server.state"), ("--state", tmp_path / "client.state")
        invite = await stack.enter_async_context(toxproxy(tmp_path, "invite", "server.ini", *server))
        await invite.until(r"^  toxproxy join .*\n")
        words = invite.words()
        words[-1] = "zone" if words[-1] != "zone" else "zoo"
        join = await stack.enter_async_context(
            toxproxy(tmp_path, "join", *words, "--tox", "tox.ini", *client)
        )
        assert await join.ended() == 1
        assert await invite.ended() == 1
        assert "a word is wrong. The invitation is over: ask for a new one" in join.said
        assert "somebody came with a wrong word and was told nothing. The invitation is over" in invite.said
        assert "1 attempt with these words reached this machine" in invite.said
        assert not (tmp_path / "cfg.ini").exists()
        assert not (tmp_path / "server.state" / "clients.json").exists()
