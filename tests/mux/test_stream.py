"""The sender and the receiver of a stream: every transition, and what is not allowed."""

from __future__ import annotations

import pytest

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.frames import DATA_HEADER, Bulk, Credit, Data, Fin
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.sender import HIGH_WATER, Segment, Sender, SendState
from toxproxy.mux.stream import Stream, StreamState

from .pair import a_receiver, a_sender

STREAM = 0x1_0001  # too high for BULK frames


def take(sender: Sender, most: int) -> Segment:
    """What the sender sends next, with at most `most` bytes of payload."""
    segment = sender.take(Stream(STREAM, StreamState.OPEN, sender, a_receiver(0)), most + DATA_HEADER)
    assert segment is not None
    return segment


def take_frame(sender: Sender, most: int) -> frames.Frame:
    """The same as a frame."""
    return read(take(sender, most))


def read(segment: Segment) -> frames.Frame:
    return frames.decode(segment.frame)[0]


def came(receiver: Receiver, start: int, data: bytes) -> bool:
    return receiver.take(start, start + len(data), data)


def sender_in(state: SendState) -> Sender:
    """A sender in `state` that has sent 3 bytes."""
    sender = a_sender(100)
    sender.write(b"abc")
    take(sender, 10)
    if state is not SendState.READY:
        sender.finish()
    if state in (SendState.FINISHED, SendState.DONE):
        take(sender, 10)
    if state is SendState.DONE:
        sender.credited(4, 100)
    assert sender.state is state
    return sender


def receiver_in(state: str) -> Receiver:
    """A receiver that has got 3 bytes, and is "open", "finished" or "done"."""
    receiver = a_receiver(100)
    came(receiver, 0, b"abc")
    if state != "open":
        receiver.fin(3)
    if state == "done":
        assert [receiver.read(9) for _ in range(3)] == [b"abc", b"", None]
    assert (receiver.finished, receiver.done) == (state != "open", state == "done")
    return receiver


class TestSender:
    def test_bytes_are_sent_in_order_in_pieces_of_any_size(self) -> None:
        sender = a_sender(100)
        for piece in (b"a", b"", b"bcdef", b"gh"):
            sender.write(piece)
        sent = [take_frame(sender, 3) for _ in range(3)]
        assert sent == [Data(STREAM, 0, b"abc"), Data(STREAM, 3, b"def"), Data(STREAM, 6, b"gh")]
        assert not sender.sendable
        assert sender.buffered == 0

    def test_no_byte_is_sent_beyond_the_credit(self) -> None:
        sender = a_sender(4)
        sender.write(b"abcdef")
        assert take_frame(sender, 100) == Data(STREAM, 0, b"abcd")
        assert not sender.sendable
        sender.credited(0, 5)
        assert take_frame(sender, 100) == Data(STREAM, 4, b"e")

    def test_credit_never_shrinks(self) -> None:
        sender = a_sender(100)
        sender.credited(0, 50)
        assert sender.limit == 100

    def test_fin_follows_everything_written(self) -> None:
        sender = a_sender(100)
        sender.write(b"abc")
        sender.finish()
        sent = [take_frame(sender, 100) for _ in range(2)]
        assert sent == [Data(STREAM, 0, b"abc"), Fin(STREAM, 3)]
        assert sender.state is SendState.FINISHED
        assert not sender.sendable

    def test_fin_waits_for_bytes_without_credit(self) -> None:
        sender = a_sender(2)
        sender.write(b"abc")
        sender.finish()
        take(sender, 100)
        assert not sender.sendable

    def test_fin_needs_no_credit(self) -> None:
        sender = a_sender(0)
        sender.finish()
        assert sender.sendable
        assert take_frame(sender, 100) == Fin(STREAM, 0)

    def test_credit_for_the_fin_makes_it_done(self) -> None:
        sender = sender_in(SendState.FINISHED)
        states = []
        for consumed in (0, 3, 4):
            sender.credited(consumed, 100)
            states.append(sender.state)
        assert states == [SendState.FINISHED, SendState.FINISHED, SendState.DONE]

    def test_a_full_buffer_pauses_the_writer(self) -> None:
        sender = a_sender(0)
        sender.write(bytes(HIGH_WATER))
        assert not sender.full
        sender.write(b"x")
        assert sender.full

    @pytest.mark.parametrize("state", [SendState.FINISHING, SendState.FINISHED, SendState.DONE])
    def test_nothing_is_written_after_the_end(self, state: SendState) -> None:
        with pytest.raises(LocalProtocolError):
            sender_in(state).write(b"x")

    @pytest.mark.parametrize("state", [SendState.FINISHING, SendState.FINISHED, SendState.DONE])
    def test_a_second_finish_changes_nothing(self, state: SendState) -> None:
        sender = sender_in(state)
        sender.finish()
        assert sender.state is state

    @pytest.mark.parametrize(
        ("state", "most"),
        [(SendState.READY, 3), (SendState.FINISHING, 3), (SendState.FINISHED, 4), (SendState.DONE, 4)],
    )
    def test_credit_for_what_was_never_sent(self, state: SendState, most: int) -> None:
        sender_in(state).credited(most, 100)
        with pytest.raises(RemoteProtocolError, match="sent were 3"):
            sender_in(state).credited(most + 1, 100)

    @pytest.mark.parametrize("state", SendState)
    def test_dropped_from_any_state(self, state: SendState) -> None:
        sender = sender_in(state)
        sender.drop()
        assert sender.state is SendState.DONE
        assert not sender.sendable

    def test_lost_bytes_go_before_new_ones_and_need_no_credit(self) -> None:
        sender = a_sender(6)
        sender.write(b"abcdefgh")
        first, second = take(sender, 3), take(sender, 3)
        assert not sender.sendable
        sender.lost(first)
        assert sender.sendable
        assert take(sender, 3) is first
        sender.credited(0, 100)
        sender.lost(second)
        assert take(sender, 100) is second
        assert take_frame(sender, 100) == Data(STREAM, 6, b"gh")

    def test_a_lost_segment_is_split_to_fit_and_two_are_not_merged(self) -> None:
        sender = a_sender(100)
        sender.write(b"abcdefgh")
        for segment in [take(sender, 5), take(sender, 3)]:
            sender.lost(segment)
        again = [take_frame(sender, 3) for _ in range(3)]
        assert again == [Data(STREAM, 0, b"abc"), Data(STREAM, 3, b"de"), Data(STREAM, 5, b"fgh")]

    def test_a_lost_bulk_frame_is_split_to_fit(self) -> None:
        sender = a_sender(100)
        sender.write(b"abcdefghijkl")
        stream = Stream(7, StreamState.OPEN, sender, a_receiver(0))
        whole = sender.take(stream, frames.BULK_HEADER + 12)
        assert whole is not None
        assert read(whole) == Bulk(7, 0, b"abcdefghijkl")
        sender.lost(whole)
        first = sender.take(stream, frames.BULK_HEADER + 9)
        assert first is whole
        assert read(first) == Bulk(7, 0, b"abcdefghi")
        rest = sender.take(stream, 100)
        assert rest is not None
        assert read(rest) == Data(7, 9, b"jkl")
        for segment in (first, rest):
            sender.delivered(segment)
        sender.drop()
        assert not sender.sendable

    def test_bytes_that_arrived_meanwhile_are_not_sent_again(self) -> None:
        sender = a_sender(100)
        sender.write(b"abcdefgh")
        first, second = take(sender, 4), take(sender, 4)
        sender.delivered(first)
        sender.lost(first)
        assert not sender.sendable
        sender.lost(second)
        sender.lost(second)
        sender.delivered(second)
        stream = Stream(7, StreamState.OPEN, sender, a_receiver(0))
        assert sender.take(stream, 100) is None
        assert not sender.sendable

    def test_a_segment_that_was_split_and_arrives_as_a_whole_counts_for_its_first_part(self) -> None:
        sender = a_sender(100)
        sender.write(b"abcdefgh")
        whole = take(sender, 8)
        sender.lost(whole)
        assert take_frame(sender, 5) == Data(STREAM, 0, b"abcde")
        sender.lost(whole)  # another packet carried it as a whole
        rest = take(sender, 5)
        assert read(rest) == Data(STREAM, 5, b"fgh")
        assert take_frame(sender, 5) == Data(STREAM, 0, b"abcde")
        sender.lost(rest)
        sender.delivered(whole)
        assert take(sender, 5) is rest
        assert not sender.sendable
        sender.delivered(rest)
        assert sender._held == 0

    def test_a_lost_fin_is_sent_again_unless_the_peer_knows_of_it(self) -> None:
        sender = sender_in(SendState.FINISHING)
        fin = take(sender, 100)
        sender.lost(fin)
        assert take_frame(sender, 100) == Fin(STREAM, 3)
        sender.credited(4, 100)
        sender.lost(fin)
        assert not sender.sendable


class TestReceiver:
    def news(self, receiver: Receiver) -> tuple[bytes, bool]:
        """What became contiguous since the last call, and whether the end did."""
        pieces = list(iter(lambda: receiver.read(2), None))
        return b"".join(pieces), b"" in pieces

    def test_data_then_the_end(self) -> None:
        receiver = receiver_in("open")
        came(receiver, 3, b"de")
        receiver.fin(5)
        assert self.news(receiver) == (b"abcde", True)
        assert receiver.finished

    def test_the_end_before_the_data(self) -> None:
        receiver = a_receiver(100)
        receiver.fin(5)
        came(receiver, 3, b"de")
        assert self.news(receiver) == (b"", False)
        came(receiver, 0, b"abc")
        assert self.news(receiver) == (b"abcde", True)
        assert receiver.finished

    def test_overlaps_are_trimmed(self) -> None:
        receiver = a_receiver(1000)
        for start, end in [(2, 5), (2, 4), (4, 8), (2, 6), (7, 9), (0, 3), (0, 9), (8, 10)]:
            assert came(receiver, start, b"0123456789"[start:end])
        assert self.news(receiver) == (b"0123456789", False)

    def test_the_end_counts_as_one_offset(self) -> None:
        receiver = receiver_in("finished")
        steps = [(receiver.read(9), receiver.due, receiver.done) for _ in range(2)]
        assert steps == [(b"abc", False, False), (b"", True, True)]
        assert frames.decode(receiver.credit(7))[0] == Credit(7, 4, 104)

    def test_the_end_needs_no_room_in_the_window(self) -> None:
        receiver = a_receiver(3)
        came(receiver, 0, b"abc")
        receiver.fin(3)
        assert receiver.finished

    @pytest.mark.parametrize("state", ["finished", "done"])
    @pytest.mark.parametrize("start", [2, 3, 4])
    def test_data_after_the_end(self, state: str, start: int) -> None:
        with pytest.raises(RemoteProtocolError, match="after FIN"):
            came(receiver_in(state), start, b"xy")

    @pytest.mark.parametrize("state", ["finished", "done"])
    def test_data_and_the_end_again(self, state: str) -> None:
        receiver = receiver_in(state)
        self.news(receiver)
        assert came(receiver, 0, b"abc")
        receiver.fin(3)
        assert self.news(receiver) == (b"", False)
        assert receiver.done

    @pytest.mark.parametrize("state", ["finished", "done"])
    @pytest.mark.parametrize("offset", [2, 4])
    def test_another_end(self, state: str, offset: int) -> None:
        with pytest.raises(RemoteProtocolError, match="FIN"):
            receiver_in(state).fin(offset)

    @pytest.mark.parametrize("offset", [0, 2])
    def test_an_end_before_bytes_that_came(self, offset: int) -> None:
        with pytest.raises(RemoteProtocolError, match="data came up to 3"):
            receiver_in("open").fin(offset)

    def test_an_end_before_bytes_that_came_out_of_order(self) -> None:
        receiver = a_receiver(100)
        came(receiver, 10, b"abc")
        with pytest.raises(RemoteProtocolError, match="data came up to 13"):
            receiver.fin(12)

    def test_an_end_beyond_the_credit(self) -> None:
        with pytest.raises(RemoteProtocolError, match="credit was 100"):
            a_receiver(100).fin(101)
