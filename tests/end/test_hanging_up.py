"""How connections end, as the programs at both ends see it."""

from __future__ import annotations

import asyncio

import pytest

from tests.end.clients import run
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_netcat_gets_the_whole_answer_that_comes_after_its_end(network: PrivateNetwork) -> None:
    host, port = network.listener("ended")
    question = bytes(range(256)) * 4096
    got = await run("nc", "-N", host, str(port), stdin=question)
    assert (got.status, got.out) == (0, b"%d bytes: %s" % (len(question), question))


async def test_a_reset_behind_the_forward_is_a_reset_before_it(network: PrivateNetwork) -> None:
    reader, writer = await asyncio.open_connection(*network.listener("broken"))
    writer.write(b"hello\n")
    assert await reader.readline() == b"heard hello\n"
    writer.write(b"go away\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
