"""The durable link, call by call. The links below it only record what they are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from toxproxy.errors import GoAwayCode, RemoteProtocolError
from toxproxy.link.base import LinkEnd
from toxproxy.mux import frames
from toxproxy.mux.frames import MAX_FRAME, Ack, Counts, Data, Frame, GoAway, Hello, Ping, Resume
from toxproxy.tunnel.durable import MOST_KEPT, DurableLink
from toxproxy.tunnel.events import Loss, PeerBroke, PeerClosed, SessionEnd
from toxproxy.tunnel.session import Session

IDS = (11, 22)
ROOM = 64 * 1024  # bytes
ACK_AFTER = 256 * 1024  # bytes


@dataclass
class Line:
    """A link that records what is sent on it and whether it was closed."""

    room: int = ROOM
    channels: int = 255
    frame_size: int = 1200
    sent: list[tuple[int, Frame]] = field(default_factory=list)
    flushed: int = 0  # how many frames of `sent` have been flushed
    closed: bool = False

    def budget(self) -> int:
        return self.room

    def send(self, channel: int, frame: bytes) -> None:
        assert not self.closed
        self.sent.append((channel, frames.decode(frame)))
        self.room -= len(frame)

    def flush(self) -> None:
        self.flushed = len(self.sent)

    def close(self) -> None:
        self.closed = True


@dataclass
class Diary:
    """A session that only records what it hears."""

    identity: tuple[int, int] | None = IDS
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    ups: int = 0
    readies: int = 0
    error: RemoteProtocolError | None = None
    down: list[object] = field(default_factory=list)

    def link_up(self) -> None:
        self.ups += 1

    def frame_received(self, channel: int, frame: bytes) -> None:
        self.heard.append((channel, frame))

    def link_ready(self) -> None:
        self.readies += 1

    def link_down(self, reason: object) -> None:
        self.down.append(reason)

    def broken(self, error: RemoteProtocolError) -> None:
        self.error = error


class Rig:
    """A durable link, its session, and its latest link, `line`."""

    def __init__(self) -> None:
        self.changes: list[LinkEnd | None] = []
        self.durable = DurableLink(255, self.changes.append)
        self.session = Diary(identity=None)
        self.durable.start(self.session)
        self.line = self.new_line()
        self.session.identity = IDS

    def new_line(self, room: int = ROOM) -> Line:
        self.line = Line(room)
        self.durable.attach(self.line)
        self.durable.link_up()
        return self.line

    def cut(self) -> None:
        self.durable.link_down(LinkEnd.SILENT)

    def send(self, channel: int, number: int) -> None:
        self.durable.send(channel, frames.encode(data(number)))

    def hear(self, channel: int, frame: Frame) -> None:
        self.durable.frame_received(channel, frames.encode(frame))

    def meet(self, *counts: tuple[int, int]) -> None:
        """The peer says RESUME."""
        self.hear(0, Resume(*IDS, counts))


def data(number: int) -> Data:
    return Data(1, number, b"x" * 100)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_on_the_first_link_the_session_sends_first(rig: Rig) -> None:
    assert rig.session.ups == 1
    assert not rig.line.sent
    assert rig.durable.budget() == ROOM
    rig.send(3, 0)
    assert rig.line.sent == [(3, data(0))]
    rig.durable.flush()
    assert rig.line.flushed == 1


async def test_a_session_that_cannot_be_resumed_ends_with_its_first_link(rig: Rig) -> None:
    rig.session.identity = None
    rig.cut()
    assert rig.session.down == [LinkEnd.SILENT]
    assert not rig.changes
    rig.durable.frame_received(1, b"late")
    rig.durable.link_ready()
    assert not rig.session.heard
    assert not rig.session.readies


async def test_resume_is_the_first_frame_on_a_later_link(rig: Rig) -> None:
    for number in range(3):
        rig.hear(7, data(number))
    rig.send(5, 0)
    rig.cut()
    assert rig.changes == [LinkEnd.SILENT]
    line = rig.new_line()
    assert line.sent == [(0, Resume(*IDS, ((7, 3),)))]
    assert line.flushed == 1
    assert rig.session.ups == 1, "the session was told of the second link"


async def test_frames_wait_for_the_peers_resume_and_unacknowledged_ones_come_first(rig: Rig) -> None:
    for number in range(4):
        rig.send(5, number)
    rig.hear(0, Ack(((5, 1),)))
    rig.cut()
    rig.send(6, 0)  # while there was no link
    line = rig.new_line()
    rig.send(6, 1)  # while the peer's RESUME is due
    assert len(line.sent) == 1
    rig.meet((5, 3))
    assert line.sent[1:] == [(5, data(3)), (6, data(0)), (6, data(1))]
    assert line.flushed == len(line.sent)
    assert rig.changes == [LinkEnd.SILENT, None]
    rig.send(5, 4)
    assert line.sent[-1] == (5, data(4))


async def test_the_server_answers_resume_and_goes_on(rig: Rig) -> None:
    rig.hear(7, data(0))
    rig.send(5, 0)
    rig.cut()
    line = rig.line = Line()
    rig.durable.attach(line)
    rig.durable.resume(Resume(*IDS, ()))
    assert line.sent == [(0, Resume(*IDS, ((7, 1),))), (5, data(0))]
    assert rig.changes == [LinkEnd.SILENT, None]


async def test_a_link_that_fails_during_a_replay_is_followed_by_another_replay(rig: Rig) -> None:
    for number in range(4):
        rig.send(5, number)
    rig.cut()
    rig.new_line(room=100)
    rig.meet()
    assert [frame for _, frame in rig.line.sent[1:]] == [data(0)]
    rig.cut()
    rig.new_line()
    rig.meet((5, 1))
    assert [frame for _, frame in rig.line.sent[1:]] == [data(1), data(2), data(3)]


async def test_frames_of_other_channels_may_overtake_the_peers_resume(rig: Rig) -> None:
    rig.cut()
    rig.new_line()
    rig.hear(9, data(0))
    assert rig.session.heard == [(9, frames.encode(data(0)))]
    rig.meet()
    rig.cut()
    assert rig.new_line().sent == [(0, Resume(*IDS, ((9, 1),)))]


# The budget


async def test_there_is_no_budget_without_a_link_or_before_the_peers_resume(rig: Rig) -> None:
    rig.cut()
    assert rig.durable.budget() == 0
    rig.new_line()
    assert rig.durable.budget() == 0
    rig.meet()
    assert rig.durable.budget() == rig.line.room > 0


async def test_there_is_no_budget_during_a_replay(rig: Rig) -> None:
    for number in range(10):
        rig.send(5, number)
    rig.cut()
    line = rig.new_line(room=300)
    rig.meet()
    while line.room <= 0:
        assert rig.durable.budget() == 0
        line.room = 300
        rig.durable.link_ready()
    assert [frame for _, frame in line.sent[1:]] == [data(number) for number in range(10)]
    assert rig.durable.budget() == line.room > 0


def fill(rig: Rig, channel: int, frame: Frame) -> int:
    """Send a frame as often as the budget allows. Returns how often."""
    message, sent = frames.encode(frame), 0
    while rig.durable.budget() > 0:
        rig.line.room = ROOM
        rig.line.sent.clear()
        rig.durable.send(channel, message)
        sent += 1
    return sent


async def test_no_more_is_kept_than_the_limit_and_one_frame(rig: Rig) -> None:
    sent = fill(rig, 5, Data(1, 0, bytes(10_000)))
    assert 0.95 * MOST_KEPT < sent * 10_013 < MOST_KEPT + MAX_FRAME
    rig.hear(0, Ack(((5, 3),)))
    assert 0 < rig.durable.budget() < 40_000
    rig.hear(0, Ack(((5, sent),)))
    assert rig.durable.budget() == rig.line.room > 0


async def test_small_frames_count_with_their_overhead_in_memory(rig: Rig) -> None:
    assert fill(rig, 0, Ping(0)) * 9 < MOST_KEPT / 10


# ACK


async def test_received_frames_are_acknowledged_after_256_kib(rig: Rig) -> None:
    frame = Data(1, 0, bytes(16_000))
    size, came = len(frames.encode(frame)), 0
    while (came + 1) * size < ACK_AFTER:
        rig.hear(3, frame)
        came += 1
    rig.durable.link_ready()
    assert not rig.line.sent
    rig.hear(3, frame)
    rig.hear(4, data(0))
    rig.durable.link_ready()
    assert rig.line.sent == [(0, Ack(((3, came + 1), (4, 1))))]
    assert rig.line.flushed == 1
    assert rig.session.readies == 2


async def test_received_frames_are_acknowledged_once_after_a_while(rig: Rig) -> None:
    rig.hear(3, data(0))
    rig.durable.link_ready()
    assert not rig.line.sent
    async with asyncio.timeout(30):
        while not rig.line.sent:
            await asyncio.sleep(0.01)
    assert rig.line.sent == [(0, Ack(((3, 1),)))]
    rig.durable.link_ready()
    rig.hear(3, data(1))
    rig.durable.close()  # nothing may be sent any more; the line would raise
    await asyncio.sleep(0.6)


async def test_resume_and_ack_are_not_counted(rig: Rig) -> None:
    rig.send(5, 0)
    rig.hear(0, Ack(((5, 1),)))
    rig.cut()
    rig.new_line()
    rig.meet((5, 1))
    rig.cut()
    assert rig.new_line().sent == [(0, Resume(*IDS, ()))]


async def test_an_acknowledgement_due_when_the_link_was_lost_is_part_of_resume(rig: Rig) -> None:
    rig.hear(3, data(0))
    rig.durable.link_ready()
    rig.cut()
    line = rig.new_line()
    rig.meet()
    await asyncio.sleep(0.6)
    assert line.sent == [(0, Resume(*IDS, ((3, 1),)))], "an ACK repeats it"


# The peer's errors


@pytest.mark.parametrize(
    ("meeting", "frame", "match"),
    [
        (False, Resume(*IDS, ()), "RESUME at the wrong time"),
        (False, Ack(((5, 2),)), "acknowledgement of 2 frames on channel 5, expected 0 to 1"),
        (False, Ack(((6, 1),)), "acknowledgement of 1 frames on channel 6, expected 0 to 0"),
        (True, Ack(()), "ACK at the wrong time"),
        (True, Resume(11, 23, ()), "RESUME for another session"),
        (True, Resume(22, 11, ()), "RESUME for another session"),
        (True, Resume(*IDS, ((5, 2),)), "acknowledgement of 2 frames on channel 5, expected 0 to 1"),
    ],
)
async def test_a_frame_that_the_peer_must_not_send_now(
    rig: Rig, meeting: bool, frame: Frame, match: str
) -> None:
    rig.send(5, 0)
    if meeting:
        rig.cut()
        rig.new_line()
    rig.hear(0, frame)
    assert match in str(rig.session.error)


@pytest.mark.parametrize("counts", [((5, 2),), ((6, 1),)])
async def test_a_resume_with_impossible_counts_is_not_answered(rig: Rig, counts: Counts) -> None:
    rig.send(5, 0)
    rig.cut()
    line = Line()
    rig.durable.attach(line)
    for frame in (Resume(*IDS, counts), Resume(12, 22, ())):
        with pytest.raises(RemoteProtocolError, match=r"acknowledgement of|another session"):
            rig.durable.resume(frame)
    assert not line.sent
    assert rig.durable.budget() == 0


@pytest.mark.parametrize("frame", [b"\x05", b"\x06\x00", b"\x06" + 2 * (b"\x05" + bytes(8))])
async def test_an_incomplete_frame(rig: Rig, frame: bytes) -> None:
    rig.durable.frame_received(0, frame)
    assert rig.session.error is not None


class Client:
    """A client's interrupted session, and the link on which it meets its server again."""

    def __init__(self) -> None:
        self.ended: list[SessionEnd] = []
        self.durable = DurableLink(255, lambda _: None)
        self.session = Session(self.durable, client=True, on_end=self.ended.append)
        self.durable.start(self.session)
        first = self._new_line()
        self.session.link_ready()
        [(_, hello)] = first.sent
        assert isinstance(hello, Hello)
        self.hear(Hello(1, 1, 22, 0, 1000, 10))
        assert self.session.established
        self.durable.link_down(LinkEnd.SILENT)
        self.line = self._new_line()
        self.resume = Resume(hello.session, 22, ((0, 1),))

    def _new_line(self) -> Line:
        line = Line()
        self.durable.attach(line)
        self.durable.link_up()
        return line

    def hear(self, frame: Frame) -> None:
        self.durable.frame_received(0, frames.encode(frame))


async def test_a_goaway_in_place_of_resume_ends_the_session() -> None:
    client = Client()
    client.hear(GoAway(GoAwayCode.NO_SESSION, "not known here"))
    assert client.ended == [PeerClosed(GoAwayCode.NO_SESSION, "not known here")]
    assert client.line.closed


async def test_a_peer_with_impossible_counts_gets_a_goaway() -> None:
    client = Client()
    client.hear(client.resume._replace(counts=((0, 99),)))
    assert client.ended == [PeerBroke("acknowledgement of 99 frames on channel 0, expected 0 to 1")]
    assert client.line.closed
    _, last = client.line.sent[-1]
    assert last == GoAway(GoAwayCode.PROTOCOL_ERROR, client.ended[0].text)


async def test_an_expired_session_is_over_and_hears_nothing_more() -> None:
    client = Client()
    client.durable.expire(Loss.EXPIRED)
    client.hear(client.resume)
    assert client.ended == [Loss.EXPIRED]
    assert client.line.closed
    assert client.durable.budget() == 0
