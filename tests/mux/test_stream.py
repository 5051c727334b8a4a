"""The sender and the receiver of a stream: every transition, and what is not allowed."""

from __future__ import annotations

import pytest

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.frames import Credit, Data, Fin
from toxproxy.mux.stream import HIGH_WATER, Receiver, ReceiveState, Sender, SendState


def sender_in(state: SendState) -> Sender:
    """A sender in `state` that has sent 3 bytes."""
    sender = Sender(100)
    sender.write(b"abc")
    sender.next_frame(1, 10)
    if state is not SendState.READY:
        sender.finish()
    if state in (SendState.FINISHED, SendState.DONE):
        sender.next_frame(1, 10)
    if state is SendState.DONE:
        sender.credited(4, 100)
    assert sender.state is state
    return sender


def receiver_in(state: ReceiveState) -> Receiver:
    """A receiver in `state` that has got 3 bytes."""
    receiver = Receiver(100)
    receiver.data(0, 3)
    if state is not ReceiveState.OPEN:
        receiver.fin(3)
    if state is ReceiveState.DONE:
        receiver.consume(4)
    assert receiver.state is state
    return receiver


class TestSender:
    def test_bytes_are_sent_in_order_in_pieces_of_any_size(self) -> None:
        sender = Sender(100)
        for piece in (b"a", b"", b"bcdef", b"gh"):
            sender.write(piece)
        sent = [frames.decode(sender.next_frame(7, 3)) for _ in range(3)]
        assert sent == [Data(7, 0, b"abc"), Data(7, 3, b"def"), Data(7, 6, b"gh")]
        assert not sender.sendable
        assert sender.buffered == 0

    def test_no_byte_is_sent_beyond_the_credit(self) -> None:
        sender = Sender(4)
        sender.write(b"abcdef")
        assert frames.decode(sender.next_frame(7, 100)) == Data(7, 0, b"abcd")
        assert not sender.sendable
        sender.credited(0, 5)
        assert frames.decode(sender.next_frame(7, 100)) == Data(7, 4, b"e")

    def test_credit_never_shrinks(self) -> None:
        sender = Sender(100)
        sender.credited(0, 50)
        assert sender.limit == 100

    def test_fin_follows_everything_written(self) -> None:
        sender = Sender(100)
        sender.write(b"abc")
        sender.finish()
        sent = [frames.decode(sender.next_frame(7, 100)) for _ in range(2)]
        assert sent == [Data(7, 0, b"abc"), Fin(7, 3)]
        assert sender.state is SendState.FINISHED
        assert not sender.sendable

    def test_fin_waits_for_bytes_without_credit(self) -> None:
        sender = Sender(2)
        sender.write(b"abc")
        sender.finish()
        sender.next_frame(7, 100)
        assert not sender.sendable

    def test_fin_needs_no_credit(self) -> None:
        sender = Sender(0)
        sender.finish()
        assert sender.sendable
        assert frames.decode(sender.next_frame(7, 100)) == Fin(7, 0)

    def test_credit_for_the_fin_makes_it_done(self) -> None:
        sender = sender_in(SendState.FINISHED)
        states = []
        for consumed in (0, 3, 4):
            sender.credited(consumed, 100)
            states.append(sender.state)
        assert states == [SendState.FINISHED, SendState.FINISHED, SendState.DONE]

    def test_a_full_buffer_pauses_the_writer(self) -> None:
        sender = Sender(0)
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


class TestReceiver:
    def test_data_then_the_end(self) -> None:
        receiver = receiver_in(ReceiveState.OPEN)
        receiver.data(3, 2)
        receiver.fin(5)
        assert receiver.state is ReceiveState.FINISHED

    def test_the_end_counts_as_one_offset(self) -> None:
        receiver = receiver_in(ReceiveState.FINISHED)
        steps = [(receiver.consume(length), receiver.state) for length in (3, 1)]
        assert steps == [(False, ReceiveState.FINISHED), (True, ReceiveState.DONE)]
        assert frames.decode(receiver.credit(7)) == Credit(7, 4, 104)

    def test_the_end_needs_no_room_in_the_window(self) -> None:
        receiver = Receiver(3)
        receiver.data(0, 3)
        receiver.fin(3)
        assert receiver.state is ReceiveState.FINISHED

    @pytest.mark.parametrize("state", [ReceiveState.FINISHED, ReceiveState.DONE])
    def test_data_after_the_end(self, state: ReceiveState) -> None:
        with pytest.raises(RemoteProtocolError, match="after FIN"):
            receiver_in(state).data(4, 1)

    @pytest.mark.parametrize("state", [ReceiveState.FINISHED, ReceiveState.DONE])
    @pytest.mark.parametrize("offset", [3, 4])
    def test_a_second_end(self, state: ReceiveState, offset: int) -> None:
        with pytest.raises(RemoteProtocolError, match="FIN"):
            receiver_in(state).fin(offset)

    @pytest.mark.parametrize("offset", [0, 2, 4])
    def test_an_end_at_a_wrong_offset(self, offset: int) -> None:
        with pytest.raises(RemoteProtocolError, match="expected 3"):
            receiver_in(ReceiveState.OPEN).fin(offset)

    @pytest.mark.parametrize(
        ("state", "left"), [(ReceiveState.OPEN, 3), (ReceiveState.FINISHED, 4), (ReceiveState.DONE, 0)]
    )
    def test_more_consumed_than_came(self, state: ReceiveState, left: int) -> None:
        receiver_in(state).consume(left)
        with pytest.raises(LocalProtocolError):
            receiver_in(state).consume(left + 1)
