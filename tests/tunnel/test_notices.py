"""Log lines about what a friend's connections do: one friend's flood hides no other friend's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.tunnel.ends import Ends, echo, service, tunnel
from toxproxy.address import Target
from toxproxy.dialer import P
from toxproxy.errors import StreamRefused
from toxproxy.patience import Patience

IMPATIENT = Patience(idle=0.05)
SILENT = "a connection was reset: no byte came for 0.05 s ([limits] idle)"
FAILED = "opening a connection to 127.0.0.1:1 failed"


class BrokenExit:
    """An exit with a bug."""

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        raise ZeroDivisionError


async def silence(ends: Ends, port: int) -> None:
    """Open a connection and let it be reset for its silence."""
    reader, _ = await ends.open(port)
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)


async def failure(ends: Ends) -> None:
    """Open a connection at which the exit fails."""
    ends.far._host._exit = BrokenExit()
    with pytest.raises(StreamRefused, match="internal error"):
        await ends.open(1)


async def test_silent_connections_of_one_friend_do_not_hide_anothers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with tunnel(patience=IMPATIENT) as one, tunnel(patience=IMPATIENT) as other, service(echo) as port:
        await silence(one, port)
        await silence(one, port)
        await silence(other, port)
    assert caplog.messages.count(SILENT) == 2


async def test_a_failing_exit_of_one_friend_does_not_hide_anothers(caplog: pytest.LogCaptureFixture) -> None:
    async with tunnel() as one, tunnel() as other:
        for _ in range(7):
            await failure(one)
        await failure(other)
    assert caplog.messages.count(FAILED) == 6


async def test_a_new_session_does_not_let_a_friend_flood_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with tunnel(patience=IMPATIENT) as ends, service(echo) as port:
        await silence(ends, port)
        before = ends.near
        before.close("restart")
        async with asyncio.timeout(10):
            while not ends.near_end.ready or ends.near is before:
                await asyncio.sleep(0.01)
        await silence(ends, port)
    assert caplog.messages.count(SILENT) == 1
