"""Properties of every session, for any acts of the two applications and any mischief of the path."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from toxproxy.errors import Refusal, ResetCode, StreamRefused
from toxproxy.mux.limits import Limits, Pool
from toxproxy.mux.stream import Stream, StreamState

from .pair import TARGET
from .simulated import Path, Peer, Simulation, joined, unread

Act = Callable[["Play", Peer, int, int], None]


class Play:
    """Two peers and the acts of a script. Every byte written differs from its neighbours."""

    def __init__(self, simulation: Simulation, client: Limits, server: Limits) -> None:
        self.simulation = simulation
        self.peers = joined(simulation, client=client, server=server)
        self.cut_off: set[int] = set()  # streams that were refused or reset
        self._bytes = count()

    def open(self, peer: Peer, _: int, early: int) -> None:
        try:
            stream = peer.mux.open(TARGET, compress=bool(early & 2))
        except StreamRefused:
            return
        peer.streams.append(stream)
        if early % 2:
            peer.write(stream, self._fresh(early))
        peer.pump()

    def accept(self, peer: Peer, which: int, _: int) -> None:
        if peer.requested:
            stream = peer.requested.pop(which % len(peer.requested))
            peer.mux.accept(stream)
            peer.streams.append(stream)
            peer.pump()

    def refuse(self, peer: Peer, which: int, _: int) -> None:
        if peer.requested:
            stream = peer.requested[which % len(peer.requested)]
            self.cut_off.add(stream.id)
            peer.mux.refuse(stream, Refusal.FAILED, "no")
            peer.forget(stream)
            peer.pump()

    def write(self, peer: Peer, which: int, length: int) -> None:
        if (stream := _chosen(peer, which)) is not None and stream.id not in peer.finished:
            peer.write(stream, self._fresh(length))

    def finish(self, peer: Peer, which: int, _: int) -> None:
        if (stream := _chosen(peer, which)) is not None:
            peer.finish(stream)

    def reset(self, peer: Peer, which: int, _: int) -> None:
        if (stream := _chosen(peer, which)) is not None:
            self.cut_off.add(stream.id)
            peer.mux.reset(stream, ResetCode.CANCELLED)
            peer.forget(stream)
            peer.pump()

    def consume(self, peer: Peer, which: int, length: int) -> None:
        if (stream := _chosen(peer, which)) is not None:
            peer.consume(stream, length)

    def lose(self, peer: Peer, _: int, milliseconds: int) -> None:
        """All packets of this side are lost for a while."""
        until = self.simulation.now + milliseconds / 1000
        peer.loses = lambda packet: self.simulation.now < until

    def wait(self, _: Peer, __: int, milliseconds: int) -> None:
        self.simulation.advance(self.simulation.now + milliseconds / 1000)

    def curtain(self) -> None:
        """Accept every stream, read everything and finish every stream."""
        for peer in self.peers:
            peer.eager = True
        while True:
            for peer in self.peers:
                while peer.requested:
                    self.accept(peer, 0, 0)
                for stream in list(peer.streams):
                    peer.consume(stream, 1 << 30)
                    if stream.state is not StreamState.CLOSED and stream.id not in peer.finished:
                        peer.finish(stream)
            if self.simulation.next_due is None:
                return
            self.simulation.rest()

    def _fresh(self, length: int) -> bytes:
        return b"".join(next(self._bytes).to_bytes(4) for _ in range(length // 4 + 1))


def _chosen(peer: Peer, which: int) -> Stream | None:
    return peer.streams[which % len(peer.streams)] if peer.streams else None


ACTS: list[Act] = [
    Play.open,
    Play.accept,
    Play.refuse,
    Play.write,
    Play.write,
    Play.finish,
    Play.reset,
    Play.consume,
    Play.consume,
    Play.lose,
    Play.wait,
    Play.wait,
]

MEMORY = 1 << 24  # bytes

limits = st.builds(
    Limits,
    early_window=st.integers(0, 300),
    window=st.sampled_from([1, 300, 600, 100_000]),
    streams=st.integers(1, 6),
    pool=st.builds(Pool, st.just(MEMORY)),
)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """Two peers with low limits, a path that may be narrow, slow and bad, and some opened streams."""
    path = Path(
        delay=draw(st.sampled_from([0.0, 0.01, 0.1])),
        loss=draw(st.sampled_from([0.0, 0.05, 0.4])),
        rate=draw(st.sampled_from([1e3, 1e5, 1e9])),
        reordering=draw(st.sampled_from([0.0, 0.5])),
        duplication=draw(st.sampled_from([0.0, 0.3])),
        mistakes=draw(st.sampled_from([0.0, 0.3])),
    )
    simulation = Simulation(
        draw(st.integers(0, 1 << 32)),
        path,
        window=draw(st.sampled_from([1, 200, 100_000])),
        room=draw(st.sampled_from([300, 500, 1336])),
    )
    play = Play(simulation, draw(limits), draw(limits))
    for early in draw(st.lists(st.integers(0, 500), min_size=1, max_size=4)):
        play.open(play.peers[0], 0, early)
    return play


script = st.lists(
    st.tuples(st.sampled_from(ACTS), st.booleans(), st.integers(0, 9), st.integers(0, 500)),
    min_size=15,
    max_size=80,
)


@settings(max_examples=400)
@given(plays(), script)
def test_every_byte_arrives_in_order_and_every_stream_ends(
    play: Play, script: list[tuple[Act, bool, int, int]]
) -> None:
    for act, first, which, amount in script:
        act(play, play.peers[first], which, amount)
    play.curtain()

    for peer, other in (play.peers, reversed(play.peers)):
        assert not peer.mux.streams, "a stream is left over"
        assert not peer.mux.scheduler.wants_to_send, "a frame is left over"
        assert not peer.mux.closed
        pool = peer.mux.limits.pool
        assert pool is not None
        assert pool.left == MEMORY, "memory is left over"
        for number, written in peer.written.items():
            arrived = other.got.get(number, b"")
            if number in play.cut_off or peer.closed.get(number) is not None:
                assert written.startswith(arrived)
            else:
                assert arrived == written
                assert number in other.ended
                assert (peer.closed[number], other.closed[number]) == (None, None)


@settings(max_examples=60)
@given(plays(), st.integers(1, 5), st.data())
def test_a_stalled_reader_pauses_only_its_own_writer(play: Play, streams: int, data: st.DataObject) -> None:
    client, server = play.peers
    for _ in range(streams):
        play.open(client, 0, 0)
    play.simulation.rest()
    while server.requested:
        play.accept(server, 0, 0)
    play.simulation.rest()
    for which in range(len(client.streams)):
        play.write(client, which, 3000)
    stalled = data.draw(st.sampled_from(server.streams))
    readers = [stream for stream in server.streams if stream is not stalled]
    while play.simulation.next_due is not None or any(map(unread, readers)):
        play.simulation.rest()
        for stream in readers:
            server.consume(stream, 100)

    for stream in server.streams:
        written = client.written[stream.id]
        if stream is stalled:
            limit = stalled.receiver.limit
            assert len(stream.receiver.ready) == min(limit, len(written))
        else:
            assert server.got[stream.id] == written
