"""Targets: the filter in front of ENet, alone and with a real ENet behind it."""

from __future__ import annotations

from fuzz import datagrams as dg
from fuzz import scene
from fuzz.choices import Choices
from fuzz.insides import agree, next_numbers
from fuzz.links import Wire
from fuzz.peer import damaged
from toxproxy.link.base import LinkOwner
from toxproxy.link.carrier import LINKS_AT_ONCE, PACKET_ID, Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.link.filter import FRAME_COST, MOST_FRAME, MOST_HELD, Filter

_MOVES_MOST = 60
_CHANNELS = (0, 1, 2, 254, 255)
_SIZES = (1, 13, dg.PART - 1, dg.PART, dg.PART + 1, 2 * dg.PART, 9000, 16384, 16385, 1 << 20, 0)
_EDGES = (0, 1, 0x7FFF, 0xFFFF)
_STEPS = (0, 0, 0, 0, 1, 1, 2, 3, 7, 13, 0x4000)
_NUMBERS = (0, 0, 0, 1, 1, 2, 12, 13)
_COUNTS = (1, 1, 2, 3, 7, 13, 14, 1 << 20, 0)


def filtered(data: bytes) -> None:
    """What passes the filter is what ENet of a link writes, and what ENet then has to keep is bounded."""
    choices = Choices(data)
    there = Filter(connecting=bool(choices.integer(1)))
    there.up = bool(choices.integer(3))
    while choices:
        datagram = any_datagram(choices, {at: known.next for at, known in there.held._channels.items()})
        allowed = there.incoming(memoryview(datagram))
        assert 0 <= allowed <= len(datagram)
        for command in dg.commands(datagram[:allowed]) if allowed else ():
            assert dg.written_again(command) == command
            assert command[0] != 0x88 or dg.is_covered(command)
        if 0 < allowed == len(datagram) and datagram[4] not in (0x82, 0x83):
            assert there.outgoing(datagram)
        assert 0 <= there.held.bytes <= MOST_HELD + 255 * (MOST_FRAME + FRAME_COST)


def enet(data: bytes) -> None:
    """A friend lies to a real ENet: each byte of a frame was sent, and ENet holds what is believed."""
    scene.run(_Liar(Choices(data)).play())


def any_datagram(choices: Choices, due: dict[int, int] | None = None) -> bytes:
    """One that is right, or nearly, or anything. `due` has the next sequence numbers of channels."""
    due = due or {}
    match choices.integer(15):
        case 1:
            return choices.chunk(dg.MTU)
        case 2:
            return damaged(choices, dg.connect(choices.integer(3)))
        case 3:
            return damaged(choices, dg.verify(choices.integer(3)))
        case 4:
            acks = (_ack(choices, due) for _ in range(1 + choices.integer(33)))
            return damaged(choices, dg.untimed(*acks))
        case 5:
            return damaged(choices, dg.untimed(dg.disconnect(choices.integer(0xFFFF))))
    commands = [_command(choices, due) for _ in range(1 + choices.integer(4))]
    return damaged(choices, dg.timed(*commands, at=choices.integer(0xFFFF)))


def _place(choices: Choices, due: dict[int, int]) -> tuple[int, int]:
    """A channel, and a sequence number at or near the one that is due on it, or at an edge."""
    channel = choices.pick(_CHANNELS)
    number = choices.pick((due.get(channel, 1),) * 6 + _EDGES)
    return channel, (number + choices.pick(_STEPS)) & 0xFFFF


def _ack(choices: Choices, due: dict[int, int]) -> bytes:
    return dg.ack(*_place(choices, due), choices.integer(0xFFFF))


def _command(choices: Choices, due: dict[int, int]) -> bytes:
    channel, sequence = _place(choices, due)
    match choices.integer(9):
        case 0 | 1:
            return dg.reliable(channel, sequence, choices.chunk(40))
        case 2 | 3:
            return choices.pick(dg.fragments(channel, sequence, _frame(choices)))
        case 4 | 5:
            data = choices.chunk(40) if choices.integer(1) else bytes(dg.PART)
            count, total = choices.pick(_COUNTS), choices.pick(_SIZES)
            where = choices.pick((None, None, 0, 1, dg.PART, total))
            return dg.fragment(channel, sequence, choices.pick(_NUMBERS), count, total, data, offset=where)
        case 6:
            return dg.ping(sequence)
        case 7:
            return dg.bandwidth(sequence, choices.integer(1) << 31)
        case 8:
            return dg.throttle(sequence, slower=choices.integer(2))
    return dg.reliable(channel, sequence, choices.chunk(40), kind=choices.integer(255))


def _frame(choices: Choices) -> bytes:
    size = choices.pick((dg.PART + 1, 2 * dg.PART, 4000, 9000, 16384))
    return bytes((1 + choices.integer(254),)) * size


class _Liar:
    """A friend with a real link, who sends datagrams of its own on it besides."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._wholes: set[bytes] = set()  # what came in one command …
        self._pieces: set[tuple[int, bytes]] = set()  # … and in fragments, by number
        self._links: list[EnetLink] = []  # of the one who is lied to
        self._honest: EnetLink | None = None
        self._kept: list[bytes] = []

    async def play(self) -> None:
        choices = self._choices
        wire = Wire()
        friend_connects = bool(choices.integer(1))
        friend = Carrier(wire.sender(1), self._befriend, connecting=friend_connects)
        victim = Carrier(wire.sender(0), self._trust, connecting=not friend_connects)
        wire.ends += (friend, victim)
        (friend if friend_connects else victim).connect()
        await wire.carry(self._fate if choices.integer(3) == 1 else lambda packet: [packet])
        moves = 0
        while choices and moves < _MOVES_MOST and len(self._links) < LINKS_AT_ONCE:
            if choices.integer(3) == 0 and self._honest is not None and self._honest.budget() > 0:
                size = choices.pick((5, dg.PART, dg.PART + 1, 5000, 16384))
                self._honest.send(choices.pick(_CHANNELS[:-1]), bytes((1 + choices.integer(254),)) * size)
                self._honest.flush()
            for _ in range(choices.integer(7)):
                wire.queues[1].append(bytes((PACKET_ID, friend._epoch)) + self._lie())
            await wire.carry(self._fate)
            for link in self._links:
                agree(link)
            moves += 1
        for link in (friend.link, victim.link):
            if link is not None and not link.is_over:
                link.fail("over")

    def _lie(self) -> bytes:
        choices = self._choices
        if self._kept and choices.integer(2) == 1:
            return damaged(choices, choices.pick(self._kept))
        return any_datagram(choices, next_numbers(self._links[-1]) if self._links else None)

    def _fate(self, packet: bytes) -> list[bytes]:
        """What the friend sends is written down as it leaves; some of it is lost, doubled or damaged."""
        choices = self._choices
        arriving = [packet]
        match choices.integer(15) if choices else 0:
            case 1:
                arriving = []
            case 2:
                arriving = [packet, packet]
            case 3:
                arriving = [packet[:2] + damaged(choices, packet[2:])]
        for each in arriving:
            self._write_down(each[2:])
        return arriving

    def _write_down(self, datagram: bytes) -> None:
        self._kept = [*self._kept[-15:], datagram]
        try:
            for command in dg.commands(datagram):
                if command[0] & 0x0F == dg.RELIABLE:
                    self._wholes.add(command[6:])
                elif command[0] & 0x0F == dg.FRAGMENT:
                    self._pieces.add((int.from_bytes(command[12:16]), command[24:]))
        except LookupError:
            pass  # cut

    def _befriend(self, link: EnetLink) -> LinkOwner:
        self._honest = link
        return _Owner(self, trusting=False)

    def _trust(self, link: EnetLink) -> LinkOwner:
        self._links.append(link)
        return _Owner(self, trusting=True)

    def check(self, frame: bytes) -> None:
        """Every byte of a frame was sent for its place in it."""
        if len(frame) <= dg.PART:
            assert frame in self._wholes
            return
        for number, at in enumerate(range(0, len(frame), dg.PART)):
            assert (number, frame[at : at + dg.PART]) in self._pieces


class _Owner:
    def __init__(self, liar: _Liar, *, trusting: bool) -> None:
        self._liar = liar
        self._trusting = trusting

    def link_up(self) -> None: ...

    def frame_received(self, channel: int, frame: bytes) -> None:
        if self._trusting:
            self._liar.check(frame)

    def link_ready(self) -> None: ...

    def link_down(self, reason: str) -> None: ...
