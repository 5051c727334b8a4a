"""Connections that are watched: their rates, and the lines of a screen that shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toxproxy.control.snapshots import Snapshot, StreamSnapshot
from toxproxy.program.amounts import duration, rate, size
from toxproxy.program.report import short, verdict

_HEAD = f"{'received':>21} {'sent':>21} {'for':>9}  where to"
KEYS = "up, down: choose   c: close it   q: quit"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStream:
    """A connection, and its bytes a second since it was looked at before."""

    stream: StreamSnapshot
    sent_bytes_per_s: float
    received_bytes_per_s: float

    @property
    def rate(self) -> float:
        """Both directions."""
        return self.sent_bytes_per_s + self.received_bytes_per_s


class LiveList:
    """The connections of an end, the fastest first. One may be chosen; it stays chosen when others come."""

    def __init__(self) -> None:
        self.streams: list[LiveStream] = []
        self.chosen: str | None = None
        self._before: dict[str, StreamSnapshot] = {}
        self._at = 0.0

    def update(self, streams: Sequence[StreamSnapshot], now: float) -> None:
        """What there is at `now`, in seconds of any clock."""
        live = [self._live(stream, now - self._at) for stream in streams]
        self.streams = sorted(live, key=lambda each: (-each.rate, each.stream.age_s))
        self._before, self._at = {stream.id: stream for stream in streams}, now
        if self.chosen not in self._before:
            self.chosen = None

    def _live(self, stream: StreamSnapshot, seconds: float) -> LiveStream:
        sent, received, span = stream.sent_bytes, stream.received_bytes, stream.age_s
        if (before := self._before.get(stream.id)) is not None:
            sent, received, span = sent - before.sent_bytes, received - before.received_bytes, seconds
        span = max(span, 0.1)
        return LiveStream(
            stream=stream, sent_bytes_per_s=max(0, sent) / span, received_bytes_per_s=max(0, received) / span
        )

    @property
    def position(self) -> int | None:
        """Where the chosen one is in the list."""
        ids = (each.stream.id for each in self.streams)
        return next((at for at, id in enumerate(ids) if id == self.chosen), None)

    def move(self, by: int) -> None:
        """Choose the one that is `by` lines below, as far as there are any."""
        if self.streams:
            at = self.position
            at = 0 if at is None else min(max(at + by, 0), len(self.streams) - 1)
            self.chosen = self.streams[at].stream.id

    def lines(self, snapshot: Snapshot, height: int, said: str = "") -> tuple[list[str], int | None]:
        """At most `height` lines, and which of them is the chosen connection. `said` is below them."""
        room = max(0, height - 5)
        first = max(0, (self.position or 0) - room + 1)
        shown = self.streams[first : first + room]
        names = {peer.key: peer.name or short(peer.key) for peer in snapshot.peers}
        many = len(names) > 1
        rows = [_row(each, names.get(each.stream.peer_key, "") if many else "") for each in shown]
        left = len(self.streams) - len(shown)
        foot = said or (f"{left} more" if left else "" if rows else "no connections")
        marked = None if self.position is None else self.position - first + 3
        return [verdict(snapshot), "", _HEAD, *rows, foot, KEYS][:height], marked


def _row(each: LiveStream, who: str) -> str:
    stream = each.stream
    down = f"{size(stream.received_bytes)} {rate(each.received_bytes_per_s):>11}"
    up = f"{size(stream.sent_bytes)} {rate(each.sent_bytes_per_s):>11}"
    where = f"{who}: {stream.target}" if who else stream.target
    return f"{down:>21} {up:>21} {duration(stream.age_s):>9}  {where}"
