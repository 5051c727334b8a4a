"""Congestion control for a link: how many bytes may be in flight, and how fast they may leave.

ENet's own congestion control does not suit these paths, and Tox's lossy packets have none. This
controller follows BBR (draft-ietf-ccwg-bbr): it measures the path, and does not take a lost packet
for congestion, since these paths also lose packets by chance. The *rate* is the highest delivery
rate of the last rounds. The *base* is the minimum round trip since the path was last empty. The
window is rate times base plus a small queue, which is longer where round trips vary. So the path is
full, and a keystroke beside a download does not wait for long.

    STARTUP   The window doubles every round, until the rate no longer grows or a queue builds up.
    STEADY    A cycle of eight rounds: one with a larger window, to see whether the rate grows; then one
              without the queue, if there is a queue; then six with the usual window.
    PROBE     One round with a smaller window, after seconds without a round trip near the base. Flows
              that share a path saw it empty at the same moment, so they do this at the same time.
    LOOK      The round after PROBE. Its minimum round trip becomes the base.

Pure: times, deliveries and round trips go in; a window and an allowance come out. Units are bytes
and seconds. A round ends when bytes are delivered that were sent after it began, or earlier when
the queue gets too long. It lasts at least `_SHORTEST_ROUND`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

INITIAL_WINDOW = 64 * 1024
LEAST_WINDOW = 16 * 1024
MOST_WINDOW = 16 * 1024 * 1024

_SHORTEST_ROUND = 0.01
_QUEUE_SHARE = 0.125  # how long the queue may be, as a share of the base …
_QUEUE_LEAST = 0.008  # … and at least, in seconds: the two event loops delay packets, too
_NOISE = 0.004  # seconds by which a round trip may exceed the base without being a queue
_MORE, _LESS = 1.25, 0.6  # the window of the larger round and of PROBE, as multiples of rate times base
_CYCLE = 8  # rounds of STEADY
_RATE_ROUNDS = 10  # how many rounds a measured rate counts
_STALE_ROUNDS, _LOST_ROUNDS = 2, 4  # rounds with a long queue: old rates are dropped; PROBE begins
_PROBE_SECONDS = 5.0  # seconds without a round trip near the base, after which PROBE begins
_ANOTHER_PATH = 2.0  # growth of the base which means that the path is another one
_GROWTH, _PATIENCE = 1.25, 3  # less growth than this, in so many rounds: the path is full
_TOO_MUCH = 3.0  # times rate and base: with such a window most of it is queued or lost, and the path is full
_FOUND = 1.05  # growth in STEADY after which another larger round follows
_SAMPLES = 8  # round trips that are enough for a judgement
_LEAST_SPREAD = 0.03  # seconds
_PACING = 1.25  # packets may leave so many times faster than the rate
_BURST_SECONDS, _LEAST_BURST = 0.005, 16 * 1024  # may leave at once: seconds of the pace, or bytes


class ControlPhase(Enum):
    """What the controller is doing; see above."""

    STARTUP = "startup"
    STEADY = "steady"
    PROBE = "probe"
    LOOK = "look"


class Controller:
    """The window and the pace of one link.

    Call `delivered` after each batch of acknowledgements, and `sent` after each sending. `allowance`
    says how many bytes may be sent now, and `pause` when to ask again.
    """

    def __init__(self, now: float) -> None:
        self.phase = ControlPhase.STARTUP
        self.rate = 0.0  # bytes per second
        self.base = 0.0  # seconds; 0 until measured
        self._window = float(INITIAL_WINDOW)
        self._sent = 0
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=_RATE_ROUNDS)
        self._stale = 0  # rounds in a row with a queue that was too long
        self._flat = 0  # rounds in a row in which the rate did not grow
        self._round = 0  # its position in the cycle of STEADY
        self._round_began = now
        self._round_delivered = 0
        self._round_ends_at = 1  # when so many bytes are delivered
        self._trips: list[float] = []  # the round trips of this round
        self._last_trip = 0.0  # the minimum of the last round
        self._jitters: deque[float] = deque(maxlen=_CYCLE)  # of each round: mean trip less its minimum
        self._idle = True  # in this round the application used less than half of the window
        self._was_idle = True  # … and in the round before
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

        If half of the window or more is unused, this round says little about the path.
        """
        self._idle = self._idle or 2 * in_flight < self._window

    @property
    def spread(self) -> float:
        """Seconds by which this controller itself makes round trips vary.

        A packet that is no later than this is not taken for lost.
        """
        return max(self._queue_allowed + (_MORE - 1) * self.base, _LEAST_SPREAD)

    def allowance(self, now: float, in_flight: int) -> int:
        """Bytes that may be sent now; negative where too much is in flight."""
        self._refill(now)
        # ENet does not count bytes in flight that it has not begun to send; this controller does.
        on_its_way = max(in_flight, self._sent - self._delivered)
        return int(min(self._window - on_its_way, self._tokens))

    def pause(self) -> float:
        """Seconds until the pace allows more to be sent."""
        pace = self._pace()
        return max(0.0, (_LEAST_BURST / 2 - self._tokens) / pace) if pace else 0.0

    def delivered(self, now: float, in_flight: int, round_trip: float | None) -> None:
        """All but `in_flight` of the sent bytes are delivered; `round_trip` is a new measurement, if any."""
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
        """Whether the queue is too long to wait for the end of the round."""
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
            return ControlPhase.STARTUP  # round trips are not measured on this link, so nothing is known
        settled = not self._idle and not self._was_idle
        self._flat = self._flat + 1 if settled and growth < _GROWTH else 0
        outgrown = settled and self._window > _TOO_MUCH * self.rate * self.base
        if not outgrown and self._flat < _PATIENCE and not self._overflows(now):
            return ControlPhase.STARTUP
        self._round = 1  # the round that drains the queue, if there is one
        return ControlPhase.STEADY

    def _after_steady(self, now: float, growth: float) -> ControlPhase:
        # The effect of a larger round shows by the end of the next one. If the rate grew, try another.
        found = self._round % _CYCLE < 2 and growth > _FOUND and not self._idle
        self._round = 0 if found else self._round + 1
        if now - self._probed <= _PROBE_SECONDS and self._stale < _LOST_ROUNDS:
            return ControlPhase.STEADY
        # An idle round has drained the queue, so that PROBE is not needed.
        return ControlPhase.LOOK if self._idle else ControlPhase.PROBE

    def _after_look(self, now: float, growth: float) -> ControlPhase:
        self._probed = now
        self._stale = self._round = 0
        before, self.base = self.base, self._last_trip
        if self.base <= _ANOTHER_PATH * before:
            return ControlPhase.STEADY
        self._rates.clear()
        self._window = max(self._window, INITIAL_WINDOW)
        self._flat, self._idle = 0, True  # the first round on another path says little
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
        """The queue that lasted throughout the last round, in seconds."""
        return self._last_trip - self.base - _NOISE

    @property
    def _queue_allowed(self) -> float:
        return max(_QUEUE_SHARE * self.base, _QUEUE_LEAST, 2 * min(self._jitters, default=0.0))

    def _model(self) -> float:
        """The window for the measured rate and base, and for the round of the cycle."""
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
        """Bytes per second; 0 means without limit."""
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
