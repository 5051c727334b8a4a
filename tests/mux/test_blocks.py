"""PACKED frames at the receiver: accepted where they were agreed on, and harmless."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import RemoteProtocolError, ResetCode
from toxproxy.mux import frames
from toxproxy.mux.compression import HISTORY, Decompressor
from toxproxy.mux.frames import MAX_RAW, Data, Hello, Open, Opened, Packed
from toxproxy.mux.sender import SendState

from .blocks import block_of, carry, kinds, log, noise
from .pair import TARGET, Pair, a_receiver, breaks_the_protocol, decoded

# When they are agreed on


def test_an_uncompressed_stream_has_no_blocks_in_either_direction() -> None:
    pair = Pair()
    near = pair.client.mux.open(TARGET, compress=False)
    sent = pair.client.take()
    kind = frames.TCP | frames.PLAIN
    assert decoded(sent) == [Open(1, kind, near.receiver.limit, TARGET.port, TARGET.host)]
    pair.client.deliver(sent)
    far = pair.server.mux.streams[near.id]
    pair.server.mux.accept(far)
    pair.exchange()
    assert set(kinds(carry(pair.client, near, far, log(1)))) == {Data}
    assert set(kinds(carry(pair.server, far, near, log(1)))) == {Data}


def test_a_stream_opened_by_the_server_is_compressed_too() -> None:
    pair = Pair()
    for compress, kind in ((True, Packed), (False, Data)):
        far = pair.server.mux.open(TARGET, compress=compress)
        pair.exchange()
        near = pair.client.mux.streams[far.id]
        pair.client.mux.accept(near)
        pair.exchange()
        assert set(kinds(carry(pair.server, far, near, log(1)))) == {kind}
        assert set(kinds(carry(pair.client, near, far, log(1)))) == {kind}


def test_an_opener_that_forbids_blocks_may_still_send_them() -> None:
    pair = Pair()
    pair.server.hear(Open(1, frames.TCP | frames.PLAIN, 1 << 20, 80, "host"))
    pair.server.hear(Packed(1, 0, 1000, block_of(bytes(1000))))
    far = pair.server.mux.streams[1]
    assert pair.server.received(far) == bytes(1000)
    pair.server.mux.accept(far)
    pair.server.mux.write(far, bytes(50_000))
    assert set(kinds(decoded(pair.server.take()))) == {Data}


class TestAPeerThatKnowsNoCompression:
    """A peer whose HELLO has no feature bits."""

    HELLO = Hello(2, 2, 7, 0, 1 << 20, 100)

    def client(self) -> Pair:
        pair = Pair(established=False)
        pair.client.take()
        pair.client.hear(self.HELLO)
        return pair

    def server(self) -> Pair:
        pair = Pair(established=False)
        pair.server.hear(self.HELLO)
        pair.server.hear(Open(1, frames.TCP, 1 << 20, 80, "host"))
        pair.server.mux.accept(pair.server.mux.streams[1])
        pair.server.take()
        return pair

    @pytest.mark.parametrize("compress", [True, False])
    def test_gets_only_open_and_data_frames_that_it_knows(self, compress: bool) -> None:
        client = self.client().client
        stream = client.mux.open(TARGET, compress=compress)
        client.mux.write(stream, log(1)[:100_000])
        opening, *data = decoded(client.take())
        assert isinstance(opening, Open)
        assert opening.kind == frames.TCP
        assert {type(frame) for frame in data} == {Data}

    def test_gets_plain_data_from_a_server(self) -> None:
        server = self.server().server
        server.mux.write(server.mux.streams[1], log(1)[:100_000])
        assert {type(frame) for frame in decoded(server.take())} == {Data}

    def test_must_not_send_blocks_to_a_client(self) -> None:
        pair = self.client()
        stream = pair.client.mux.open(TARGET)
        pair.client.hear(Opened(stream.id, 1000))
        with pytest.raises(RemoteProtocolError, match="takes none"):
            pair.client.hear(Packed(1, 0, 5, block_of(b"hello")))

    def test_must_not_send_blocks_to_a_server(self) -> None:
        server = self.server().server
        with pytest.raises(RemoteProtocolError, match="takes none"):
            server.hear(Packed(1, 0, 5, block_of(b"hello")))


# Bad blocks

GOOD = block_of(log(1)[:2000])
BAD_BLOCKS = {
    "cut short": (2000, GOOD[:-9], "a block of 1[0-9]+ bytes, 2000 were declared"),
    "cut to a byte": (2000, GOOD[:1], "not LZ4"),
    "more than declared": (1999, GOOD, "holds more than 1999 bytes"),
    "a bomb": (100, block_of(bytes(4_000_000)), "holds more than 100 bytes"),
    "less than declared": (2001, GOOD, "a block of 2000 bytes, 2001 were declared"),
    "nothing": (1, b"\x00", "a block of 0 bytes, 1 were declared"),
    "garbage": (1000, noise(300, 5), "not LZ4"),
    "a reference to before the start": (16, b"\x00\x00\x01\xc0hello, world", "not LZ4"),
}


def reaching_back(distance: int) -> bytes:
    """A block of 16 bytes: the 4 bytes at `distance` before it, and twelve literals."""
    return b"\x00" + distance.to_bytes(2, "little") + b"\xc0hello, world"


def test_the_history_is_the_last_16384_bytes_of_blocks() -> None:
    pair = Pair()
    near, far = pair.connect()
    old, plain = log(1)[:20_000], noise(100)
    pair.server.hear(Packed(near.id, 0, 12_000, block_of(old[:12_000])))
    pair.server.hear(Packed(near.id, 12_000, 8_000, block_of(old[12_000:], old[:12_000][-16384:])))
    pair.server.hear(Data(near.id, 20_000, plain))
    pair.server.hear(Packed(near.id, 20_100, 16, reaching_back(16384)))
    assert pair.server.received(far) == old + plain + old[-16384:][:4] + b"hello, world"
    frame = Packed(near.id, 20_116, 16, reaching_back(16385))
    breaks_the_protocol(pair.server, frame, "not LZ4")


@pytest.mark.parametrize("bad", BAD_BLOCKS)
def test_a_bad_block_ends_the_session(bad: str) -> None:
    length, block, match = BAD_BLOCKS[bad]
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair.server, Packed(near.id, 0, length, block), match)


def test_a_block_beyond_the_credit_is_not_decompressed() -> None:
    pair = Pair()
    near, far = pair.connect()
    limit = far.receiver.limit
    for start in range(0, limit, MAX_RAW):
        pair.server.hear(Packed(near.id, start, MAX_RAW, block_of(bytes(MAX_RAW))))
    breaks_the_protocol(pair.server, Packed(near.id, limit, 1, b"bad"), f"credit was {limit}")


def test_a_block_after_the_end() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.finish(near)
    pair.exchange()
    frame = Packed(near.id, 1, 5, block_of(b"hello"))
    breaks_the_protocol(pair.server, frame, "after FIN")


def test_a_late_block_is_no_error() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.write(near, log(1)[:50_000])
    late = pair.client.take()
    assert set(kinds(decoded(late))) == {Packed}
    pair.server.mux.reset(far, ResetCode.CANCELLED)
    for packet in late:
        pair.server.receive(packet.frames)
    assert not pair.server.received(far)


def test_blocks_of_an_ignored_stream_are_credited() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.server.mux.ignore(far)
    pair.client.mux.write(near, log(1)[:150_000])
    pair.client.mux.finish(near)
    pair.exchange()
    assert not pair.server.received(far)
    assert near.sender.state is SendState.DONE


def test_a_bomb_takes_no_more_memory_than_it_declares() -> None:
    bomb = block_of(bytes(2_000_000))
    tracemalloc.start()
    try:
        for length in (100, MAX_RAW):
            with pytest.raises(RemoteProtocolError, match=f"holds more than {length} bytes"):
                Decompressor().unpack(bomb, length)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_RAW


@given(
    st.integers(0, MAX_RAW + 1),
    st.binary(max_size=300) | st.builds(lambda cut: GOOD[:cut], st.integers(1, 900)),
)
def test_arbitrary_bytes_are_a_block_or_the_peers_error(length: int, block: bytes) -> None:
    receiver = a_receiver(1 << 20, compress=True)
    first = log(1)[: 2 * HISTORY]
    assert receiver.take(0, len(first), block_of(first), packed=True)
    assert receiver.read(1 << 20) == first
    try:
        frame, _ = frames.decode(frames.encode(Packed(1, len(first), length, block)))
        assert isinstance(frame, Packed)
        assert receiver.take(frame.offset, frame.offset + frame.length, frame.block, packed=True)
    except RemoteProtocolError:
        return
    assert len(receiver.ready) == length
