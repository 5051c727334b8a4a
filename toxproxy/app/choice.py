"""A way through the first of several servers that is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from toxproxy.address import Target, UdpTarget
from toxproxy.dialer import Flow, FlowOwner, P
from toxproxy.errors import Refusal, StreamError, StreamRefused
from toxproxy.routing.preference import Preference, Standing
from toxproxy.tunnel.friend import Friend, Phase

# A peer that is there is heard after two seconds and a round trip at the latest, since it is pinged then.
_SILENCE = 2.0
_LEAST_MARGIN, _TRIPS = 0.75, 2.0  # seconds; round trips, where those are more
_LOOK_AGAIN = 0.25  # seconds, while a connection waits for an answer


class Choice:
    """A `Way` through `friends`, in order. A connection that is open stays with its server.

    One that gets no answer goes to the next server when its own falls silent, within three seconds. So it
    has to wait for its answer: `early` has no effect here. `wait` is how long it waits for any server, in
    seconds.
    """

    def __init__(self, friends: Sequence[Friend], wait: float) -> None:
        self.friends = tuple(friends)
        self._wait = wait
        self._preference = Preference(len(self.friends))
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """One of the servers came or went."""
        self._preference.note(asyncio.get_running_loop().time(), self.standings())
        self._changed.set()

    def standings(self) -> tuple[Standing, ...]:
        """What is known of each server."""
        return tuple(map(standing, self.friends))

    def chosen(self) -> Friend | None:
        """The server of the next connection; None: there is none at the moment."""
        index = self._preference.choose(asyncio.get_running_loop().time(), self.standings())
        return None if index is None else self.friends[index]

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """As `Dialer.dial`. Raises `StreamRefused`, with the code OFFLINE if no server is there in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        while True:
            while (friend := self.chosen()) is None:
                await self._change_until(deadline)
            dialling = loop.create_task(friend.dial(protocol_factory, target, compress=compress))
            taken = False
            try:
                while not dialling.done() and self.chosen() is friend:
                    await asyncio.wait((dialling,), timeout=_LOOK_AGAIN)
                if dialling.done():
                    connected = dialling.result()
                    taken = True
                    return connected
            except StreamRefused as refused:
                ended = refused.code is Refusal.OFFLINE or standing(friend) is Standing.GONE
                if not ended or loop.time() >= deadline:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)
            finally:
                if not taken:
                    await _give_up(dialling)

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        """As `FlowDialer.open_flow`: through the server that is there now.

        A flow stays with it until the server falls silent: its next datagram goes through the next one.
        """
        return _ChosenFlow(self, owner, target)

    def choose(self) -> Friend:
        """The server of the next flow. Raises `StreamRefused` if there is none at the moment."""
        if (friend := self.chosen()) is None:
            raise StreamRefused(Refusal.OFFLINE, f"none of {len(self.friends)} servers is there")
        return friend

    async def _change_until(self, deadline: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            text = f"none of {len(self.friends)} servers was found within {self._wait:g} s"
            raise StreamRefused(Refusal.OFFLINE, text) from None


class _ChosenFlow:
    """A `Flow` that moves to another server when its own falls silent. To the target that is a new flow."""

    def __init__(self, choice: Choice, owner: FlowOwner, target: UdpTarget) -> None:
        self._choice = choice
        self._owner = owner
        self._target = target
        self._friend = choice.choose()
        self._flow = self._friend.open_flow(owner, target)

    def send(self, data: bytes) -> None:
        if standing(self._friend) is not Standing.THERE:
            self._move()
        self._flow.send(data)

    def close(self, error: StreamError | None = None) -> None:
        self._flow.close(error)

    def _move(self) -> None:
        """Use another server, if one is there."""
        try:
            friend = self._choice.choose()
            if standing(friend) is not Standing.THERE:
                return
            flow = friend.open_flow(self._owner, self._target)
        except StreamRefused:  # of the last one's answer the owner is told
            return
        self._flow.close()
        self._friend, self._flow = friend, flow


def standing(friend: Friend) -> Standing:
    """What is known of a server, by its session."""
    session = friend.session
    if friend.phase is not Phase.READY or session is None or (silence := session.silence) is None:
        return Standing.GONE
    trip = session.recovery.trip
    margin = max(_LEAST_MARGIN, _TRIPS * (trip.smoothed if trip.known else 0.0))
    return Standing.SILENT if silence > _SILENCE + margin else Standing.THERE


async def _give_up(dialling: asyncio.Task[tuple[asyncio.Transport, P]]) -> None:
    """End a dial that nobody waits for any more, also if it was answered just now."""
    dialling.cancel()
    await asyncio.wait((dialling,))
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result()[0].abort()
