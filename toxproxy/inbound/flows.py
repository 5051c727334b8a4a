"""The flows of a UDP port: one for each client of a forward, or for each target of a SOCKS association."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from toxproxy.address import UdpTarget
from toxproxy.dialer import Flow, FlowDialer
from toxproxy.errors import Refusal, StreamError, StreamRefused
from toxproxy.pace import TokenBucket

K = TypeVar("K")

_AT_ONCE, _A_SECOND = 256, 100.0  # flows that are opened: a flood of forged addresses makes no more
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds that a refused one is not asked for again


class Openings:
    """How many flows a port may have: `most` together, and so many new ones at once and in a second."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0  # of those that there are, refused ones included
        self.opened = 0  # since the beginning
        self._pace = TokenBucket(_AT_ONCE, _A_SECOND)

    def take(self) -> bool:
        """Whether another one may be opened now; if so, it is counted."""
        if not self._pace.take():
            return False
        self.opened += 1
        return True


class FlowTable(Generic[K]):
    """Flows by their keys; `answer` gets what comes of one, `refused` why one was not opened.

    The flows of several tables may share `openings`. Where there are as many as may be, a new one replaces
    the one that was silent longest: of those that were never answered, or if there is none, of all. So a
    flood that nobody answers ends no flow that is used.
    """

    def __init__(
        self,
        dialer: FlowDialer,
        openings: Openings,
        answer: Callable[[K, UdpTarget, bytes], None],
        refused: Callable[[UdpTarget, StreamRefused], None],
    ) -> None:
        self._dialer = dialer
        self._openings = openings
        self._answer = answer
        self._refused = refused
        self._unanswered: OrderedDict[K, _Entry[K]] = OrderedDict()
        self._answered: OrderedDict[K, _Entry[K]] = OrderedDict()
        self._closed = False

    def __len__(self) -> int:
        return len(self._unanswered) + len(self._answered)

    def send(self, key: K, target: UdpTarget, data: bytes) -> None:
        """Send a datagram to `target`, on the flow with this key; a new one if there is none."""
        for entries in (self._answered, self._unanswered):
            if (entry := entries.get(key)) is not None:
                entries.move_to_end(key)
                break
        else:
            if not self._make_room():
                return
            entry = self._unanswered[key] = _Entry(self, key, target)
            self._openings.count += 1
        if entry.flow is None and not self._open(entry):
            return
        assert entry.flow is not None
        entry.flow.send(data)

    def close(self) -> None:
        """End all flows, and open none any more."""
        self._closed = True
        self._openings.count -= len(self)
        for entry in (*self._answered.values(), *self._unanswered.values()):
            entry.close()
        self._answered.clear()
        self._unanswered.clear()

    def _open(self, entry: _Entry[K]) -> bool:
        if self._closed or monotonic() < entry.not_before or not self._openings.take():
            return False
        try:
            entry.flow = self._dialer.open_flow(entry, entry.target)
        except StreamRefused as refused:
            entry.flow_ended(refused)
            return False
        return True

    def _make_room(self) -> bool:
        """End a flow if there are as many as may be. False if other tables have them all."""
        while self._openings.count >= self._openings.most:
            if not len(self):
                return False
            _, entry = (self._unanswered or self._answered).popitem(last=False)
            entry.close()
            self._openings.count -= 1
        return True

    def answered(self, entry: _Entry[K], data: bytes) -> None:
        """A datagram came for a flow."""
        if self._unanswered.get(entry.key) is entry:
            self._answered[entry.key] = self._unanswered.pop(entry.key)
        elif self._answered.get(entry.key) is entry:
            self._answered.move_to_end(entry.key)
        else:
            return
        self._answer(entry.key, entry.target, data)

    def ended(self, entry: _Entry[K], error: StreamError | None) -> None:
        """A flow has ended. One that was refused is remembered, so that it is not asked for each time."""
        if isinstance(error, StreamRefused):
            self._refused(entry.target, error)
            if error.code is not Refusal.OFFLINE:
                return
        for entries in (self._unanswered, self._answered):
            if entries.get(entry.key) is entry:
                del entries[entry.key]
                self._openings.count -= 1


class _Entry(Generic[K]):
    """One flow, or the memory of one that was refused. It is a `FlowOwner`."""

    __slots__ = ("flow", "key", "not_before", "pause", "table", "target")

    def __init__(self, table: FlowTable[K], key: K, target: UdpTarget) -> None:
        self.table = table
        self.key = key
        self.target = target
        self.flow: Flow | None = None
        self.pause = _FIRST_PAUSE
        self.not_before = 0.0  # by `monotonic`

    def close(self) -> None:
        if self.flow is not None:
            self.flow.close()
            self.flow = None

    def flow_opened(self) -> None:
        self.pause = _FIRST_PAUSE

    def datagram_received(self, data: bytes) -> None:
        self.table.answered(self, data)

    def flow_ended(self, error: StreamError | None) -> None:
        self.flow = None
        self.not_before = monotonic() + self.pause
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)
        self.table.ended(self, error)
