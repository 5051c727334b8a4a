"""The scheduler: which frame is sent next."""

from __future__ import annotations

from collections import Counter, deque

from toxproxy.mux import frames
from toxproxy.mux.events import StreamDrained
from toxproxy.mux.frames import BULK_HEADER, Bulk, Credit, Data, Fin, Frame, Open, Refused, Reset
from toxproxy.mux.limits import Allotment, Limits
from toxproxy.mux.scheduler import Scheduler
from toxproxy.mux.sender import HIGH_WATER, LOW_WATER
from toxproxy.mux.stream import Stream, StreamState

from .blocks import log
from .pair import a_receiver, a_sender, read

SIZE = 100  # bytes of payload


def a_scheduler() -> Scheduler:
    return Scheduler(Allotment(Limits()), deque())


def a_stream(number: int, state: StreamState = StreamState.OPEN, credit: int = 1 << 20) -> Stream:
    return Stream(number, state, a_sender(credit), a_receiver(1000))


def write(scheduler: Scheduler, stream: Stream, data: bytes) -> None:
    stream.sender.write(data)
    scheduler.ready(stream)


def next_packet(scheduler: Scheduler, size: int = SIZE) -> list[Frame]:
    """The frames of the next packet, which has room for BULK of `size` bytes."""
    pieces: list[bytes | memoryview] = []
    scheduler.fill(pieces, size + BULK_HEADER, 0.0)
    return read(b"".join(pieces))


def next_frame(scheduler: Scheduler) -> Frame | None:
    """The next frame, where a packet has only one."""
    packet = next_packet(scheduler)
    assert len(packet) < 2
    return packet[0] if packet else None


def everything(scheduler: Scheduler) -> list[Frame]:
    packets = iter(lambda: next_packet(scheduler), [])
    return [frame for packet in packets for frame in packet]


def test_the_order_is_control_frames_then_credit_then_data() -> None:
    scheduler = a_scheduler()
    one, two = a_stream(1), a_stream(3)
    write(scheduler, one, b"data")
    scheduler.credit(two)
    scheduler.control(frames.encode(Refused(5, 1, "")))
    scheduler.control(frames.encode(Reset(3, 1)))
    assert [type(frame) for frame in everything(scheduler)] == [Refused, Reset, Credit, Data]
    assert not scheduler.wants_to_send


def test_nothing_follows_a_bulk_frame_that_goes_again_in_a_longer_packet() -> None:
    scheduler = a_scheduler()
    bulk, other = a_stream(1), a_stream(3)
    bulk.burst = other.burst = 1 << 17
    pieces: list[bytes | memoryview] = []
    write(scheduler, bulk, bytes(SIZE))
    contents = scheduler.fill(pieces, SIZE + BULK_HEADER, 0.0)
    assert contents is not None
    assert read(b"".join(pieces)) == [Bulk(1, 0, bytes(SIZE))]
    scheduler.lost(contents)
    write(scheduler, other, b"x" * 3)
    assert next_packet(scheduler, 3 * SIZE) == [Data(1, 0, bytes(SIZE))]
    assert next_packet(scheduler, 3 * SIZE) == [Data(3, 0, b"xxx")]


def test_a_small_bulk_frame_is_not_repeated_since_it_must_be_the_last() -> None:
    scheduler = a_scheduler()
    write(scheduler, a_stream(1), bytes(SIZE))
    assert next_packet(scheduler) == [Data(1, 0, bytes(SIZE))]
    pieces: list[bytes | memoryview] = []
    assert scheduler.fill(pieces, 1000, 0.01) is None


def test_a_control_frame_overtakes_queued_bulk_data() -> None:
    scheduler = a_scheduler()
    bulk = a_stream(1)
    write(scheduler, bulk, bytes(50 * SIZE))
    for _ in range(5):
        assert isinstance(next_frame(scheduler), Data)
    scheduler.control(frames.encode(Reset(3, 1)))
    assert next_packet(scheduler)[0] == Reset(3, 1)


def test_large_and_small_writers_share_fairly() -> None:
    scheduler = a_scheduler()
    large, small, tiny = bulk = a_stream(1), a_stream(3), a_stream(5)
    for stream in bulk:
        stream.burst = 1 << 17
    write(scheduler, large, bytes(60 * SIZE))
    for _ in range(600):
        write(scheduler, small, bytes(10))
    for _ in range(6000):
        write(scheduler, tiny, b"x")
    sent: Counter[int] = Counter()
    for turn in range(1, 121):
        frame = next_frame(scheduler)
        assert isinstance(frame, Data)
        sent[frame.stream] += len(frame.payload)
        assert max(sent.values()) - min(sent[n] for n in (1, 3, 5)) <= SIZE, f"after {turn} turns"


def test_a_new_stream_waits_for_one_round_only() -> None:
    scheduler = a_scheduler()
    bulk = [a_stream(number) for number in (1, 3, 5)]
    for stream in bulk:
        write(scheduler, stream, bytes(50 * SIZE))
    next_frame(scheduler)
    newcomer = a_stream(7)
    write(scheduler, newcomer, b"hello")
    turns = [frame for _ in range(4) for frame in next_packet(scheduler)]
    assert Data(7, 0, b"hello") in turns


def some_bulk(scheduler: Scheduler, *numbers: int) -> list[Stream]:
    """Streams that have sent enough to count as bulk, and have more to send."""
    streams = [a_stream(number, credit=1 << 40) for number in numbers]
    for stream in streams:
        write(scheduler, stream, bytes(1 << 20))
    while any(stream.burst < 1 << 17 for stream in streams):
        next_packet(scheduler, 10_000)
    return streams


def senders(scheduler: Scheduler, turns: int) -> list[int]:
    found = []
    for _ in range(turns):
        frame = next_frame(scheduler)
        assert isinstance(frame, Data)
        found.append(frame.stream)
    return found


def test_a_short_exchange_overtakes_bulk_data() -> None:
    scheduler = a_scheduler()
    some_bulk(scheduler, 1, 3, 5, 7)
    write(scheduler, a_stream(9), bytes(3 * SIZE))
    assert senders(scheduler, 4)[:3] == [9, 9, 9]


def test_many_short_exchanges_do_not_starve_bulk_data() -> None:
    scheduler = a_scheduler()
    some_bulk(scheduler, 1, 3)
    for number in range(101, 301, 2):
        write(scheduler, a_stream(number), bytes(2 * SIZE))
    turns = senders(scheduler, 90)
    assert turns.count(1) == turns.count(3) == 5


def test_bulk_streams_share_evenly() -> None:
    scheduler = a_scheduler()
    some_bulk(scheduler, 1, 3, 5)
    assert Counter(senders(scheduler, 300)) == {1: 100, 3: 100, 5: 100}


def test_objects_of_a_page_go_one_after_the_other() -> None:
    scheduler = a_scheduler()
    for number in (1, 3, 5):
        write(scheduler, a_stream(number), bytes(20 * SIZE))
    assert senders(scheduler, 60) == [1] * 20 + [3] * 20 + [5] * 20


def test_a_keystroke_and_a_smaller_object_overtake_a_larger_one() -> None:
    scheduler = a_scheduler()
    write(scheduler, a_stream(1), bytes(100 * SIZE))
    assert senders(scheduler, 10) == [1] * 10
    write(scheduler, a_stream(3), bytes(20 * SIZE))
    write(scheduler, a_stream(5), b"k" * SIZE)
    assert next_packet(scheduler)[0] == Data(5, 0, b"k" * SIZE)
    assert senders(scheduler, 21) == [3] * 20 + [1]


def test_an_object_does_not_wait_for_ever_for_smaller_ones() -> None:
    scheduler = a_scheduler()
    write(scheduler, a_stream(1), bytes(50 * SIZE))
    sent = 0
    for number in range(3, 10_000, 2):
        write(scheduler, a_stream(number), bytes(20 * SIZE))
        turns = senders(scheduler, 20)
        sent += turns.count(1)
        if sent == 50:
            break
    assert (number - 3) // 2 * 20 <= 32 * 50 + 50


def test_bytes_that_are_written_one_by_one_do_not_overtake() -> None:
    scheduler = a_scheduler()
    slow = a_stream(1)
    for _ in range(100 * SIZE):
        write(scheduler, slow, b"x")
    write(scheduler, a_stream(3), bytes(20 * SIZE))
    assert senders(scheduler, 22) == [1] + [3] * 20 + [1]


def test_a_stream_that_has_sent_much_becomes_bulk() -> None:
    scheduler = a_scheduler()
    some_bulk(scheduler, 1)
    late = a_stream(3)
    write(scheduler, late, bytes(1 << 20))
    turns = senders(scheduler, 2000)
    assert turns[:500].count(3) > 400
    assert abs(turns[-500:].count(3) - 250) <= 1


def test_the_burst_count_of_an_idle_stream_decays_while_others_send() -> None:
    scheduler = a_scheduler()
    (rests, goes_on) = some_bulk(scheduler, 1, 3)
    while rests.sender.buffered:
        next_packet(scheduler, 10_000)
    write(scheduler, goes_on, bytes(1 << 20))
    while goes_on.sender.buffered > 1 << 18:
        next_packet(scheduler, 10_000)
    write(scheduler, rests, b"a keystroke")
    assert next_packet(scheduler)[0] == Data(1, 1 << 20, b"a keystroke")


def test_a_data_frame_is_no_larger_than_asked_for() -> None:
    scheduler = a_scheduler()
    write(scheduler, a_stream(1), bytes(SIZE + 1))
    sizes = [len(frame.payload) for frame in everything(scheduler) if isinstance(frame, Data)]
    assert sizes == [SIZE, 1]


def test_a_stream_without_credit_does_not_delay_the_others() -> None:
    scheduler = a_scheduler()
    stuck, free = a_stream(1, credit=10), a_stream(3)
    write(scheduler, stuck, bytes(100))
    write(scheduler, free, bytes(300))
    sent: Counter[int] = Counter()
    for frame in everything(scheduler):
        if isinstance(frame, Data):
            sent[frame.stream] += len(frame.payload)
    assert sent == {1: 10, 3: 300}
    assert not scheduler.wants_to_send
    stuck.sender.credited(10, 100)
    scheduler.ready(stuck)
    assert len(everything(scheduler)) == 1


def test_queued_credits_of_one_stream_are_sent_once_with_the_latest_values() -> None:
    scheduler = a_scheduler()
    stream = a_stream(1)
    stream.receiver.take(0, 900, bytes(900))
    for _ in range(3):
        stream.receiver.read(300)
        scheduler.credit(stream)
    assert everything(scheduler) == [Credit(1, 900, 1900)]


def test_nothing_of_a_stream_is_sent_after_its_reset() -> None:
    scheduler = a_scheduler()
    stream = a_stream(1)
    write(scheduler, stream, bytes(300))
    scheduler.credit(stream)
    scheduler.control(frames.encode(Reset(1, 2)))
    stream.state = StreamState.CLOSED
    assert everything(scheduler) == [Reset(1, 2)]


def test_bytes_written_before_the_answer_wait_for_it() -> None:
    scheduler = a_scheduler()
    stream = a_stream(2, StreamState.REQUESTED)
    write(scheduler, stream, b"banner")
    assert not scheduler.wants_to_send
    stream.state = StreamState.OPEN
    scheduler.ready(stream)
    assert everything(scheduler) == [Data(2, 0, b"banner")]


def test_a_full_buffer_that_has_room_again_is_reported() -> None:
    scheduler = a_scheduler()
    stream = a_stream(1, credit=HIGH_WATER * 2)
    write(scheduler, stream, bytes(HIGH_WATER + 1))
    left = HIGH_WATER + 1
    while not scheduler._events:
        left -= SIZE
        assert next_packet(scheduler)
    assert list(scheduler._events) == [StreamDrained(stream)]
    assert LOW_WATER - SIZE < left <= LOW_WATER
    everything(scheduler)
    assert list(scheduler._events) == [StreamDrained(stream)]


def test_fin_follows_the_data() -> None:
    scheduler = a_scheduler()
    stream = a_stream(1)
    write(scheduler, stream, b"bye")
    stream.sender.finish()
    scheduler.ready(stream)
    assert everything(scheduler) == [Data(1, 0, b"bye"), Fin(1, 3)]


def test_clear_drops_everything() -> None:
    scheduler = a_scheduler()
    stream = a_stream(1)
    write(scheduler, stream, b"data")
    scheduler.credit(stream)
    scheduler.control(b"")
    scheduler.control(frames.encode(Refused(5, 1, "")))
    scheduler.clear()
    assert everything(scheduler) == []


def test_what_does_not_fit_goes_into_the_next_packet() -> None:
    scheduler = a_scheduler()
    opening = Open(1, 1, 0, 80, "x" * 80)
    for _ in range(2):
        scheduler.control(frames.encode(opening))
    write(scheduler, a_stream(3), b"data")
    assert next_packet(scheduler) == [opening]
    assert next_packet(scheduler) == [opening]
    assert next_packet(scheduler) == [Data(3, 0, b"data")]


def test_a_lost_block_waits_for_a_packet_with_room_and_other_streams_do_not() -> None:
    scheduler = a_scheduler()
    packed = Stream(1, StreamState.OPEN, a_sender(1 << 20, compress=True), a_receiver(1000))
    write(scheduler, packed, log(1)[:10_000])
    pieces: list[bytes | memoryview] = []
    contents = scheduler.fill(pieces, 1000, 0.0)
    assert contents is not None
    scheduler.lost(contents[:1])
    write(scheduler, a_stream(3), b"data")
    assert next_packet(scheduler) == [Data(3, 0, b"data")]
    assert not next_packet(scheduler)
    assert scheduler.wants_to_send, "it still waits"
    again: list[bytes | memoryview] = []
    scheduler.fill(again, 1000, 0.0)
    assert again[0] == pieces[0]


def test_a_download_that_waits_for_credit_stays_bulk() -> None:
    scheduler = a_scheduler()
    waits, _ = some_bulk(scheduler, 1, 3)
    waits.sender.limit = waits.sender.offset
    for _ in range(10):
        senders(scheduler, 50)
        scheduler.ready(waits)
    waits.sender.limit += 1 << 20
    scheduler.ready(waits)
    assert Counter(senders(scheduler, 20)) == {1: 10, 3: 10}
