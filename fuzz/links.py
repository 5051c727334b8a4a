"""Targets: datagrams from a friend, and packets on its links. A real ENet is in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import cffi

from fuzz import packets as pk
from fuzz import scene
from fuzz.choices import Choices
from fuzz.multiplexer import LIMITS
from fuzz.peer import any_frame, damaged
from fuzz.wire import decode_all
from toxproxy.config.settings import ExitSettings
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import MAX_PACKET, PACKET_ID, Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.link.filter import PACKET_SIZE
from toxproxy.mux import frames
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.pace import TokenBucket
from toxproxy.recovery.packet import close, closing
from toxproxy.rules import Rules
from toxproxy.tunnel.events import Change, SessionEvent
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.keeper import SessionKeeper

_ffi = cffi.FFI()
_MOVES_MOST = 60
_ROUNDS = 12  # round trips: enough for ENet to connect and for a session to begin
_PAUSES = (0.0, 0.01, 0.3, 3.0, 30.0)  # seconds
_NOWHERE = Rules()
_PEER = 77  # a session's id


def packets(data: bytes) -> None:
    """Datagrams between two ends are lost, repeated, damaged or forged, and nothing breaks."""
    scene.run(_packets(Choices(data)), virtual=True)


def links(data: bytes) -> None:
    """A friend begins or accepts links and sends arbitrary packets on each, and nothing breaks."""
    scene.run(Friend(Choices(data)).play(), virtual=True)


class Wire:
    """Carries datagrams between two ends when told to."""

    def __init__(self) -> None:
        self.queues: tuple[deque[bytes], deque[bytes]] = deque(), deque()
        self.ends: list[Carrier] = []

    def sender(self, to: int) -> Callable[[Any, int], bool]:
        def send(pointer: Any, length: int) -> bool:
            self.queues[to].append(_ffi.buffer(pointer, length)[:])
            return True

        return send

    async def carry(
        self, fate: Callable[[bytes], list[bytes]] = lambda packet: [packet], seconds: float = 0.0
    ) -> None:
        """Let so much time pass, then carry all, and the answers."""
        await asyncio.sleep(seconds)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0.0001)
            for queue, end in zip(self.queues, self.ends, strict=True):
                waiting, count = list(queue), len(queue)
                queue.clear()
                for packet in waiting:
                    for arriving in fate(packet):
                        end.packet_received(arriving)
                if count:
                    end.batch_ended()


class End:
    """A keeper on a wire, which sees that events come in an order that makes sense."""

    def __init__(self, wire: Wire, to: int, host: Host | None) -> None:
        self.keeper = SessionKeeper(
            wire.sender(to), changed=self._changed, grace=600, host=host, limits=LIMITS
        )
        # The pace of links is by the real clock, which stands still here.
        self.keeper.carrier._allowance = TokenBucket(1_000_000, 1.0)
        wire.ends.append(self.keeper.carrier)
        self._began = False

    def _changed(self, what: SessionEvent) -> None:
        match what.change:
            case Change.BEGAN:
                assert not self._began
                assert self.keeper.session is not None
                assert self.keeper.session.multiplexer.established
                self._began = True
            case Change.ENDED:
                assert self.keeper.session is None
                self._began = False

    def check(self) -> None:
        keeper = self.keeper
        assert len(keeper.streams) <= 2 * LIMITS.streams
        assert keeper.session is not None or not keeper.ready

    async def over(self) -> None:
        """Close everything without waiting for a peer that never answers."""
        self.keeper.lose()
        await self.keeper.close("over")
        assert self.keeper.session is None
        assert not self.keeper.ready


async def _packets(choices: Choices) -> None:
    wire = Wire()
    host = Serving(Exit(ExitSettings(), _NOWHERE))
    far, near = End(wire, 1, host), End(wire, 0, None)

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
        end.keeper.reach()
    moves = 0
    while choices and moves < _MOVES_MOST:
        await wire.carry(fate, choices.pick(_PAUSES))
        if choices.integer(3) == 1:
            near.keeper.lose()
            near.keeper.reach()
        for end in (far, near):
            end.check()
        moves += 1
    for end in (near, far):
        await end.over()


class Friend:
    """A hostile peer with real links. It owns them and hears the packets of the last one."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.link: EnetLink | None = None
        self.up = False
        self.number = 1  # of the next packet
        self.heard = 0  # the largest number that came
        self.closing = False  # the other side said CLOSE

    async def play(self) -> None:
        wire = self.wire = Wire()
        host = Serving(Exit(ExitSettings(), _NOWHERE))
        self.begins = bool(self.choices.integer(1))
        self.end = End(wire, 1, host if self.begins else None)
        self.carrier = Carrier(wire.sender(0), self._own, connecting=self.begins)
        wire.ends.append(self.carrier)
        self.end.keeper.reach()
        self.begin()
        await wire.carry()
        assert self.up
        if self.choices.integer(7):
            self.greet()
        moves = 0
        while self.choices and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            await wire.carry(seconds=self.choices.pick(_PAUSES) if self.choices.integer(3) == 1 else 0.0)
            self.end.check()
            moves += 1
        await self.end.over()
        self._drop()

    # As the owner of its links

    def _own(self, link: EnetLink) -> Friend:
        self.link, self.up = link, False
        return self

    def link_up(self) -> None:
        self.up = True

    def packet_received(self, packet: bytes) -> None:
        assert 0 < len(packet) <= PACKET_SIZE
        if (said := closing(packet)) is not None:
            assert said[0] <= 3
            return
        read = pk.read(packet, introductions=not self.begins)
        assert read is not None, "what it sends is no packet"
        if read.eliciting:
            self.heard = max(self.heard, read.number)
        assert decode_all(read.frames) or not read.frames

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
            self.end.keeper.lose()
            self.end.keeper.reach()

    def say(self, packet: bytes) -> None:
        if self.up and self.link is not None and 0 < len(packet) <= PACKET_SIZE:
            self.link.send(packet)
            self.link.flush()

    def packet(self, *contents: bytes, ids: tuple[int, int] | None = None) -> bytes:
        """The next packet, as it should be; perhaps with an acknowledgement."""
        there = pk.Packet(self.number, min(self.number - 1, 20), ids=ids, frames=b"".join(contents))
        there.probe = self.choices.integer(3) == 1
        self.number += there.eliciting
        if self.heard and self.choices.integer(1):
            pk.acknowledgement(self.choices, there, self.heard, self.number * 1000)
        return there.written()

    def greet(self) -> None:
        """Introduce itself, and begin a session."""
        ids = (_PEER, 0) if self.begins else None
        hello = frames.encode(frames.Hello(2, 2, _PEER, frames.LZ4, 64, 4))
        self.say(self.packet(hello, ids=ids))

    def anything(self) -> None:
        """Arbitrary frames in a packet as it should be."""
        likely = (1, 2, 3, _PEER, *self.ids())
        contents = [any_frame(self.choices, likely) for _ in range(1 + self.choices.integer(2))]
        self.say(self.packet(*contents)[:PACKET_SIZE])

    def any_packet(self) -> None:
        self.say(pk.any_packet(self.choices, self.number, self.heard))

    def ids(self) -> tuple[int, int]:
        session = self.end.keeper.session
        return session._ids if session is not None else (1, 1)

    def ask(self) -> None:
        number = 2 * self.choices.integer(20) + (1 if self.begins else 2)
        self.say(self.packet(frames.encode(frames.Open(number, frames.TCP, 64, 80, "host.example"))))

    def introduce(self) -> None:
        """Name the session that there is, or another one."""
        client, server = self.ids()
        ids = self.choices.pick(((client, server), (client, 0), (client ^ 1, 0), (client, server ^ 1)))
        self.say(
            damaged(
                self.choices, self.packet(frames.encode(frames.Reset(1 if self.begins else 2, 1)), ids=ids)
            )[:PACKET_SIZE]
        )

    def end_session(self) -> None:
        self.say(damaged(self.choices, close(self.choices.integer(5), "enough")))

    def vanish(self) -> None:
        """Vanish without closing the link, and begin a new one."""
        self._drop()
        self.begin()

    def leave(self) -> None:
        """Close the link, perhaps with last words, and begin a new one."""
        if self.link is not None and self.up:
            self.up = False
            self.link.close(close(0, "bye") if self.choices.integer(1) else b"")
        self.begin()

    def wait(self) -> None: ...

    def _drop(self) -> None:
        if self.link is not None and not self.link.freed.is_set():
            self.link.fail(LinkEnd.FAILED)


MOVES: tuple[Callable[[Friend], None], ...] = (
    Friend.anything,
    Friend.anything,
    Friend.any_packet,
    Friend.ask,
    Friend.ask,
    Friend.greet,
    Friend.introduce,
    Friend.introduce,
    Friend.end_session,
    Friend.vanish,
    Friend.leave,
    Friend.wait,
)
