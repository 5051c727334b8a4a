"""How connections end, as seen by the programs at both ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.end.clients import run
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_netcat_gets_the_whole_answer_after_its_half_close(network: PrivateNetwork) -> None:
    host, port = network.listener("ended")
    question = bytes(range(256)) * 4096
    got = await run("nc", "-N", host, str(port), stdin=question)
    assert (got.status, got.out) == (0, b"%d bytes: %s" % (len(question), question))


async def test_a_reset_by_the_service_is_a_reset_for_the_client(network: PrivateNetwork) -> None:
    reader, writer = await asyncio.open_connection(*network.listener("broken"))
    writer.write(b"hello\n")
    assert await reader.readline() == b"heard hello\n"
    writer.write(b"go away\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
