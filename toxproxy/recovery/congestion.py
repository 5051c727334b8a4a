"""Congestion control: how many bytes may be in flight, and how fast they may leave.

It models the path, as BBR does (draft-ietf-ccwg-bbr): its bandwidth, its round trip without a queue,
and how much it loses by chance. The window is what the path holds and a short queue, so that the path
is full and a keystroke beside a download does not wait for long. Random loss is not congestion. Once a
path loses much more than by chance (a policer, a small buffer), the controller is *lossy*: it keeps to a
pace that the path is known to carry, and only tries a little more.

    STARTUP   The window doubles every round, until there is a queue, or the rate stays, or there is loss
              and the rate grows little.
    DOWN      One round with a little less than the path holds: the queue drains, if there is one.
    CRUISE    Rounds with the usual window.
    UP        One round with more, to see whether the rate grows.
    AFTER     One round that shows what UP did. If the rate grew, another UP follows, with more; after the
              first UP, STARTUP goes on, since it had ended too soon.
    DEEP      One round with far less, after seconds without seeing the path empty. Flows that share a
              path saw it empty at the same moment, so they do this together.
    LOOK      The moment that shows whether DEEP emptied the path.
    COMPETE   It did not: others keep a queue (see `competition`). After some seconds DEEP looks again.

Pure: the time, packets and acknowledgements go in, decisions come out. Units are bytes and seconds. A
decision is made at the end of a round.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf

from toxproxy.recovery.competition import Competition
from toxproxy.recovery.delays import NOISE, Delays
from toxproxy.recovery.losses import Losses
from toxproxy.recovery.pacing import Pacer
from toxproxy.recovery.rounds import SHORTEST, Round
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent

_PACKET = PACKET_SIZE + OVERHEAD
INITIAL_WINDOW = 48 * _PACKET
LEAST_WINDOW = 4 * _PACKET
MOST_WINDOW = 32 * 1024 * 1024

_FIRST_TRIP = 0.1  # seconds, until a round trip is measured
_LONGER_START = 2.0  # initial windows at most, on a path that is longer than this
_RATE_ROUNDS = 10  # how many rounds a measured rate counts
_STARTUP_PACE = 2.0  # windows in a round trip
_STARTUP_GROWTH = 1.5  # while the rate grows so much in a round, loss does not end STARTUP …
_STARTUP_LOSS, _STARTUP_PACKETS = 0.25, 20  # … and so much for each that arrived does it at once
_GROWTH, _PATIENCE = 1.25, 3  # less growth than this, in so many rounds: the path is full …
_LESS_SURE = 3  # … or in so many times more rounds, if the application might have sent more now and then
_LESS, _DEEP = 0.05, 0.6  # of what the path holds: so much less in DOWN, at most; so much in DEEP
_MORE, _MORE_FASTER, _MOST_MORE = 1.25, 1.2, 2.0  # the gain of UP, its growth while the rate grows, its end
_MORE_LOSSY = 1.08  # the usual gain when lossy
_PACING = 1.25  # packets may leave so many times faster than the rate, while the window governs
_LOSSY_WINDOW = 1.25  # of what the path holds, while the pace governs
_CYCLE, _FIRST_UP = 8, 5  # rounds from UP to UP; from STARTUP to UP
_FOUND, _FOUND_LOSSY = 1.05, 0.93  # the rate grew: by so much of what it was; to so much of what was tried
_LEAST_CUT, _BACK = 0.7, 0.93  # of the bandwidth; of the rate in an UP with much loss
_SLUMP = 0.7  # of the rate: with a long queue, less is a slower path
_STALE_SECONDS = 0.5  # with a long queue: DEEP begins
_FIRST_DEEP, _DEEP_SECONDS = 0.5, 5.0  # seconds after STARTUP; without seeing the path empty
_EVEN = 4e6  # bytes per second that have the usual queue
_LEAST_EVEN, _MOST_EVEN = 0.5, 3.0  # of it, for faster and for slower flows
_SAME_QUEUE = 0.002  # seconds by which a queue differs at least, if it is one
_CUT, _CUT_TRIPS = 1.0, 4  # seconds and round trips without an acknowledgement: the path was cut
_BUSY = 48  # packets of a round that is no chat
_CLEAN_ROUNDS = 12  # without a loss, an UP among them: the path is lossy no more
_SAMPLES = 4  # delays that are enough for a judgement within a round


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


_UNDISTURBED = frozenset({State.DEEP, State.LOOK, State.COMPETE})  # a long queue does not end their rounds


class Controller:
    """The window and the pace of one path. Call `feedback` after each acknowledgement."""

    def __init__(self, now: float) -> None:
        self.state = State.STARTUP
        self.lossy = False
        self.bandwidth = 0.0  # bytes per second; 0 until measured
        self._window = float(INITIAL_WINDOW)
        self._pacer = Pacer(now, INITIAL_WINDOW / _FIRST_TRIP)
        self._delays, self._losses, self._round = Delays(now), Losses(), Round(now)
        self._competition = Competition(MOST_WINDOW)
        self._rates: list[float] = []  # of the last rounds
        self._growth = 1.0  # how many times the highest rate this round had
        self._flat = 0  # rounds in a row in which the rate did not grow, times _LESS_SURE
        self._doubtful = False  # STARTUP has ended, and no UP has shown yet whether it ended too soon
        self._excesses = 0  # rounds in a row with more loss than by chance
        self._clean = 0  # rounds in a row without a loss
        self._stale = False  # the queue is much too long
        self._cycle = 0  # rounds since UP
        self._slump = False  # the rate fell, and no UP has followed yet
        self._gain = _MORE
        self._before = 0.0  # the bandwidth before UP
        self._quiet_at = now  # when the queue was last short
        self._queue_before = 0.0  # before DEEP
        self._first_deep = inf  # when to look whether the path was really empty in STARTUP
        self._heard = self._ignored = now  # losses of packets that left before are no congestion

    # For each packet

    def allows(self, now: float, in_flight: int) -> bool:
        """Whether a packet may leave now, by window and pace, with so many bytes in flight."""
        if in_flight >= self._window:
            self._round.limited = True
            return False
        return self._pacer.allows(now)

    def resumes(self, now: float, in_flight: int) -> float:
        """When `allows` will be true if nothing comes; inf if only an acknowledgement helps."""
        if in_flight >= self._window:
            return inf
        return now + self._pacer.wait(now)

    def sent(self, packet: Sent, now: float, in_flight: int) -> None:
        """A packet left; `in_flight` includes it."""
        self._pacer.tokens -= packet.size
        self._round.last_sent = packet.number

    # For each acknowledgement

    def exhausted(self, in_flight: int) -> None:
        """The source has nothing more to send, though it may."""
        if 2 * in_flight < self._window:
            self._round.idle = True

    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        """Packets were acknowledged or are taken for lost; so many bytes remain in flight."""
        round = self._round
        if acked:
            if now - self._heard > max(_CUT, _CUT_TRIPS * self._delays.base):
                self._ignored = now
                round.begin(now, None, None)
            self._heard = now
        if lost:
            ignored = self._ignored
            round.lost += sum([packet.sent_at >= ignored for packet in lost])
        if not acked:
            return
        size = sum([packet.size for packet in acked])
        round.size += size
        round.acked += len(acked)
        if self.state is State.STARTUP and 2 * (in_flight + size) >= self._window:
            self._window = min(self._window + size, MOST_WINDOW)
        if report is None:
            return
        self._delays.note(now, report)
        newest = acked[0] if acked[0].number > acked[-1].number else acked[-1]
        if round.over(now, newest) or self._ends_early(now):
            round.end(newest, report)
            self._end_round(now)
            round.begin(now, newest, report)
            self._delays.begin_round()

    @property
    def window(self) -> int:
        """Bytes that may be in flight; one packet may go beyond."""
        return int(self._window)

    def _ends_early(self, now: float) -> bool:
        """Whether the queue is too long to wait for the end of the round, or LOOK has seen enough."""
        delays, round = self._delays, self._round
        if delays.samples < _SAMPLES or round.idle or self.state in _UNDISTURBED:
            return self.state is State.LOOK and delays.samples >= _SAMPLES
        if now - round.began <= max(delays.base / 2, SHORTEST):
            return False
        bound = delays.allowed if self.state is State.STARTUP else 2 * delays.allowed + delays.base / 3
        return delays.queue(_SAMPLES) > bound

    # For each round

    def _end_round(self, now: float) -> None:
        round = self._round
        excess = self._losses.note(round.acked, round.lost)
        queue, allowed = self._delays.queue(), self._delays.allowed
        self._excesses = self._excesses + 1 if excess else 0
        self._stale = queue > 2 * allowed
        self._growth = round.rate / self.rate if self._rates else _STARTUP_GROWTH
        self._note_rate(queued=queue > 0)
        if self.lossy and queue > allowed and not excess and self.state is not State.LOOK:
            self.lossy = False
        self._clean = 0 if round.lost else self._clean + 1
        self.lossy = self.lossy and self._clean < _CLEAN_ROUNDS
        if not self.lossy:
            self.bandwidth = self.rate
        if not self._stale:
            self._quiet_at = now
        self.state = _NEXT[self.state](self, now)
        self._apply(now)

    def _note_rate(self, *, queued: bool) -> None:
        """A round counts if it shows what the path carries, and not what the application or the host did."""
        round = self._round
        full = not round.idle and (round.limited or round.lost or queued)
        if not round.rate or not (full or round.rate > self.rate):
            return
        if self._stale:  # the path has become slower
            self._slump = self._slump or round.rate < _SLUMP * self.rate
        self._rates = [*self._rates[-1 if self._stale else 1 - _RATE_ROUNDS :], round.rate]

    @property
    def rate(self) -> float:
        """The highest rate of the last rounds, bytes per second."""
        return max(self._rates, default=0.0)

    # What follows a state

    def _after_startup(self, now: float) -> State:
        if not self.rate:
            return State.STARTUP
        round, growth = self._round, self._growth
        heavy = round.acked + round.lost >= _STARTUP_PACKETS and round.lost > _STARTUP_LOSS * round.acked
        lossy = growth < _STARTUP_GROWTH and (heavy or self._excesses >= 2)
        sure = round.limited and not round.idle
        if growth >= _GROWTH or not (sure or round.acked >= _BUSY):
            self._flat = 0
        else:
            self._flat += _LESS_SURE if sure else 1
        queued = not round.idle and self._delays.queue(_SAMPLES) > self._delays.allowed
        if not lossy and not queued and self._flat < _PATIENCE * _LESS_SURE:
            return State.STARTUP
        self._gain, self._cycle, self._flat = _MORE, _CYCLE - _FIRST_UP, 0
        self._doubtful = not lossy
        self._first_deep = now + _FIRST_DEEP
        if lossy:
            self._become_lossy(max(self._rates[-2:]))
        self._ignored = now  # what is lost of the last rounds says nothing about the window from now on
        return State.DOWN

    def _become_lossy(self, bandwidth: float) -> None:
        self.lossy = True
        self.bandwidth = bandwidth
        self._excesses = 0

    def _after_down(self, now: float) -> State:
        self._cycle += 1
        self._excesses = 0  # they are from before
        return State.CRUISE

    def _after_cruise(self, now: float) -> State:
        round = self._round
        if self._excesses >= 2:
            carried = round.rate / (1 - self._losses.chance)
            if not self.lossy:
                self._gain = _MORE_LOSSY
            self._become_lossy(min(self.bandwidth, max(carried, _LEAST_CUT * self.bandwidth)))
        if self._wants_deep(now):
            self._queue_before = self._delays.queue()
            return State.LOOK if round.idle else State.DEEP  # an idle round drained the queue as well
        if round.idle:
            return State.CRUISE
        self._cycle += 1
        if self._slump and self._delays.queue() <= 0:  # it may be as fast as before again
            self._slump, self._gain, self._cycle = False, _MOST_MORE, _CYCLE
        if self._cycle < _CYCLE:
            return State.CRUISE
        self._before = self.bandwidth
        return State.UP

    def _wants_deep(self, now: float) -> bool:
        if now >= self._first_deep:
            self._first_deep = inf
            return True
        stale = self._stale and now - self._quiet_at > _STALE_SECONDS
        return stale or now - self._delays.empty_at > _DEEP_SECONDS

    def _after_after(self, now: float) -> State:
        round = self._round
        found = not round.idle and not self._excesses and self._delays.queue() <= self._delays.allowed
        if self.lossy:
            found = found and round.rate >= _FOUND_LOSSY * self._gain * self._before
            if found:
                self.bandwidth = max(self._before, round.rate)
            elif self._excesses:
                self.bandwidth = max(self._before, _BACK * round.rate)
        else:
            found = found and round.rate >= _FOUND * self._before
        self._cycle = self._excesses = 0
        if self._doubtful:
            self._doubtful = False
            if found and not self.lossy:
                return State.STARTUP
        if not found:
            self._gain = _MORE_LOSSY if self.lossy else _MORE
            return State.DOWN if self.lossy or self._delays.queue() > 0 else State.CRUISE
        self._gain = min(self._gain * _MORE_FASTER, _MOST_MORE)
        self._before = self.bandwidth
        return State.UP

    def _after_look(self, now: float) -> State:
        delays, competition = self._delays, self._competition
        queue = delays.queue()
        if self._stale and abs(queue - self._queue_before) < _SAME_QUEUE:  # no queue: the path became longer
            delays.forget_base()
            self._competition = Competition(MOST_WINDOW)
            self._rates, self._flat, self._window = [], 0, float(INITIAL_WINDOW)
            return State.STARTUP
        self._stale, self._cycle = False, 0
        delays.empty_at = now  # or as empty as it gets
        if competition.deep(now, queue, delays.base, delays.allowed, self._quiet_at):
            competition.begin(now, self._window, queue)
            return State.COMPETE
        return State.CRUISE

    def _after_compete(self, now: float) -> State:
        if now >= self._competition.until:
            return State.DEEP
        seconds, lost = now - self._round.began, self._excesses > 0
        self._competition.round(seconds, self._delays.queue(), lost=lost, idle=self._round.idle)
        return State.COMPETE

    # What a state allows

    def _apply(self, now: float) -> None:
        base = self._delays.base
        if self.state is State.STARTUP:
            longer = min(base / _FIRST_TRIP, _LONGER_START)  # a long path begins as fast as a short one
            self._window = max(self._window, longer * INITIAL_WINDOW)
            self._pacer.set_rate(now, _STARTUP_PACE * self._window / base)
            return
        held = self.bandwidth * base
        gain = self._gain if self.state is State.UP else 1.0
        if self.state is State.COMPETE:
            window = self._competition.window
            pace = _PACING * window / (base + max(self._delays.queue(), 0.0))
        elif self.lossy:
            window = gain * max(self._usual(held), _LOSSY_WINDOW * held)
            pace = gain * self.bandwidth / (1 - self._losses.chance)
        else:
            window = self._usual(held) + (gain - 1) * held
            pace = gain * _PACING * self.bandwidth
        if self.state is State.DOWN:
            # Seeing the path empty needs no more than the noise. Where it drops, a round shows chance alone.
            less = _LESS * base if self.lossy else min(_LESS * base, NOISE)
            window = min(window, self.bandwidth * (base - less))
        elif self.state is State.DEEP:
            window = _DEEP * held
        self._window = min(max(window, LEAST_WINDOW), MOST_WINDOW)
        self._pacer.set_rate(now, max(pace, LEAST_WINDOW / max(base, SHORTEST)))

    def _usual(self, held: float) -> float:
        """What the path holds and a queue of about as many bytes for any flow: so shares become even."""
        share = min(max(_EVEN / max(self.bandwidth, 1.0), _LEAST_EVEN), _MOST_EVEN)
        return held + self.bandwidth * self._delays.share_allowed(share)


_NEXT: dict[State, Callable[[Controller, float], State]] = {
    State.STARTUP: Controller._after_startup,
    State.DOWN: Controller._after_down,
    State.CRUISE: Controller._after_cruise,
    State.UP: lambda controller, now: State.AFTER,
    State.AFTER: Controller._after_after,
    State.DEEP: lambda controller, now: State.LOOK,
    State.LOOK: Controller._after_look,
    State.COMPETE: Controller._after_compete,
}
