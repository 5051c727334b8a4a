"""Congestion control: how many bytes may be in flight, and how fast they may leave.

It models the path, as BBR does (draft-ietf-ccwg-bbr): its bandwidth, its round trip without a queue,
and how much it loses by chance. The window is what the path holds and a short queue, so that the path
is full and a keystroke beside a download does not wait for long. Random loss is not congestion. Once a
path loses much more than by chance (a policer, a small buffer), the controller is *lossy*: it keeps to a
pace that the path is known to carry, and only tries a little more.

    STARTUP   The window doubles every round, until there is loss or a queue, or the rate stays.
    DOWN      One round with a little less than the path holds: the queue drains.
    CRUISE    Rounds with the usual window.
    UP        One round with more, to see whether the rate grows.
    AFTER     One round that shows what UP did. If the rate grew, another UP follows, with more.
    DEEP      One round with far less, after seconds without seeing the path empty. Flows that share a
              path saw it empty at the same moment, so they do this together.
    LOOK      The round that shows whether DEEP emptied the path. If not, DEEP once more.
    COMPETE   Two times DEEP did not help: others keep a queue. For some seconds the window grows until the
              queue is twice as long or something is lost, so as to get a share; then DEEP looks again.

Pure: the time, packets and acknowledgements go in, decisions come out. Bytes and seconds. A decision is
made at the end of a round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf, sqrt

from toxproxy.recovery.delays import Delays
from toxproxy.recovery.losses import Losses
from toxproxy.recovery.pacing import Pacer
from toxproxy.recovery.rounds import SHORTEST, Round, Rounds
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent

_PACKET = PACKET_SIZE + OVERHEAD
INITIAL_WINDOW = 48 * _PACKET
LEAST_WINDOW = 4 * _PACKET
MOST_WINDOW = 32 * 1024 * 1024

_FIRST_TRIP = 0.1  # seconds, until a round trip is measured
_RATE_ROUNDS = 10  # how many rounds a measured rate counts
_STARTUP_GROWTH = 1.5
_STARTUP_PACE = 2.0
_STARTUP_QUEUE = 0.125
_STARTUP_LOSS, _STARTUP_PACKETS = 0.2, 20  # so much loss, of so many packets, ends STARTUP at once
_GROWTH, _PATIENCE = 1.25, 3  # less growth than this, in so many rounds: the path is full
_TOO_MUCH = 3.0  # times what the path holds: then most of the window is queued or lost
_DOWN, _DEEP = 0.95, 0.6  # of what the path holds
_MORE, _MORE_FASTER, _MOST_MORE = 1.25, 1.2, 2.0  # the gain of UP, its growth while the rate grows, its end
_MORE_LOSSY, _MORE_FIRST = 1.08, 1.5
_PACING = 1.25  # packets may leave so many times faster than the rate, while the window governs
_LOSSY_WINDOW = 1.25  # of what the path holds, while the pace governs
_EVEN = 3e6
_MOST_EVEN = 1.5
_FIRST_UP = 5  # rounds after STARTUP until the first UP
_CYCLE, _LOSSY_CYCLE = 8, 12  # rounds from UP to UP
_FOUND, _FOUND_LOSSY = 1.05, 0.93  # of the rate before; of what was tried
_LEAST_CUT, _BACK = 0.8, 0.97
_STALE_ROUNDS, _LOST_ROUNDS = 2, 4  # rounds with a long queue: old rates are dropped; DEEP begins
_FIRST_DEEP = 0.5  # seconds after STARTUP
_DEEP_SECONDS = 5.0  # without seeing the path empty
_COMPETITION, _COMPETING_DEEPS = 10.0, 2  # seconds of COMPETE; DEEPs that show a queue of others …
_COMPETING_SECONDS = 2.0
_LEAST_OTHERS, _MOST_OTHERS = 0.02, 2.0  # … and how long it is, in seconds
_OTHERS_ALLOWED, _OTHERS_SHARE = 2.0, 0.5
_COMPETE_MORE, _COMPETE_ON, _COMPETE_LESS = 2.0, 1.2, 0.8  # the window at first a round, then a second; after a loss
_COMPETE_QUEUE = 1.5
_COMPETE_PACE = 1.5
_CUT = 1.0  # seconds without an acknowledgement, and …
_CUT_TRIPS = 4  # … round trips: the path was cut, which says nothing about congestion
_SAMPLES = 8


class State(Enum):
    """What the controller is doing; see above."""

    STARTUP = "startup"
    DOWN = "down"
    CRUISE = "cruise"
    UP = "up"
    AFTER = "after"
    DEEP = "deep"
    LOOK = "look"
    COMPETE = "compete"


class Controller:
    """The window and the pace of one path. Call `feedback` after each acknowledgement."""

    def __init__(self, now: float) -> None:
        self.reset(now)

    def reset(self, now: float) -> None:
        """Another path, of which nothing is known."""
        self.state = State.STARTUP
        self.lossy = False
        self.bandwidth = 0.0  # bytes per second; 0 until measured
        self._window = float(INITIAL_WINDOW)
        self._pacer = Pacer(now, INITIAL_WINDOW / _FIRST_TRIP)
        self._delays, self._losses, self._rounds = Delays(), Losses(), Rounds(now)
        self._delays.empty_at = now
        self._rates: deque[float] = deque(maxlen=_RATE_ROUNDS)
        self._settled = False  # STARTUP is over
        self._flat = 0  # rounds in a row in which the rate did not grow
        self._excesses = 0  # rounds in a row with more loss than by chance
        self._stale = 0  # rounds in a row with a queue that is much too long
        self._cycle = 0  # rounds since UP
        self._gain = _MORE
        self._before = 0.0  # the bandwidth before UP
        self._deeps = 0  # in a row that left a queue
        self._first_deep = inf  # when DEEP looks whether the path was empty in STARTUP
        self._deep_failed_at = now  # the first of them
        self._quiet_bandwidth = 0.0  # the bandwidth when the queue was last short
        self._competing = 0.0  # the window of COMPETE; 0: none yet
        self._others = _MOST_OTHERS  # the queue of others, in seconds
        self._compete_until = now
        self._compete_more = True
        self._heard = now
        self._ignored = now  # losses of packets that left before are no congestion

    @property
    def window(self) -> int:
        """Bytes that may be in flight; one packet may go beyond."""
        return int(self._window)

    def allows(self, now: float, in_flight: int) -> bool:
        """Whether a packet may leave now, by window and pace, with so many bytes in flight."""
        if in_flight >= self._window:
            self._rounds.limited = True
            return False
        return self._pacer.allows(now)

    def resumes(self, now: float, in_flight: int) -> float:
        """When `allows` will be true if nothing comes; inf if only an acknowledgement helps."""
        if in_flight >= self._window:
            return float("inf")
        return now + self._pacer.wait(now)

    def sent(self, packet: Sent, now: float, in_flight: int) -> None:
        """A packet left; `in_flight` includes it."""
        self._pacer.tokens -= packet.size
        self._rounds.last_sent = packet.number

    def exhausted(self, in_flight: int) -> None:
        """The source has nothing more to send, though it may."""
        if 2 * in_flight < self._window:
            self._rounds.idle = True

    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        """Packets were acknowledged or are taken for lost; so many bytes remain in flight."""
        rounds = self._rounds
        if acked and self._was_cut(now):
            self._ignored = now
            rounds.begin(now, None, None)
        if lost:
            ignored = self._ignored
            rounds.lost += sum([packet.sent_at >= ignored for packet in lost])
        if not acked:
            return
        self._heard = now
        size = sum([packet.size for packet in acked])
        rounds.size += size
        rounds.acked += len(acked)
        if self.state is State.STARTUP and 2 * (in_flight + size) >= self._window:
            self._window = min(self._window + size, MOST_WINDOW)
        if report is None:
            return
        self._delays.note(now, report)
        newest = acked[0] if acked[0].number > acked[-1].number else acked[-1]
        if rounds.over(now, newest) or self._overflows(now):
            self._end_round(now, rounds.result(newest, report))
            rounds.begin(now, newest, report)
            self._delays.begin_round()

    def _was_cut(self, now: float) -> bool:
        return now - self._heard > max(_CUT, _CUT_TRIPS * self._delays.base)

    def _overflows(self, now: float) -> bool:
        """Whether the queue is too long to wait for the end of the round."""
        delays, rounds = self._delays, self._rounds
        if delays.samples < _SAMPLES or rounds.idle or self.state in _UNDISTURBED:
            return self.state is State.LOOK and delays.samples >= _SAMPLES  # that is all it has to show
        if now - rounds.began <= max(delays.base / 2, SHORTEST):
            return False
        bound = self._startup_queue if self.state is State.STARTUP else 2 * delays.allowed + _MORE * delays.base / 4
        return delays.queue(_SAMPLES) > bound

    def _end_round(self, now: float, round: Round) -> None:
        self._losses.note(round.acked, round.lost)
        excess = self._losses.excess(round.acked, round.lost)
        self._excesses = self._excesses + 1 if excess else 0
        queue, allowed = self._delays.queue(), self._delays.allowed
        self._stale = self._stale + 1 if queue > 2 * allowed else 0
        growth = round.rate / self.rate if self._rates else _STARTUP_GROWTH
        if round.rate and (
            round.rate > self.rate or (not round.idle and (round.limited or round.lost or queue > 0))
        ):
            if self._stale >= _STALE_ROUNDS:
                while len(self._rates) > _STALE_ROUNDS - 1:
                    self._rates.popleft()
            self._rates.append(round.rate)
        if self.lossy and queue > allowed and not excess and self.state is not State.LOOK:
            self.lossy = False
        if not self.lossy:
            self.bandwidth = self.rate
        if not self._stale and not self._deeps:
            self._quiet_bandwidth = self.bandwidth
        self.state = _NEXT[self.state](self, now, round, growth, excess)
        self._apply(now)

    @property
    def rate(self) -> float:
        """The highest rate of the last rounds, bytes per second."""
        return max(self._rates, default=0.0)

    # What follows each state

    def _after_startup(self, now: float, round: Round, growth: float, excess: bool) -> State:
        if not self._delays.base or not self.rate:
            return State.STARTUP
        settled = not round.idle and round.limited
        heavy = round.acked + round.lost >= _STARTUP_PACKETS and round.share > _STARTUP_LOSS
        if growth < _STARTUP_GROWTH and (self._excesses >= 2 or heavy):
            self._become_lossy(max(list(self._rates)[-2:]))
            self._cycle = _LOSSY_CYCLE - _FIRST_UP
            return State.DOWN
        outgrown = self._window > _TOO_MUCH * self.rate * self._delays.base
        self._flat = self._flat + 1 if settled and (outgrown or growth < _GROWTH) else 0
        full = not round.idle and self._delays.queue() > self._startup_queue
        if full or self._flat >= _PATIENCE:
            self._gain, self._cycle = _MORE_FIRST, _CYCLE - _FIRST_UP
            return State.DOWN
        return State.STARTUP

    @property
    def _startup_queue(self) -> float:
        return max(self._delays.allowed, _STARTUP_QUEUE * self._delays.base)

    def _become_lossy(self, bandwidth: float) -> None:
        self.lossy = True
        self.bandwidth = bandwidth
        self._gain = _MORE
        self._excesses = 0

    def _after_down(self, now: float, round: Round, growth: float, excess: bool) -> State:
        if not self._settled:
            self._settled, self._first_deep = True, now + _FIRST_DEEP
        self._cycle += 1
        self._excesses = 0
        return State.CRUISE

    def _after_cruise(self, now: float, round: Round, growth: float, excess: bool) -> State:
        if self._excesses >= 2:
            rate = max(round.rate / (1 - self._losses.chance), _LEAST_CUT * self.bandwidth)
            gain = self._gain if self.lossy else _MORE_LOSSY
            self._become_lossy(min(rate, self.bandwidth))
            self._gain = gain
        if self._wants_deep(now):
            return State.DEEP if not round.idle else State.LOOK
        if round.idle:
            return State.CRUISE
        self._cycle += 1
        if self._cycle < (_LOSSY_CYCLE if self.lossy else _CYCLE):
            return State.CRUISE
        return self._begin_up()

    def _begin_up(self) -> State:
        self._before = self.bandwidth
        return State.UP

    def _wants_deep(self, now: float) -> bool:
        if now >= self._first_deep:
            self._first_deep = inf
            return True
        return now - self._delays.empty_at > _DEEP_SECONDS or self._stale >= _LOST_ROUNDS

    def _after_up(self, now: float, round: Round, growth: float, excess: bool) -> State:
        return State.AFTER

    def _after_after(self, now: float, round: Round, growth: float, excess: bool) -> State:
        self._cycle = 0
        found = self._found(round, excess) and not round.idle
        if self.lossy:
            if found:
                self.bandwidth = max(self._before, round.rate)
            elif excess:
                self.bandwidth = max(self._before, _BACK * round.rate)
            self._gain = min(max(self._gain, _MORE_LOSSY) * _MORE_FASTER, _MOST_MORE) if found else _MORE_LOSSY
        else:
            self._gain = min(self._gain * _MORE_FASTER, _MOST_MORE) if found else _MORE
        self._excesses = 0
        if found:
            return self._begin_up()
        return State.DOWN

    def _found(self, round: Round, excess: bool) -> bool:
        if excess:
            return False
        if self.lossy:
            quiet = self._delays.queue() <= self._delays.allowed
            return quiet and round.rate >= _FOUND_LOSSY * self._gain * self._before
        return round.rate >= _FOUND * self._before

    def _after_deep(self, now: float, round: Round, growth: float, excess: bool) -> State:
        return State.LOOK

    def _after_look(self, now: float, round: Round, growth: float, excess: bool) -> State:
        self._stale = self._cycle = 0
        self._delays.empty_at = now
        queue = self._delays.queue()
        if queue <= max(_OTHERS_ALLOWED * self._delays.allowed, _OTHERS_SHARE * self._delays.base, _LEAST_OTHERS):
            self._deeps, self._competing, self._others = 0, 0.0, _MOST_OTHERS
            return State.CRUISE
        self._deeps += 1
        if self._deeps == 1:
            self._deep_failed_at = now
        if self._deeps < _COMPETING_DEEPS or now - self._deep_failed_at < _COMPETING_SECONDS:
            return State.DEEP if queue > 2 * self._delays.base else State.CRUISE
        # The least of what was seen: two controllers that take each other for others calm down.
        self._others = min(queue, self._others)
        self._compete_until = now + _COMPETITION
        self._compete_more = True
        self._competing = max(self._competing, self._quiet_bandwidth * self._delays.base, self._window)
        return State.COMPETE

    def _after_compete(self, now: float, round: Round, growth: float, excess: bool) -> State:
        if now >= self._compete_until:
            return State.DEEP
        slower = _COMPETE_ON ** (now - self._rounds.began)
        if round.lost and self._losses.more_than_chance(round.acked, round.lost):
            self._compete_more = False
            self._competing *= _COMPETE_LESS
        elif self._delays.queue() > _COMPETE_QUEUE * self._others:
            self._compete_more = False
            self._competing /= slower
        elif not round.idle:
            self._competing = min(self._competing * (_COMPETE_MORE if self._compete_more else slower), MOST_WINDOW)
        return State.COMPETE

    # What a state allows

    def _apply(self, now: float) -> None:
        delays = self._delays
        base = delays.base
        if self.state is State.STARTUP:
            if base:
                self._pacer.set_rate(now, _STARTUP_PACE * self._window / base)
            return
        held = self.bandwidth * base
        share = min(_MOST_EVEN, sqrt(_EVEN / max(self.bandwidth, 1.0)))
        window = held + self.bandwidth * delays.share_allowed(share)
        gain = self._gain if self.state is State.UP else 1.0
        if self.lossy:
            pace = gain * self.bandwidth / (1 - self._losses.chance)
            window = gain * max(window, _LOSSY_WINDOW * held)
        else:
            pace = gain * _PACING * self.bandwidth
            window += (gain - 1) * held
        if self.state is State.DOWN:
            window = min(window, _DOWN * held)
        elif self.state is State.DEEP:
            window = _DEEP * held
        elif self.state is State.COMPETE:
            window = self._competing
            pace = _COMPETE_PACE * window / (base + max(delays.queue(), 0.0))
        self._window = min(max(window, LEAST_WINDOW), MOST_WINDOW)
        self._pacer.set_rate(now, max(pace, LEAST_WINDOW / max(base, SHORTEST)))


_UNDISTURBED = frozenset({State.DEEP, State.LOOK, State.COMPETE})  # a long queue does not end their rounds
_NEXT: dict[State, Callable[[Controller, float, Round, float, bool], State]] = {
    State.STARTUP: Controller._after_startup,
    State.DOWN: Controller._after_down,
    State.CRUISE: Controller._after_cruise,
    State.UP: Controller._after_up,
    State.AFTER: Controller._after_after,
    State.DEEP: Controller._after_deep,
    State.LOOK: Controller._after_look,
    State.COMPETE: Controller._after_compete,
}
