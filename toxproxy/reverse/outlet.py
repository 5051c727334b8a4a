"""What one server reaches at this client: what this client asked it to listen for, and nothing else."""

from __future__ import annotations

import logging

from toxproxy.address import MAX_WORDS, Target, UdpTarget, shown
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.pace import Notice
from toxproxy.reverse.doors import Door
from toxproxy.reverse.request import parse_listener
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

_NOTHING = "a client opens no connections for its server but those that it asked for"


class Outlet(Host):
    """Gives each stream of the server to the door that its listener has.

    A door is there under the id of the stream that asked the server to listen, from then on until that
    stream ends. Its connections may outlive that.
    """

    def __init__(self) -> None:
        self._doors: dict[int, Door] = {}
        self._left: set[Door] = set()
        self._strange = Notice(log, logging.WARNING)

    def add(self, number: int, door: Door) -> None:
        """The stream `number` asks the server to listen for this door."""
        self._doors[number] = door

    def remove(self, number: int) -> None:
        """That stream has ended."""
        door = self._doors.pop(number)
        self._left = {each for each in self._left if each.connections} | {door}

    @property
    def _all(self) -> set[Door]:
        return {*self._doors.values(), *self._left}

    @property
    def connections(self) -> int:
        return sum(door.connections for door in self._all)

    async def serve(self, transport: StreamTransport, target: Target) -> None:
        if (door := self._door(target)) is None:
            transport.refuse(Refusal.NOT_PERMITTED, _NOTHING)
        else:
            await door.serve(transport)

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        if (door := self._door(target)) is None:
            raise StreamRefused(Refusal.NOT_PERMITTED, _NOTHING)
        return door.open_flow(owner)

    def _door(self, target: Target) -> Door | None:
        number = parse_listener(target.host)
        door = None if number is None else self._doors.get(number)
        if door is None:
            self._strange(
                "the server asks for %s, which this client has not named: refused",
                shown(str(target), MAX_WORDS),
            )
        return door

    async def idle(self) -> None:
        for door in self._all:
            await door.idle()

    def reset(self) -> None:
        for door in self._all:
            door.reset()
