"""Targets: packets from a friend, and frames on its links. A real ENet is in between."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from fuzz import scene
from fuzz.choices import Choices
from fuzz.multiplexer import LIMITS
from fuzz.peer import any_frame, damaged
from toxproxy.config.settings import ExitSettings
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import MAX_PACKET, PACKET_ID, Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.mux import frames
from toxproxy.outbound.exit import Exit
from toxproxy.rules import Rules
from toxproxy.tunnel.keeper import SessionKeeper

_MOVES_MOST = 60
_ROUNDS = 12  # round trips: enough for ENet to connect and for a session to begin
_NOWHERE = Rules()
_PEER = 77  # a session's id


def packets(data: bytes) -> None:
    """Packets between two ends are lost, repeated, damaged or forged, and nothing breaks."""
    scene.run(_packets(Choices(data)))


def links(data: bytes) -> None:
    """A friend begins or accepts links and sends arbitrary frames on each, and nothing breaks."""
    scene.run(Friend(Choices(data)).play())


class Wire:
    """Carries packets between two ends when told to."""

    def __init__(self) -> None:
        self.queues: tuple[deque[bytes], deque[bytes]] = deque(), deque()
        self.ends: list[Carrier] = []

    def sender(self, to: int) -> Callable[[memoryview], bool]:
        def send(packet: memoryview) -> bool:
            self.queues[to].append(bytes(packet))
            return True

        return send

    async def carry(self, fate: Callable[[bytes], list[bytes]] = lambda packet: [packet]) -> None:
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
            for queue, end in zip(self.queues, self.ends, strict=True):
                waiting, count = list(queue), len(queue)
                queue.clear()
                for packet in waiting:
                    for arriving in fate(packet):
                        end.packet_received(arriving)
                if count:
                    end.batch_ended()


def _end(wire: Wire, to: int, exit: Exit | None) -> SessionKeeper:
    end = SessionKeeper(wire.sender(to), changed=lambda _: None, grace=600, exit=exit, limits=LIMITS)
    wire.ends.append(end.carrier)
    return end


async def _over(*ends: SessionKeeper) -> None:
    """Close everything without waiting for a peer that never answers."""
    for end in ends:
        end.lose()
        await end.close("over")
        assert end.session is None
        assert not end.ready


async def _packets(choices: Choices) -> None:
    wire = Wire()
    exit = Exit(ExitSettings(), _NOWHERE)
    far, near = _end(wire, 1, exit), _end(wire, 0, None)

    def fate(packet: bytes) -> list[bytes]:
        match choices.integer(7) if choices else 0:
            case 1:
                return []
            case 2:
                return [packet, packet]
            case 3:
                return [bytes((PACKET_ID, packet[1])) + choices.chunk(MAX_PACKET)]
            case 4:
                return [choices.chunk(MAX_PACKET)]
            case 5:
                return [damaged(choices, packet)]
        return [packet]

    for end in (far, near):
        end.reach()
    moves = 0
    while choices and moves < _MOVES_MOST:
        await wire.carry(fate)
        if choices.integer(3) == 1:
            near.lose()
            near.reach()
        moves += 1
    await _over(near, far)


class Friend:
    """A hostile peer with real links. It owns them and hears the frames of the last one."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.got: Counter[int] = Counter()  # received frames that SPEC.md counts, by channel
        self.link: EnetLink | None = None
        self.up = False

    async def play(self) -> None:
        wire = self.wire = Wire()
        exit = Exit(ExitSettings(), _NOWHERE)
        self.begins = bool(self.choices.integer(1))
        self.end = _end(wire, 1, exit if self.begins else None)
        self.carrier = Carrier(wire.sender(0), self._own, connecting=self.begins)
        wire.ends.append(self.carrier)
        self.end.reach()
        self.begin()
        await wire.carry()
        assert self.up
        if self.choices.integer(7):
            self.greet()
        moves = 0
        while self.choices and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            await wire.carry()
            assert self.end.streams <= 2 * LIMITS.streams
            assert self.end.session is not None or not self.end.ready
            moves += 1
        await _over(self.end)
        self._drop()

    # As the owner of its links

    def _own(self, link: EnetLink) -> Friend:
        self.link, self.up = link, False
        return self

    def link_up(self) -> None:
        self.up = True

    def frame_received(self, channel: int, frame: bytes) -> None:
        if not isinstance(frames.decode(frame), (frames.Resume, frames.Ack)):
            self.got[channel] += 1

    def link_ready(self) -> None:
        pass

    def link_down(self, reason: LinkEnd) -> None:
        self.up = False

    # Its moves

    def begin(self) -> None:
        """Begin the next link."""
        if self.begins:
            self.carrier.connect()
        elif self.link is not None:
            self.end.lose()
            self.end.reach()

    def say(self, channel: int, frame: bytes) -> None:
        if self.up and self.link is not None:
            self.link.send(channel, frame)
            self.link.flush()

    def greet(self) -> None:
        self.say(0, frames.encode(frames.Hello(1, 1, _PEER, frames.LZ4, 64, 4)))
        self.say(0, frames.encode(frames.Ping(0)))

    def anything(self) -> None:
        session = self.end.session
        ids = (session.identity or ()) if session is not None else ()
        frame = any_frame(self.choices, (1, 2, 3, *ids, *self.got.values()))
        self.say(self.choices.integer(3), frame)

    def ask(self) -> None:
        number = 2 * self.choices.integer(20) + (1 if self.begins else 2)
        self.say(1, frames.encode(frames.Open(number, frames.TCP, 64, 80, "host.example")))

    def resume(self) -> None:
        session = self.end.session
        if session is not None and (ids := session.identity) is not None:
            counts = tuple(sorted(self.got.items()))
            self.say(0, damaged(self.choices, frames.encode(frames.Resume(*ids, counts))))

    def vanish(self) -> None:
        """Vanish without closing the link, and begin a new one."""
        self._drop()
        self.begin()

    def leave(self) -> None:
        """Close the link and begin a new one."""
        if self.link is not None and self.up:
            self.up = False
            self.link.close()
        self.begin()

    def _drop(self) -> None:
        if self.link is not None and not self.link.is_over:
            self.link.fail(LinkEnd.FAILED)


MOVES: tuple[Callable[[Friend], None], ...] = (
    Friend.anything,
    Friend.anything,
    Friend.ask,
    Friend.greet,
    Friend.resume,
    Friend.vanish,
    Friend.leave,
)
