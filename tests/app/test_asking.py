"""The friend request that a client sends to each of its servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alone import ALONE
from toxproxy import config
from toxproxy.address import ToxId
from toxproxy.app.client import Client
from toxproxy.errors import ConfigError
from toxproxy.system.state import StateFolder
from toxproxy.tox.identity import IDENTITY
from toxproxy.tox.pytox import Tox, ToxOptions

REQUEST_BYTES = 1024  # the field for the request after a friend's key (Tox state format, "FRIENDS")


@pytest.fixture
def servers() -> tuple[ToxId, ToxId]:
    nodes = [Tox(ToxOptions(udp_enabled=False, local_discovery_enabled=False)) for _ in range(2)]
    mine, theirs = (ToxId(bytes.fromhex(node.self_get_address())) for node in nodes)
    for node in nodes:
        node.kill()
    return mine, theirs


def asked(identity: bytes, server: ToxId) -> bytes:
    """The friend request to `server` in a saved identity. libtoxcore keeps it until it is answered."""
    start = identity.index(server.public_key) + 32
    return identity[start : start + REQUEST_BYTES]


def forwards(mine: ToxId, theirs: ToxId) -> str:
    return f"[client]\nalarm = 0:10.0.0.5:80:{mine}\nwiki = 0:wiki:80:{theirs}\n"


async def test_each_server_gets_its_own_secret_and_no_names(
    tmp_path: Path, servers: tuple[ToxId, ToxId]
) -> None:
    mine, theirs = servers
    text = f"{ALONE}{forwards(mine, theirs)}[secrets]\n{mine} = opens my home\n"
    async with Client(config.parse(text, "client.ini"), StateFolder(tmp_path)):
        identity = (tmp_path / IDENTITY).read_bytes()
    assert asked(identity, mine).startswith(b"toxproxy opens my home\0")
    assert asked(identity, theirs).startswith(b"toxproxy\0")
    assert identity.count(b"opens my home") == 1
    node = Tox(ToxOptions(savedata_data=identity, udp_enabled=False))
    assert node.self_get_name() == "toxproxy"
    node.kill()
    assert b"alarm" not in identity
    assert b"wiki" not in identity


async def test_a_client_does_not_start_with_one_secret_for_two_servers(
    tmp_path: Path, servers: tuple[ToxId, ToxId]
) -> None:
    text = f"{ALONE}{forwards(*servers)}[access]\nsecret = opens my home\n"
    client = Client(config.parse(text, "client.ini"), StateFolder(tmp_path))
    with pytest.raises(ConfigError, match=r"write, below a line \[secrets\]"):
        async with client:
            pass
    assert not (tmp_path / IDENTITY).exists()
