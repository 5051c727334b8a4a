"""How much may be in flight, and how fast it may leave: congestion control for a link.

ENet has none worth the name, and Tox's lossy packets have none at all. This controller does as
BBR does (draft-ietf-ccwg-bbr): it does not take a lost packet for congestion, which on the
paths this program is for is noise, but measures. The *rate* is the most that was delivered in
one of the last rounds, the *base* the least round trip of the last seconds; in flight may be
what the path itself holds, rate times base, and a small standing queue on top, so that the
path is full and a keystroke beside a download does not wait.

    STARTUP   the window doubles every round, until the rate no longer grows or a queue does
    STEADY    eight rounds: one with more, to see whether there is more; one with less if
              a queue stands; the others in between
    PROBE     every few seconds a moment with much less, to see the base again

Pure: time, deliveries and round trips go in; a window and an allowance come out. Units are
bytes and seconds. A round is the time in which everything that was in flight at its beginning
is delivered, at least `_SHORTEST_ROUND`.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

INITIAL_WINDOW = 64 * 1024
LEAST_WINDOW = 16 * 1024
MOST_WINDOW = 16 * 1024 * 1024

_SHORTEST_ROUND = 0.01
_QUEUE_SHARE = 0.125  # of the base: how long a queue may stand …
_QUEUE_LEAST = 0.008  # … and in seconds, at least: the two event loops are a queue, too
_NOISE = 0.004  # seconds that a round trip may exceed the base without a queue
_MORE, _LESS, _MUCH_LESS = 1.25, 0.9, 0.6  # gains
_CYCLE = 8  # rounds
_RATE_ROUNDS = 10  # for how long a rate is remembered
_STALE_ROUNDS = 2  # … when a queue grows out of bounds: the path has become slower
_LOST_ROUNDS = 4  # … and when that did not help: the round trip itself has grown
_ANOTHER = 1.5  # growth of the base that makes it another path
_TOO_MUCH = 3.0  # 
_PROBE_SECONDS = 5.0  # between two looks at the base
_GROWTH = 1.25  # less than this per round, three times: the path is full
_PATIENCE = 3
_FOUND = 1.05  # growth in STEADY that is worth another look
_SAMPLES = 8  # round trips whose least is compared with the base during STARTUP
_LEAST_SPREAD = 0.03
_PACING = 1.25  # how much faster than the rate packets may leave
_BURST_SECONDS = 0.005
_LEAST_BURST = 16 * 1024


class Phase(Enum):
    STARTUP = "startup"
    STEADY = "steady"
    PROBE = "probe"


class Controller:
    """The window and the pace of one link.

    Call `delivered` after every batch of acknowledgements and `sent` after every send;
    `allowance` says how much may be sent now, and `pause` when to ask again.
    """

    def __init__(self, now: float) -> None:
        self.phase = Phase.STARTUP
        self.rate = 0.0  # bytes per second
        self.base = 0.0  # seconds; 0 until measured
        self._window = float(INITIAL_WINDOW)
        self._sent = 0
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=_RATE_ROUNDS)
        self._looking = False  # at the base: during a PROBE and the round after it
        self._seen = math.inf  # the least round trip since then
        self._stale = 0  # rounds in a row with a queue out of bounds
        self._flat = 0  # rounds in a row in which the rate did not grow
        self._round = 0
        self._round_began = now
        self._round_delivered = 0
        self._round_ends_at = 0  # bytes delivered
        self._round_trip: float | None = None  # the least of this round
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self._idle = True  # the application left room in the window during this round
        self._last_trip = 0.0  # the least of the last round
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
        """Bytes that may be sent now."""
        self._refill(now)
        return int(min(self._window - in_flight, self._tokens))

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
            self._round_trip = min(round_trip, self._round_trip or round_trip)
            if not self.base or round_trip < self.base:
                self.base = round_trip
            self._seen = min(round_trip, self._seen)
            self._samples.append(round_trip)
        if self.phase is Phase.STARTUP and 2 * before >= self._window:
            self._window = min(self._window + acknowledged, MOST_WINDOW)
        if now - self._round_began >= _SHORTEST_ROUND and (
            self._delivered > self._round_ends_at or self._overshoots(now)
        ):
            self._end_round(now)

    def _overshoots(self, now: float) -> bool:
        """Whether a queue grows in STARTUP: by the end of the round it would be twice as long."""
        return (
            self.phase is Phase.STARTUP
            and not self._idle
            and len(self._samples) == _SAMPLES
            and min(self._samples) - self.base - _NOISE > self._queue_allowed
            and now - self._round_began > self.base / 2
        )

    @property
    def _outgrown(self) -> bool:
        """Whether so much is in flight that the path cannot have kept up."""
        return not self._idle and self._window > _TOO_MUCH * self.rate * self.base

    def _end_round(self, now: float) -> None:
        rate = (self._delivered - self._round_delivered) / (now - self._round_began)
        growth = rate / self.rate if self.rate else _GROWTH
        if self._round_trip is not None:
            self._last_trip = self._round_trip
        if not self._idle or rate > self.rate:
            self._note_rate(rate)
        if self.phase is Phase.STARTUP:
            self._flat = 0 if growth >= _GROWTH or self._idle else self._flat + 1
            if self._flat >= _PATIENCE or self._overshoots(now) or self._outgrown:
                self.phase = Phase.STEADY
                self._round = 1  # with less, if there is a queue
        elif self.phase is Phase.PROBE:
            self.phase = Phase.STEADY
            self._round = _CYCLE - 1
        elif self._looking:
            self._look(now)
        else:
            # What a round with more finds shows by the end of the next one. If it was more, go on.
            found = self._round % _CYCLE < 2 and growth > _FOUND and not self._idle
            self._round = 0 if found else self._round + 1
            if now - self._probed > _PROBE_SECONDS or self._stale >= _LOST_ROUNDS:
                self.phase = Phase.STEADY if self._idle else Phase.PROBE
                self._looking = True
                self._seen = math.inf
        if self.phase is not Phase.STARTUP:
            self._window = self._model()
        self._begin_round(now)

    def _look(self, now: float) -> None:
        """The round after a PROBE has shown the base as it is now."""
        self._looking = False
        self._probed = now
        self._stale = 0
        self._round += 1
        if math.isinf(self._seen):
            return
        if self._seen > _ANOTHER * self.base:
            self.phase = Phase.STARTUP
            self._flat = 0
            self._rates.clear()
        self.base = self._seen

    def _begin_round(self, now: float) -> None:
        self._round_began = now
        self._round_delivered = self._delivered
        self._round_ends_at = self._sent
        self._round_trip = None
        self._idle = False

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
        return max(_QUEUE_SHARE * self.base, _QUEUE_LEAST)

    def _model(self) -> float:
        """The window by rate and base, and by where in the cycle this is."""
        full = self.rate * (self.base + self._queue_allowed)
        if self.phase is Phase.PROBE:
            window = max(_MUCH_LESS * self.rate * self.base, full / 2)
        elif self._round % _CYCLE == 0:
            window = full + (_MORE - 1) * self.rate * self.base
        elif self._round % _CYCLE == 1 and self._queue > 0:
            window = max(_LESS * self.rate * self.base, full / 2)
        else:
            window = full
        return min(max(window, LEAST_WINDOW), MOST_WINDOW)

    def _pace(self) -> float:
        """Bytes per second; 0 is without limit."""
        if self.phase is Phase.STARTUP:
            return 2 * self._window / self.base if self.base else 0.0
        return _PACING * self.rate

    def _refill(self, now: float) -> None:
        pace = self._pace()
        burst = max(_LEAST_BURST, pace * _BURST_SECONDS) if pace else float(MOST_WINDOW)
        self._tokens = min(self._tokens + pace * (now - self._tokens_at), burst) if pace else burst
        self._tokens_at = now
