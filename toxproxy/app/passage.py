"""What goes through to one server: the targets of forwards, its name service, its clock, pings.

The server's rules are asked for by opening a connection to each target, which is reset at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from toxproxy.address import Target, UdpTarget
from toxproxy.control.checks import Check, CheckKind, Fault, fine, note, untried, wrong
from toxproxy.control.snapshots import PathKind, PeerSnapshot
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.service import COUNT, HOST, Port
from toxproxy.rules import is_literal
from toxproxy.tunnel.endpoint import DatagramEndpoint
from toxproxy.tunnel.friend import Friend, Phase

_SECONDS = 12.0  # a server gives up after 10 s, unless told otherwise
_PINGS = 3
_MOST_DIFFERENCE = 60.0  # seconds between two clocks
_MUCH_LOSS, _ENOUGH_PACKETS = 0.05, 500  # share lost, of at least so many packets
_LONG_QUEUE = 200.0  # ms

_FAULTS = {
    Refusal.NOT_PERMITTED: Fault.TARGET_FORBIDDEN,
    Refusal.CONNECTION_REFUSED: Fault.TARGET_REFUSED,
    Refusal.NAME_NOT_FOUND: Fault.TARGET_NAME_UNKNOWN,
}
_THROUGH = (CheckKind.TARGETS, CheckKind.NAMES, CheckKind.CLOCK, CheckKind.QUALITY)


class Passage:
    """Tries one server. `look` takes its snapshot."""

    def __init__(self, friend: Friend, look: Callable[[], PeerSnapshot]) -> None:
        self._friend = friend
        self._look = look

    async def tried(self, targets: Sequence[Target], *, names: bool) -> list[Check]:
        """Everything, at once. `names`: whether names are looked up there for other reasons than targets."""
        if self._friend.phase is not Phase.READY:
            return [untried(kind, Fault.NOT_CONNECTED) for kind in _THROUGH]
        named = (target for target in targets if target.path is None and not is_literal(target.host))
        names = names or any(named)
        resolver, clock, found, opened = await asyncio.gather(
            self._names() if names else _nothing(CheckKind.NAMES),
            self._clock(),
            self._quality(),
            asyncio.gather(*(self._target(target) for target in targets)),
        )
        if resolver.fault is Fault.RESOLVER_DEAD:
            opened = [each for each in opened if not _is_explained(each)]
        opened = opened or [untried(CheckKind.TARGETS, Fault.NOT_ASKED_FOR)]
        return [*opened, resolver, clock, *found]

    async def _target(self, target: Target) -> Check:
        about = str(target)
        try:
            async with asyncio.timeout(_SECONDS):
                transport = await self._opened(target)
        except TimeoutError:
            return wrong(CheckKind.TARGETS, Fault.TARGET_UNREACHABLE, about)
        except StreamRefused as refused:
            if refused.code is Refusal.OFFLINE:
                return untried(CheckKind.TARGETS, Fault.NOT_CONNECTED)
            fault = _FAULTS.get(refused.code, Fault.TARGET_UNREACHABLE)
            return wrong(CheckKind.TARGETS, fault, about, detail=refused.text)
        transport.abort()
        return fine(CheckKind.TARGETS, about)

    async def _opened(self, target: Target) -> asyncio.Transport | DatagramEndpoint:
        """A connection to the target, or a flow of datagrams: whether it answers those nobody can tell."""
        if isinstance(target, UdpTarget):
            endpoint = DatagramEndpoint()
            await endpoint.open(self._friend, target)
            return endpoint
        transport, _ = await self._friend.dial(asyncio.Protocol, target)
        return transport

    async def _names(self) -> Check:
        try:
            async with asyncio.timeout(_SECONDS):
                transport, _ = await self._friend.dial(asyncio.Protocol, Target(HOST, Port.NAMES))
        except TimeoutError:
            return wrong(CheckKind.NAMES, Fault.RESOLVER_DEAD)
        except StreamRefused as refused:
            if refused.code in (Refusal.FAILED, Refusal.TIMED_OUT):
                return wrong(CheckKind.NAMES, Fault.RESOLVER_DEAD)
            return untried(CheckKind.NAMES, Fault.NOT_KNOWN_THERE)
        transport.abort()
        return fine(CheckKind.NAMES)

    async def _clock(self) -> Check:
        """The clock of the server beside this one; it was read between the question and the answer."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        asked = time.time()
        try:
            async with asyncio.timeout(_SECONDS):
                transport, _ = await self._friend.dial(
                    lambda: asyncio.StreamReaderProtocol(reader, loop=loop), Target(HOST, Port.TIME)
                )
                try:
                    (there,) = COUNT.unpack(await reader.readexactly(COUNT.size))
                finally:
                    transport.abort()
        except (TimeoutError, StreamRefused, OSError, EOFError):
            return untried(CheckKind.CLOCK, Fault.NOT_KNOWN_THERE)
        now = time.time()
        ahead = (asked + now) / 2 - there / 1000
        if abs(ahead) > _MOST_DIFFERENCE + (now - asked):
            return wrong(CheckKind.CLOCK, Fault.CLOCK_DIFFERS, value=round(ahead, 1))
        return fine(CheckKind.CLOCK, value=round(ahead, 1))

    async def _quality(self) -> list[Check]:
        trips = []
        for _ in range(_PINGS):
            try:
                async with asyncio.timeout(_SECONDS / _PINGS):
                    trips.append(await self._friend.ping())
            except (StreamRefused, TimeoutError):
                pass
        if not trips:
            return [untried(CheckKind.QUALITY, Fault.NOT_CONNECTED)]
        return list(quality(self._look(), 1000 * min(trips)))


def quality(peer: PeerSnapshot, rtt_ms: float, about: str | None = None) -> list[Check]:
    """What is to be known of the path."""
    found = []
    if peer.path is PathKind.RELAY:
        relayed = note(CheckKind.QUALITY, Fault.RELAYED, about, round(rtt_ms, 1))
        found.append(replace(relayed, relay_reason=peer.relay_reason))
    link = peer.link
    if link is not None and link.sent_packets >= _ENOUGH_PACKETS and link.loss_share > _MUCH_LOSS:
        found.append(note(CheckKind.QUALITY, Fault.MUCH_LOSS, about, link.loss_share))
    if link is not None and link.queue_ms is not None and link.queue_ms > _LONG_QUEUE:
        found.append(note(CheckKind.QUALITY, Fault.LONG_QUEUE, about, link.queue_ms))
    return found or [fine(CheckKind.QUALITY, about, round(rtt_ms, 1))]


async def _nothing(kind: CheckKind) -> Check:
    return untried(kind, Fault.NOT_ASKED_FOR)


def _is_explained(check: Check) -> bool:
    """Whether a dead resolver explains that a target is not reached: it is a name."""
    host, _, _ = (check.about or "").rpartition(":")
    return check.fault is Fault.TARGET_UNREACHABLE and not is_literal(host.strip("[]"))
