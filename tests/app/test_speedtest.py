"""The speed test, and the services of the server that it uses, between two ends on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.app.test_control_plane import Ends, command, running
from toxproxy.control.encoding import decoded
from toxproxy.control.speeds import SpeedPhase, SpeedSnapshot
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound import service
from toxproxy.outbound.service import COUNT, HOST, Port

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    """A client that is connected to a server which permits little."""
    async with running(tmp_path_factory.mktemp("ends"), "allow = *\n") as ends:
        await ends.connected()
        yield ends


async def opened(ends: Ends, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await ends.client.open_connection(HOST, port)


async def closed(ends: Ends) -> None:
    """Wait until no stream is left at either end."""
    async with asyncio.timeout(20):
        while ends.client.streams or ends.server.streams:
            await asyncio.sleep(0.02)


async def test_both_directions_are_measured_with_their_loss_and_what_the_load_adds(ends: Ends) -> None:
    done = await ends.ask("client", "speedtest", "--seconds", "2", "--json")
    assert done.status == 0, done.err
    shots = [decoded(SpeedSnapshot, json.loads(line)) for line in done.out.splitlines()]
    phases = list(dict.fromkeys(shot.phase for shot in shots))
    assert phases == [SpeedPhase.LATENCY, SpeedPhase.DOWNLOAD, SpeedPhase.UPLOAD, SpeedPhase.FINISHED]
    last = shots[-1]
    assert last.peer_key == ends.server.node.public_key.hex().upper()
    assert last.idle_rtt_ms is not None
    for direction in (last.download, last.upload):
        assert direction is not None
        assert direction.moved_bytes > direction.bytes_per_s > 0
        assert direction.loss_share is not None
        assert 0 <= direction.loss_share < 0.2
        assert direction.rtt_ms is not None
    await closed(ends)


async def test_people_are_told_in_a_few_lines(ends: Ends) -> None:
    done = await ends.ask("client", "speedtest", "--seconds", "2")
    assert done.status == 0, done.err
    first, empty, down, up, *_ = done.out.splitlines()
    assert first.startswith(f"Server {ends.server.node.public_key.hex().upper()[:12]}, direct: ")
    assert empty == ""
    assert down.startswith("  download  ")
    assert up.startswith("  upload    ")
    assert "Mbit/s" in up
    assert "under load (" in up


async def test_one_test_runs_at_a_time_and_a_server_starts_none(ends: Ends) -> None:
    first = asyncio.create_task(ends.ask("client", "speedtest", "--seconds", "2"))
    await asyncio.sleep(2.5)
    second = await ends.ask("client", "speedtest")
    assert (second.status, "a speed test is running already" in second.err) == (1, True)
    assert (await first).status == 0
    there = await ends.ask("server", "speedtest")
    assert (there.status, "is started at the client" in there.err) == (1, True)


async def test_without_a_client_it_says_what_to_start(tmp_path: Path) -> None:
    done = await command("speedtest", "--state", tmp_path)
    assert done.status == 1
    assert "no toxproxy runs with state" in done.err


async def test_a_server_that_has_no_such_services_is_named_as_older(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HOST", "nobody.asks.for.this.invalid")  # where the exit looks
    done = await ends.ask("client", "speedtest")
    assert (done.status, done.out) == (1, "")
    assert done.err == "toxproxy: the server has no speed test: it runs an older toxproxy\n"
    checks = (await ends.ask("client", "doctor")).out
    assert "-      clock          not known: the server does not tell\n" in checks


# The services


async def test_the_clock_of_the_server_is_told(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "now", lambda: 1_800_000_000.5)
    reader, writer = await opened(ends, Port.TIME)
    assert COUNT.unpack(await asyncio.wait_for(reader.read(), 20)) == (1_800_000_000_500,)
    writer.close()
    await closed(ends)


async def test_what_is_discarded_is_counted_to_the_last_byte(ends: Ends) -> None:
    reader, writer = await opened(ends, Port.DISCARD)
    writer.write(bytes(300_001))
    writer.write_eof()
    data = await asyncio.wait_for(reader.read(), 20)
    counts = [count for (count,) in COUNT.iter_unpack(data)]
    assert counts == sorted(counts)
    assert counts[-1] == 300_001
    writer.close()
    await closed(ends)


async def test_a_client_has_few_connections_to_the_server_itself_and_each_ends(
    ends: Ends,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writers = [(await opened(ends, Port.GENERATE))[1] for _ in range(service.AT_ONCE)]
    with pytest.raises(StreamRefused) as caught:
        await opened(ends, Port.DISCARD)
    assert caught.value.code is Refusal.TOO_MANY_STREAMS
    for each in writers:
        each.transport.abort()
    await closed(ends)
    monkeypatch.setattr(service, "SECONDS", 0.5)
    reader, writer = await opened(ends, Port.GENERATE)
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
    writer.close()
    await closed(ends)


async def test_a_service_that_there_is_not_is_refused(ends: Ends) -> None:
    with pytest.raises(StreamRefused) as caught:
        await opened(ends, 80)
    assert caught.value.code is Refusal.CONNECTION_REFUSED
