"""How much may be in flight, and how fast it may leave: congestion control for a link.

ENet has none worth the name, Tox's lossy packets none at all. This controller does as BBR does
(draft-ietf-ccwg-bbr): it does not take a lost packet for congestion, which on the paths this
program is for is noise, but measures. The *rate* is the most that was delivered in one of the
last rounds, the *base* the least round trip since the path was last seen empty; in flight may be
what the path itself holds, rate times base, and a small standing queue on top, so that the path
is full and a keystroke beside a download does not wait; a longer one where round trips vary.

    STARTUP   the window doubles every round, until the rate no longer grows or a queue does
    STEADY    eight rounds: one with more, to see whether there is more; one with no more than the
              path itself holds, if a queue stands; the others in between
    PROBE     a round with less, where no round trip was near the base for seconds; flows that
              share a path last saw it empty at the same moment, so they do this together
    LOOK      the next one, whose least round trip is the base from then on

Pure: time, deliveries and round trips go in; a window and an allowance come out. Units are
bytes and seconds. A round ends when something is delivered that was sent after it began, or
when a long queue shows before, but lasts `_SHORTEST_ROUND` at least.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

INITIAL_WINDOW = 64 * 1024
LEAST_WINDOW = 16 * 1024
MOST_WINDOW = 16 * 1024 * 1024

_SHORTEST_ROUND = 0.01
_QUEUE_SHARE = 0.125  # of the base: how long a queue may stand …
_QUEUE_LEAST = 0.008  # … and in seconds, at least: the two event loops are a queue, too
_NOISE = 0.004  # seconds that a round trip may exceed the base without a queue
_MORE, _LESS = 1.25, 0.6  # gains
_CYCLE = 8  # rounds
_RATE_ROUNDS = 10  # for how long a rate is remembered
_STALE_ROUNDS, _LOST_ROUNDS = 2, 4  # with a long queue: the path is slower; no, the base may be another
_PROBE_SECONDS = 5.0  # without a round trip near the base
_ANOTHER_PATH = 2.0  # growth of the base that says so
_GROWTH, _PATIENCE = 1.25, 3  # less than this, in so many rounds: the path is full
_TOO_MUCH = 3.0  # times rate and base in flight: most of it is queued or lost, the path is full
_FOUND = 1.05  # growth in STEADY that is worth another look
_SAMPLES = 8  # round trips that say something together
_LEAST_SPREAD = 0.03
_PACING = 1.25  # how much faster than the rate packets may leave
_BURST_SECONDS, _LEAST_BURST = 0.005, 16 * 1024  # at once: the pace's share of that time, or so many bytes


class ControlPhase(Enum):
    STARTUP = "startup"
    STEADY = "steady"
    PROBE = "probe"
    LOOK = "look"


class Controller:
    """The window and the pace of one link.

    Call `delivered` after every batch of acknowledgements and `sent` after every send;
    `allowance` says how much may be sent now, and `pause` when to ask again.
    """

    def __init__(self, now: float) -> None:
        self.phase = ControlPhase.STARTUP
        self.rate = 0.0  # bytes per second
        self.base = 0.0  # seconds; 0 until measured
        self._window = float(INITIAL_WINDOW)
        self._sent = 0
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=_RATE_ROUNDS)
        self._stale = 0  # rounds in a row with a queue out of bounds
        self._flat = 0  # rounds in a row in which the rate did not grow
        self._round = 0  # in the cycle of STEADY
        self._round_began = now
        self._round_delivered = 0
        self._round_ends_at = 1  # bytes delivered
        self._trips: list[float] = []  # of this round
        self._last_trip = 0.0  # the least of the last round
        self._jitters: deque[float] = deque(maxlen=_CYCLE)  # a round's mean trip less its least
        self._idle = True  # the application left room in the window during this round
        self._was_idle = True  # … and during the one before
        self._probed = now
        self._tokens = float(INITIAL_WINDOW)
        self._tokens_at = now

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""
        return int(self._window)

    def sent(self, now: float, length: int) -> None:
        """`length` bytes were sent."""
        self._refill(now)
        self._tokens -= length
        self._sent += length

    def left_room(self, in_flight: int) -> None:
        """The application has nothing more to send now.

        Where that leaves half of the window unused, this round says little about the path.
        """
        self._idle = self._idle or 2 * in_flight < self._window

    @property
    def spread(self) -> float:
        """Seconds by which round trips vary by what this controller does itself.

        A packet that is late by this much is not lost.
        """
        return max(self._queue_allowed + (_MORE - 1) * self.base, _LEAST_SPREAD)

    def allowance(self, now: float, in_flight: int) -> int:
        """Bytes that may be sent now; negative where too much is in flight."""
        self._refill(now)
        # What ENet has not begun to send is not in flight for it, and just as much on its way.
        on_its_way = max(in_flight, self._sent - self._delivered)
        return int(min(self._window - on_its_way, self._tokens))

    def pause(self) -> float:
        """Seconds until the pace allows more."""
        pace = self._pace()
        return max(0.0, (_LEAST_BURST / 2 - self._tokens) / pace) if pace else 0.0

    def delivered(self, now: float, in_flight: int, round_trip: float | None) -> None:
        """Everything sent is delivered but `in_flight` bytes; `round_trip` was just measured."""
        before = self._sent - self._delivered
        acknowledged = max(0, before - in_flight)
        self._delivered += acknowledged
        if round_trip is not None:
            self._note_trip(now, round_trip)
        if self.phase is ControlPhase.STARTUP and 2 * before >= self._window:
            self._window = min(self._window + acknowledged, MOST_WINDOW)
        over = self._delivered >= self._round_ends_at or self._overflows(now)
        if over and now - self._round_began >= _SHORTEST_ROUND:
            self._end_round(now)

    def _note_trip(self, now: float, trip: float) -> None:
        self._trips.append(trip)
        self.base = min(trip, self.base or trip)
        if trip <= self.base + _NOISE:
            self._probed = now

    def _overflows(self, now: float) -> bool:
        """Whether a queue shows that is too long to wait for the end of the round."""
        early = len(self._trips) < _SAMPLES or now - self._round_began <= self.base / 2
        if early or self._idle or self.phase is ControlPhase.PROBE:
            return False
        bound = self._queue_allowed if self.phase is ControlPhase.STARTUP else 2 * self.spread
        return min(self._trips[-_SAMPLES:]) - self.base - _NOISE > bound

    def _end_round(self, now: float) -> None:
        rate = (self._delivered - self._round_delivered) / (now - self._round_began)
        growth = rate / self.rate if self.rate else _GROWTH
        if self._trips:
            self._last_trip = min(self._trips)
            if len(self._trips) >= _SAMPLES:
                self._jitters.append(sum(self._trips) / len(self._trips) - self._last_trip)
        if rate and (not self._idle or rate > self.rate):
            self._note_rate(rate)
        self.phase = _NEXT[self.phase](self, now, growth)
        if self.phase is not ControlPhase.STARTUP:
            self._window = self._model()
        self._begin_round(now)

    def _after_startup(self, now: float, growth: float) -> ControlPhase:
        if not self.base:
            return ControlPhase.STARTUP  # nobody measures round trips here: there is nothing to go by
        settled = not self._idle and not self._was_idle
        self._flat = self._flat + 1 if settled and growth < _GROWTH else 0
        outgrown = settled and self._window > _TOO_MUCH * self.rate * self.base
        if not outgrown and self._flat < _PATIENCE and not self._overflows(now):
            return ControlPhase.STARTUP
        self._round = 1  # with less, if there is a queue
        return ControlPhase.STEADY

    def _after_steady(self, now: float, growth: float) -> ControlPhase:
        # What a round with more finds shows by the end of the next one. If it was more, go on.
        found = self._round % _CYCLE < 2 and growth > _FOUND and not self._idle
        self._round = 0 if found else self._round + 1
        if now - self._probed <= _PROBE_SECONDS and self._stale < _LOST_ROUNDS:
            return ControlPhase.STEADY
        return ControlPhase.LOOK if self._idle else ControlPhase.PROBE  # an idle round leaves no queue either

    def _after_look(self, now: float, growth: float) -> ControlPhase:
        self._probed = now
        self._stale = self._round = 0
        before, self.base = self.base, self._last_trip
        if self.base <= _ANOTHER_PATH * before:
            return ControlPhase.STEADY
        self._rates.clear()
        self._window = max(self._window, INITIAL_WINDOW)
        self._flat, self._idle = 0, True  # the first round there says little
        return ControlPhase.STARTUP

    def _begin_round(self, now: float) -> None:
        self._round_began = now
        self._round_delivered = self._delivered
        self._round_ends_at = self._sent + 1
        self._trips.clear()
        self._was_idle, self._idle = self._idle, False

    def _note_rate(self, rate: float) -> None:
        self._stale = self._stale + 1 if self._queue > 2 * self._queue_allowed else 0
        if self._stale >= _STALE_ROUNDS:
            while len(self._rates) > _STALE_ROUNDS:
                self._rates.popleft()
        self._rates.append(rate)
        self.rate = max(self._rates)

    @property
    def _queue(self) -> float:
        """Seconds of queue that stood throughout the last round."""
        return self._last_trip - self.base - _NOISE

    @property
    def _queue_allowed(self) -> float:
        return max(_QUEUE_SHARE * self.base, _QUEUE_LEAST, 2 * min(self._jitters, default=0.0))

    def _model(self) -> float:
        """The window by rate and base, and by where in the cycle this is."""
        held = self.rate * self.base
        window = full = held + self.rate * self._queue_allowed
        if self.phase is ControlPhase.PROBE:
            window = max(_LESS * held, full / 2)
        elif self.phase is ControlPhase.STEADY and self._round % _CYCLE == 0:
            window += (_MORE - 1) * held
        elif self.phase is ControlPhase.STEADY and self._round % _CYCLE == 1 and self._queue > 0:
            window = max(held, full / 2)
        return min(max(window, LEAST_WINDOW), MOST_WINDOW)

    def _pace(self) -> float:
        """Bytes per second; 0 is without limit."""
        if self.phase is ControlPhase.STARTUP:
            return 2 * self._window / self.base if self.base else 0.0
        return _PACING * self.rate

    def _refill(self, now: float) -> None:
        pace = self._pace()
        burst = max(_LEAST_BURST, pace * _BURST_SECONDS) if pace else float(MOST_WINDOW)
        self._tokens = min(self._tokens + pace * (now - self._tokens_at), burst) if pace else burst
        self._tokens_at = now


_NEXT: dict[ControlPhase, Callable[[Controller, float, float], ControlPhase]] = {
    ControlPhase.STARTUP: Controller._after_startup,
    ControlPhase.STEADY: Controller._after_steady,
    ControlPhase.PROBE: lambda *_: ControlPhase.LOOK,
    ControlPhase.LOOK: Controller._after_look,
}
