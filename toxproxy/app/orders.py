"""What can be asked of a running end, or ordered, by its control socket: the methods and their params."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

from toxproxy.app.observer import Observer
from toxproxy.control.encoding import encoded
from toxproxy.control.findings import findings
from toxproxy.control.server import Method, Params
from toxproxy.control.snapshots import (
    PathKind,
    PeerSnapshot,
    PeerState,
    PongSnapshot,
    Snapshot,
    StreamSnapshot,
)
from toxproxy.errors import StreamRefused
from toxproxy.tunnel.friend import Friend, short
from toxproxy.tunnel.transport import StreamEnd

log = logging.getLogger(__name__)

_LEAST_INTERVAL = 0.2  # seconds between two answers of a stream
_MOST_INTERVAL = 60.0
_MOST_SECONDS = 10.0  # that one ping waits
_MOST_COUNT = 1_000_000
_MOST_STREAMS = 10_000  # in one answer
_LEAST_PREFIX = 4  # hexadecimal digits of a key that may stand for it


class Orders:
    """The methods that both roles have: `status`, `watch`, `streams`, `close`, `ping`."""

    def __init__(self, observer: Observer, friends: Callable[[], Iterable[Friend]]) -> None:
        self._observer = observer
        self._friends = friends

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names in requests."""
        return {
            "status": self.status,
            "watch": self.watch,
            "streams": self.streams,
            "close": self.close,
            "ping": self.ping,
        }

    async def status(self, params: Params) -> object:
        """A `Snapshot`, with its `findings`."""
        expect(params)
        return explained(await self._observer.measured())

    async def watch(self, params: Params) -> AsyncGenerator[object, None]:
        """The same every `interval_s` seconds (1)."""
        expect(params, "interval_s")
        pause = number(params, "interval_s", 1.0, least=_LEAST_INTERVAL, most=_MOST_INTERVAL)
        while True:
            yield explained(await self._observer.measured())
            await asyncio.sleep(pause)

    async def streams(self, params: Params) -> object:
        """`StreamSnapshot`s, the oldest first, 10,000 at most; and how many there are."""
        expect(params)
        found = [_stream(friend, each) for friend in self._friends() for each in friend.streams]
        found.sort(key=lambda stream: -stream.age_s)
        return {"streams": encoded(found[:_MOST_STREAMS]), "count": len(found)}

    async def close(self, params: Params) -> object:
        """Reset the stream `id`."""
        expect(params, "id")
        wanted = text(params, "id").upper()
        for friend in self._friends():
            for transport in friend.streams:
                if _id(friend, transport) == wanted:
                    log.info("stream %s to %s is closed by command", wanted, transport.target)
                    transport.abort()
                    return {"id": wanted, "target": str(transport.target)}
        raise ValueError("no such stream: `toxproxy streams` shows those that there are")

    async def ping(self, params: Params) -> AsyncGenerator[object, None]:
        """`PongSnapshot`s of a peer: `count` of them (4), or until the path is direct (`until_direct`).

        `peer` is a name or the beginning of a key; without it there must be only one. `interval_s` lies
        between two (1), each waits `timeout_s` (5). A `count` of 0 is without end.
        """
        expect(params, "peer", "count", "interval_s", "timeout_s", "until_direct")
        friend = find_peer(self._observer, self._friends(), optional_text(params, "peer"))
        count = int(number(params, "count", 4, least=0, most=_MOST_COUNT)) or math.inf
        pause = number(params, "interval_s", 1.0, least=_LEAST_INTERVAL, most=_MOST_INTERVAL)
        seconds = number(params, "timeout_s", 5.0, least=_LEAST_INTERVAL, most=_MOST_SECONDS)
        done = 0
        while done < count:
            if done:
                await asyncio.sleep(pause)
            pong = await self._pong(friend, seconds)
            yield encoded(pong)
            if (
                params.get("until_direct") is True
                and pong.rtt_ms is not None
                and pong.path is PathKind.DIRECT
            ):
                return
            done += 1

    async def _pong(self, friend: Friend, seconds: float) -> PongSnapshot:
        rtt: float | None = None
        try:
            async with asyncio.timeout(seconds):
                rtt = await friend.ping()
        except (StreamRefused, TimeoutError):
            pass  # the state says more
        peer = self._observer.peer(friend)
        rtt_ms = None if rtt is None else round(rtt * 1000, 3)
        return PongSnapshot(peer_key=peer.key, state=peer.state, path=peer.path, rtt_ms=rtt_ms)


def find_peer(observer: Observer, friends: Iterable[Friend], wanted: str | None) -> Friend:
    """The friend with this name or beginning of a key; without one, the only one. Raises `ValueError`."""
    friends = list(friends)
    if wanted is not None:
        friends = [each for each in friends if _is_called(observer.peer(each), wanted)]
    elif len(friends) > 1:  # the only one that is there, if there is one
        there = [each for each in friends if observer.peer(each).state is PeerState.CONNECTED]
        friends = there if len(there) == 1 else friends
    if len(friends) == 1:
        return friends[0]
    if not friends:
        raise ValueError("there is no such peer" if wanted is not None else "there is no peer yet")
    raise ValueError(f"there are {len(friends)} peers: say which: {', '.join(short(f.key) for f in friends)}")


def explained(snapshot: Snapshot) -> dict[str, object]:
    """A snapshot with its findings, as JSON values."""
    return {**encoded(snapshot), "findings": encoded(findings(snapshot))}


def expect(params: Params, *known: str) -> None:
    """Raise `ValueError` for a param that the method does not have."""
    if unknown := sorted(params.keys() - set(known)):
        raise ValueError(f"unknown param {unknown[0]}; expected {', '.join(known) or 'none'}")


def text(params: Params, name: str) -> str:
    """A param that is text. Raises `ValueError`."""
    value = params.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text")
    return value


def optional_text(params: Params, name: str) -> str | None:
    """A param that is text, or missing. Raises `ValueError`."""
    return None if params.get(name) is None else text(params, name)


def number(params: Params, name: str, default: float, *, least: float, most: float) -> float:
    """A param that is a number. Raises `ValueError`."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name}: expected a number from {least:g} to {most:g}")
    return value


def _is_called(peer: PeerSnapshot, wanted: str) -> bool:
    beginning = len(wanted) >= _LEAST_PREFIX and peer.key.startswith(wanted.upper())
    return wanted in (peer.name, peer.words) or beginning


def _id(friend: Friend, transport: StreamEnd) -> str:
    return f"{short(friend.key)}-{transport.stream.id}"


def _stream(friend: Friend, transport: StreamEnd) -> StreamSnapshot:
    stream = transport.stream
    return StreamSnapshot(
        id=_id(friend, transport),
        peer_key=friend.key.hex().upper(),
        target=str(transport.target),
        state=stream.state,
        age_s=round(asyncio.get_running_loop().time() - transport.opened_at, 3),
        sent_bytes=transport.carried[0],
        received_bytes=transport.carried[1],
        unsent_bytes=stream.sender.buffered,
    )
