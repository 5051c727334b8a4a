"""How long the way takes: the delay of the empty path, the queue on it, and its jitter.

Delays are of one way, by the clocks of both sides, which differ by a constant that is not known and
cancels out. So a queue on the way back, or acknowledgements that wait there, are not taken for a queue
on the way there.
"""

from __future__ import annotations

from collections import deque

from toxproxy.recovery.sent import Report

NOISE = 0.004  # seconds by which event loops delay a packet: that is no queue
_MEMORY = 10.0  # seconds that a least delay counts, to twice as many
_REVERSE_SHARE = 1 / 64  # of a new measurement in the mean
_LEAST_ALLOWED, _BASE_SHARE = 0.008, 0.125  # the queue that is allowed, in seconds and as a share of the base
_JITTERS, _JITTER_FACTOR, _JITTER_MOST = 16, 1.25, 0.08
_CLOCK_JUMP = 3.0  # seconds by which one of the clocks stood still
_SAMPLES = 4  # enough for a judgement


class Least:
    """The least value of the last `_MEMORY` to twice as many seconds."""

    def __init__(self) -> None:
        self.value = self._now = self._before = float("inf")
        self._since = float("-inf")

    def note(self, now: float, value: float) -> None:
        if now - self._since > _MEMORY:
            self._since, self._before, self._now = now, self._now, value
            self.value = min(self._before, value)
        elif value < self._now:
            self._now = value
            self.value = min(self.value, value)


class Delays:
    """Delays of the path, in seconds. Zero, where nothing is known."""

    def __init__(self, now: float) -> None:
        self._one_way = Least()
        self._reverse = 0.0  # the mean of the way back, less the unknown constant
        self._latest_reverse = 0.0
        self._measured = False
        self._samples: list[float] = []  # of this round
        self._jitters: deque[float] = deque(maxlen=_JITTERS)
        self._jitter = 0.0
        self.empty_at = now  # when the path was last seen without a queue

    def note(self, now: float, report: Report) -> None:
        one_way = report.one_way
        self._samples.append(one_way)
        self._one_way.note(now, one_way)
        if one_way <= self._one_way.value + NOISE:
            self.empty_at = now
        reverse = report.rtt - one_way
        if not self._measured or abs(reverse - self._reverse) > report.rtt + _CLOCK_JUMP:
            self._measured, self._reverse = True, reverse
            self._one_way = Least()
            self._one_way.note(now, one_way)
        self._latest_reverse = reverse
        self._reverse += (reverse - self._reverse) * _REVERSE_SHARE

    @property
    def base(self) -> float:
        """The round trip without a queue of ours: the least way there and the mean way back. 0: not known."""
        return max(self._one_way.value + self._reverse, 0.001) if self._measured else 0.0

    @property
    def allowed(self) -> float:
        """The queue that is allowed: short against the base, but longer where the delay varies anyway."""
        return self.share_allowed(1.0)

    def share_allowed(self, share: float) -> float:
        """The same for a flow that may have only a share of it, or more; what jitter needs is not cut."""
        least = max(min(share, 1.0) * _BASE_SHARE * self.base, share * _LEAST_ALLOWED)
        # Event loops are not jitter: it counts from NOISE on, and fully from twice as much.
        jitter = min(self._jitter, 2 * max(self._jitter - NOISE, 0.0))
        return max(least, min(_JITTER_FACTOR * jitter, _JITTER_MOST))

    def queue(self, last: int = 0) -> float:
        """The least queue in this round, or among its `last` measurements; negative where there is none."""
        samples = self._samples[-last:]
        return min(samples) - self._one_way.value - NOISE if samples else 0.0

    @property
    def samples(self) -> int:
        """Measurements in this round."""
        return len(self._samples)

    def forget_base(self) -> None:
        """The path became longer: the least delay of this round is that of the empty path."""
        least = min(self._samples)
        self._one_way = Least()
        self._one_way.note(self.empty_at, least)
        self._reverse = self._latest_reverse

    def begin_round(self) -> None:
        samples = self._samples
        if len(samples) >= _SAMPLES:
            samples.sort()
            self._jitters.append(samples[len(samples) * 9 // 10] - samples[0])
            self._jitter = sorted(self._jitters)[len(self._jitters) // 2]
        samples.clear()
