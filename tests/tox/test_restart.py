"""A node that was killed finds its friend again, though no other node that it could ask is left."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.tox.pair import PATIENCE, PRIVATE, Diary, private_pair
from toxproxy.system.state import StateFolder
from toxproxy.tox import node
from toxproxy.tox.identity import IDENTITY
from toxproxy.tox.node import ConnectionStatus, Node


async def test_a_killed_client_finds_its_server_without_a_bootstrap_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_SAVE_AFTER", 0.5)
    monkeypatch.setattr(node, "_SAVE_EVERY", 0.5)
    async with private_pair(tmp_path) as pair:
        file = tmp_path / "client" / IDENTITY
        before = file.stat().st_mtime_ns
        async with asyncio.timeout(PATIENCE):
            while file.stat().st_mtime_ns == before:
                await asyncio.sleep(0.1)
        shutil.copytree(tmp_path / "client", tmp_path / "killed")  # what a killed process leaves behind
        await pair.client.close()
        diary = Diary()
        async with Node(PRIVATE, StateFolder(tmp_path / "killed"), "client", diary) as client:
            assert client.friends == {pair.server.public_key: pair.server_number}
            await diary.until(lambda: client.friend_connection(pair.server_number) is ConnectionStatus.UDP)
