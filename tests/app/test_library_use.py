"""Mistakes of a program that opens connections through a `Client` are reported clearly."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxproxy.address import parse_tox_id
from toxproxy.app.client import Client
from toxproxy.config.parsing import parse
from toxproxy.errors import ConfigError
from toxproxy.system.state import StateFolder

FIRST, SECOND = "0" * 76, "1" * 72 + "0000"  # the XOR of the byte pairs of each is 0: the checksums are right


def client(folder: Path, *servers: str) -> Client:
    """A client of these servers, not started."""
    forwards = "".join(f"forward{n} = 0:127.0.0.1:9:{server}\n" for n, server in enumerate(servers))
    return Client(parse(f"[client]\n{forwards}", "client.ini"), StateFolder(folder / "state"))


@pytest.mark.parametrize("port", [0, 70000])
async def test_an_impossible_port_is_an_error_at_once(tmp_path: Path, port: int) -> None:
    with pytest.raises(ValueError, match=f"expected a port from 1 to 65535, found '{port}'"):
        await client(tmp_path, FIRST).open_connection("127.0.0.1", port)


def test_with_two_servers_one_must_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"2 servers: choose one with server=: {FIRST}, {SECOND}"):
        client(tmp_path, FIRST, SECOND).dialer()


def test_a_server_outside_the_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the server 111111111111 is not in the configuration"):
        client(tmp_path, FIRST).dialer(parse_tox_id(SECOND))
