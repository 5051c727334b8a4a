"""What a client remembers of its servers: only whether they have let it in before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.alone import ALONE
from toxproxy import config
from toxproxy.address import parse_tox_id
from toxproxy.app.client import Client
from toxproxy.app.known import KnownServers
from toxproxy.control.snapshots import PeerState
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import ConnectionStatus

KEY = b"\x2a" * 32
SERVER = parse_tox_id("0" * 76)


def test_a_server_is_known_from_the_first_meeting_on(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    known = KnownServers(state)
    known.read()
    assert not known.knows(KEY)
    known.met(KEY)
    again = KnownServers(state)
    again.read()
    assert again.knows(KEY)
    assert not again.knows(bytes(32))
    assert list(json.loads((tmp_path / "servers.json").read_bytes())) == [KEY.hex().upper()]
    before = (tmp_path / "servers.json").stat().st_ino
    again.met(KEY)
    assert (tmp_path / "servers.json").stat().st_ino == before, "it is written once"


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"nonsense"])
def test_a_damaged_file_knows_nobody_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "servers.json").write_bytes(content)
    known = KnownServers(StateFolder(tmp_path))
    known.read()
    assert not known.knows(KEY)
    known.met(KEY)
    assert known.knows(KEY)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = KnownServers(StateFolder(tmp_path))
    (tmp_path / "servers.json").mkdir()
    known.met(KEY)
    assert known.knows(KEY)
    assert "servers.json cannot be written" in caplog.text


@pytest.mark.parametrize(("known", "state"), [(False, PeerState.WAITING), (True, PeerState.OFFLINE)])
async def test_a_server_that_is_known_is_off_and_another_is_asked(
    tmp_path: Path, known: bool, state: PeerState
) -> None:
    if known:
        KnownServers(StateFolder(tmp_path)).met(SERVER.public_key)
    text = f"{ALONE}[socks]\nbrowser = 0:{SERVER}\n"
    async with Client(config.parse(text, "client.ini"), tmp_path) as client:
        (peer,) = client.peers()
        assert peer.state is PeerState.CONNECTING, "the network is not found yet"
        client.node.connection = ConnectionStatus.UDP
        (peer,) = client.peers()
        assert peer.state is state
