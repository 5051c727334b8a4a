"""Targets: the filter in front of ENet, alone and with a real ENet behind it."""

from __future__ import annotations

from fuzz import datagrams as dg
from fuzz import scene
from fuzz.choices import Choices
from fuzz.links import Wire
from fuzz.peer import damaged
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.carrier import LINKS_AT_ONCE, PACKET_ID, Carrier
from toxproxy.link.enet import BARE, EnetLink
from toxproxy.link.filter import (
    MOST_ASKING,
    MOST_COMMANDS,
    PACKET_AT,
    PACKET_SIZE,
    is_packet,
    packets_in,
)

_MOVES_MOST = 60
_ACKS_MOST = 33
_EDGES = (0, 1, 0x3FF, 0x400, 0x7FFF, 0xFFFF)
_STEPS = (1, 0, 2, 3, 31, 32, 1023, 1024, 0x8000, 0xFFFF)
_SIZES = (1, 2, 30, PACKET_SIZE - 1, PACKET_SIZE, PACKET_SIZE + 1, 0)


def filtered(data: bytes) -> None:
    """What passes the filter, in or out, is what ENet of a link writes, to the last bit."""
    choices = Choices(data)
    from_client = bool(choices.integer(1))
    while choices:
        datagram = any_datagram(choices)
        packets = packets_in(memoryview(datagram), from_client=from_client)
        if packets is not None:
            _is_written(datagram)
            assert packets == sum(each[0] == 0x49 for each in dg.commands(datagram))
        if alone := is_packet(b"before" + datagram, 6, len(datagram)):
            assert packets == 1
            assert datagram == dg.untimed(dg.packet(datagram[PACKET_AT:], int.from_bytes(datagram[6:8])))
        assert alone or packets != 1 or len(list(dg.commands(datagram))) > 1


def _is_written(datagram: bytes) -> None:
    """Raises `AssertionError` or `KeyError` if it is none that ENet of a link writes."""
    assert len(datagram) <= dg.MTU
    there = list(dg.commands(datagram))
    assert 0 < len(there) <= MOST_COMMANDS
    for command in there:
        assert dg.written_again(command) == command
    asking = sum(bool(command[0] & dg.WANTED) for command in there)
    assert asking <= MOST_ASKING
    connecting = there[0][0] in (0x82, 0x83)
    assert not connecting or len(there) == 1
    end = there[0][0] == 0x44  # with DISCONNECT the time is said, if a PING is with it
    assert datagram[0] == (0x8F if there[0][0] == 0x82 else 0x80 if asking else 0)
    assert not end or len(there) == 1 + asking <= 2


def enet(data: bytes) -> None:
    """A friend lies to a real ENet: only packets that somebody sent arrive, and the link lives or ends."""
    scene.run(_Liar(Choices(data)).play(), virtual=True)


def any_datagram(choices: Choices, group: int = 1) -> bytes:
    """One that is right, or nearly, or anything. `group` is that of a packet that is due."""
    match choices.integer(15):
        case 1:
            return choices.chunk(dg.MTU)
        case 2:
            return damaged(choices, dg.connect(choices.integer(3)))
        case 3:
            return damaged(choices, dg.verify(choices.integer(3)))
        case 4:
            acks = (_ack(choices) for _ in range(1 + choices.integer(_ACKS_MOST)))
            return damaged(choices, dg.untimed(*acks))
        case 5:
            return damaged(choices, dg.untimed(dg.disconnect(choices.integer(0xFFFF))))
        case 6 | 7:
            return damaged(choices, dg.untimed(_packet(choices, group)))
        case 8:
            end = dg.disconnect(choices.integer(0xFFFF))
            return damaged(choices, dg.timed(end, dg.ping(choices.integer(0xFFFF))))
    commands = [_command(choices, group) for _ in range(1 + choices.integer(choices.pick((3, 3, 33))))]
    asking = any(command[0] & dg.WANTED for command in commands)
    if asking is (choices.integer(15) != 1):
        return damaged(choices, dg.timed(*commands, at=choices.integer(0xFFFF)))
    return damaged(choices, dg.untimed(*commands))


def _number(choices: Choices) -> int:
    return choices.pick(_EDGES) if choices.integer(3) == 1 else choices.integer(0xFFFF)


def _ack(choices: Choices) -> bytes:
    channel = choices.pick((0xFF, 0xFF, 0xFF, 0, 1))
    return dg.ack(channel, _number(choices), choices.integer(0xFFFF))


def _packet(choices: Choices, group: int) -> bytes:
    data = choices.chunk(40) if choices.integer(1) else bytes((choices.integer(255),)) * choices.pick(_SIZES)
    at = (group + choices.pick(_STEPS)) & 0xFFFF if choices.integer(3) else _number(choices)
    if choices.integer(7) == 1:
        return dg.packet(data, at, channel=choices.integer(255), number=choices.integer(3))
    return dg.packet(data, at)


def _command(choices: Choices, group: int) -> bytes:
    match choices.integer(11):
        case 0 | 1 | 2:
            return _packet(choices, group)
        case 3 | 4:
            return dg.ping(_number(choices))
        case 5:
            return dg.bandwidth(_number(choices), choices.integer(1) << 31)
        case 6:
            return dg.throttle(_number(choices), slower=choices.integer(2))
        case 7:
            return _ack(choices)
        case 8:
            return dg.reliable(choices.integer(255), _number(choices), choices.chunk(40))
        case 9:
            parts = dg.fragments(
                choices.integer(255), _number(choices), bytes(choices.pick((1344, 4000, 16384)))
            )
            return choices.pick(parts)
        case 10:
            total = choices.pick((1, 1343, 1344, 1 << 20))
            return dg.fragment(
                0, _number(choices), 0, choices.pick((1, 2, 1 << 20)), total, choices.chunk(40)
            )
    return dg.packet(choices.chunk(40), group, kind=choices.integer(255))


class _Liar:
    """A friend with a real link, who sends datagrams of its own on it besides."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._sent: set[bytes] = set()  # packets, by the friend or by whatever became of its datagrams
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
            if choices.integer(3) == 0 and self._honest is not None:
                for _ in range(choices.integer(3)):
                    size = choices.pick((5, 1, PACKET_SIZE))
                    self._honest.send(bytes((1 + choices.integer(254),)) * size)
                self._honest.flush()
            for _ in range(choices.integer(7)):
                lie, bare = self._lie(), BARE * (choices.integer(7) == 1)
                if bare:
                    self._sent.add(lie[2:])
                wire.queues[1].append(bytes((PACKET_ID, friend._epoch | bare)) + lie)
            await wire.carry(self._fate, choices.pick((0.0, 0.0, 0.6, 3.0, 15.0)))
            moves += 1
        for link in (friend.link, victim.link):
            if link is not None and not link.freed.is_set():
                link.fail(LinkEnd.FAILED)

    def _lie(self) -> bytes:
        choices = self._choices
        if self._kept and choices.integer(2) == 1:
            return damaged(choices, choices.pick(self._kept))
        group = 1
        if self._links and self._links[-1]._peer is not None:
            group = self._links[-1]._peer.incomingUnsequencedGroup
        return any_datagram(choices, group)

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
            if each[1] & BARE:
                self._sent.add(each[4:])
            else:
                self._write_down(each[2:])
        return arriving

    def _write_down(self, datagram: bytes) -> None:
        self._kept = [*self._kept[-15:], datagram]
        try:
            for command in dg.commands(datagram):
                if command[0] & 0x0F == dg.UNSEQUENCED:
                    self._sent.add(command[8:])
        except LookupError:
            pass  # cut

    def _befriend(self, link: EnetLink) -> LinkOwner:
        self._honest = link
        return _Owner(self, trusting=False)

    def _trust(self, link: EnetLink) -> LinkOwner:
        self._links.append(link)
        return _Owner(self, trusting=True)

    def check(self, packet: bytes) -> None:
        """It was sent like this."""
        assert packet in self._sent


class _Owner:
    def __init__(self, liar: _Liar, *, trusting: bool) -> None:
        self._liar = liar
        self._trusting = trusting
        self._up = self._down = False

    def link_up(self) -> None:
        assert not self._up
        self._up = True

    def packet_received(self, packet: bytes) -> None:
        assert self._up
        assert not self._down
        assert 0 < len(packet) <= PACKET_SIZE
        if self._trusting:
            self._liar.check(packet)

    def link_ready(self) -> None:
        assert not self._down

    def link_down(self, reason: LinkEnd) -> None:
        assert not self._down
        self._down = True
