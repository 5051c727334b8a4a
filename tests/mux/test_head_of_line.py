"""No head-of-line blocking: streams do not wait for lost frames of other streams."""

from __future__ import annotations

import pytest

from toxproxy.mux import frames

from .pair import TARGET, read
from .simulated import Path, Peer, Simulation, joined

WAN = Path(delay=0.025, loss=0.01, rate=12.5e6)
BODY = bytes(range(256)) * 2000  # 512,000 bytes: a few windows


def two_downloads(simulation: Simulation) -> tuple[Peer, list[int]]:
    """A client that downloads two bodies. For a second the beginning of the first is lost."""
    client, server = joined(simulation)
    client.eager = True
    for _ in range(2):
        client.mux.open(TARGET, compress=False)
    client.pump()
    simulation.rest()
    first, until = server.requested[0].id, simulation.now + 1.0

    def loses(packet: bytes) -> bool:
        return simulation.now < until and any(
            isinstance(frame, frames.Data) and (frame.stream, frame.offset) == (first, 0)
            for frame in read(packet)
        )

    server.loses = loses
    for stream in server.requested:
        server.mux.accept(stream)
        server.write(stream, BODY)
    return client, [stream.id for stream in server.requested]


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_packet_delays_only_its_own_stream(seed: int) -> None:
    simulation = Simulation(seed, WAN, window=700_000, timeout=0.01)
    client, (held, free) = two_downloads(simulation)
    simulation.advance(simulation.now + 0.99)
    assert client.got[free] == BODY
    assert held not in client.got
    simulation.rest()
    assert client.got[held] == BODY


def test_an_hour_of_small_exchanges_on_a_bad_link() -> None:
    simulation = Simulation(1, Path(delay=0.1, loss=0.2, rate=1e5))
    client, server = joined(simulation)
    server.eager = client.eager = True
    for second in range(0, 3600, 10):
        stream = client.mux.open(TARGET)
        client.write(stream, b"%d" % second)
        client.finish(stream)
        simulation.advance(simulation.now + 5)
        for request in list(server.requested):
            server.mux.accept(request)
            server.requested.remove(request)
            server.write(request, bytes(server.got[request.id]))
            server.finish(request)
        simulation.advance(simulation.now + 5)
    simulation.rest()
    assert b"".join(client.got.values()) == b"".join(b"%d" % second for second in range(0, 3600, 10))
    assert not client.mux.streams
    assert not server.mux.streams
