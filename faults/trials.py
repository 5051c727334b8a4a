"""Random paths and what is wanted of a download across each. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.figures import percentile
from bench.links import Direction, Link

MB = 1_000_000

_SECONDS = 6.0  # that a download takes if it fills the path
_LEAST, _MOST = 150_000, 100_000_000  # bytes of a download
_SILENCE, _SILENT_TRIPS = 3.0, 8  # seconds, round trips: a download may be silent for the longer
_LONGEST_DOWNLOAD = 4.0, 20.0  # a download may take so many times as long as it would, and so many seconds


@dataclass(frozen=True, slots=True)
class Trial:
    """A path with its `number`, and the `size` of the download in bytes."""

    number: int
    link: Link
    size: int

    @property
    def trip(self) -> float:
        """The round trip without a queue, in seconds, with all of the jitter."""
        return sum(way.delay + way.jitter for way in (self.link.down, self.link.up)) / 1000

    @property
    def silence(self) -> float:
        """How long the download may be silent, in seconds."""
        return max(_SILENCE, _SILENT_TRIPS * self.trip)

    @property
    def longest(self) -> float:
        """How long the download may take, in seconds."""
        times, more = _LONGEST_DOWNLOAD
        return times * self.size / self.link.capacity / MB + more


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a download did.

    It took `seconds`, and was `silent` for that many at the longest. `keys` are the times of keystrokes
    beside it, in seconds. `why` says what ended it early.
    """

    whole: bool
    seconds: float
    silent: float
    keys: tuple[float, ...]
    why: str = ""

    def problems(self, trial: Trial) -> list[str]:
        """What should not have happened, one sentence each."""
        found = []
        if not self.whole:
            found.append(f"the download was not whole: {self.why or 'bytes are wrong'}")
        if self.silent > trial.silence:
            most = f"expected {trial.silence:.1f} at most"
            found.append(f"the download was silent for {self.silent:.1f} s, {most}")
        if not self.keys:
            found.append("no keystroke came back")
        return found

    def share(self, trial: Trial) -> float:
        """The rate of the download, in percent of the path's."""
        return 100 * trial.size / self.seconds / MB / trial.link.capacity if self.whole else 0.0

    def waiting(self, trial: Trial) -> float:
        """By how much the 95th percentile of the keystrokes exceeds the round trip, in ms."""
        return 1000 * (percentile(self.keys, 0.95) - trial.trip) if self.keys else float("inf")


def trials(seed: int, count: int) -> Iterator[Trial]:
    """The paths that a seed makes. The first ones do not depend on `count`."""
    for number in range(1, count + 1):
        yield _trial(number, random.Random(f"{seed} {number}"))


def _trial(number: int, dice: random.Random) -> Trial:
    rate = _spread(dice, 0.2, 200)
    down = _direction(dice, rate)
    up = _direction(dice, rate, down.delay) if dice.random() < 0.5 else down
    if dice.random() < 0.3:  # a line whose uplink is slow
        up = _direction(dice, max(rate / dice.uniform(4, 16), 0.2), down.delay)
    link = Link(f"path {number}", down, up)
    size = round(min(max(link.capacity * MB * _SECONDS, _LEAST), _MOST))
    return Trial(number, link, size)


def _direction(dice: random.Random, rate: float, delay: float = 0) -> Direction:
    """A direction of `rate` Mbit/s. `delay` in ms; 0 is any."""
    delay = delay or _spread(dice, 1, 300)
    jitter = dice.uniform(0, min(50, delay)) if dice.random() < 0.5 else 0
    bursts = dice.random() < 0.25
    loss = 0 if bursts or dice.random() < 0.4 else dice.uniform(0, 5)
    policed = dice.random() < 0.25
    return Direction(
        delay=round(delay, 1),
        jitter=round(jitter, 1),
        loss=round(loss, 2),
        burst=(round(dice.uniform(0.02, 0.3), 2), round(dice.uniform(5, 30), 1)) if bursts else (0, 0),
        late=round(dice.uniform(0, 2), 2) if dice.random() < 0.2 else 0,
        rate=round(rate * dice.uniform(2, 5) if policed else rate, 2),
        queue=round(_spread(dice, 10, 3000)),
        police=(round(rate, 2), round(_spread(dice, 20, 500))) if policed else (0, 0),
    )


def _spread(dice: random.Random, least: float, most: float) -> float:
    """A number between two others, evenly by its logarithm."""
    return float(least * (most / least) ** dice.random())


def line(trial: Trial, outcome: Outcome) -> str:
    """What came of a trial, in one line and one more for each problem."""
    keys = f"{1000 * percentile(outcome.keys, 0.95):.0f}" if outcome.keys else "no"
    text = (
        f"{trial.number:4}  {outcome.share(trial):5.1f} %  p95 {keys:>6} ms  silent {outcome.silent:4.1f} s  "
        f"{trial.link}"
    )
    return "\n".join([text, *(f"      {problem}" for problem in outcome.problems(trial))])


def summary(results: Sequence[tuple[Trial, Outcome]], command: str) -> str:
    """How the downloads did together. `command` repeats the run."""
    failed = [trial.number for trial, outcome in results if outcome.problems(trial)]
    lines = [
        f"{len(results)} paths, {len(failed)} failed",
        _distribution("rate, % of the path's", [outcome.share(trial) for trial, outcome in results]),
        _distribution("p95 of a keystroke beyond the round trip, ms", [o.waiting(t) for t, o in results]),
        _distribution("longest silence, s", [outcome.silent for _, outcome in results]),
    ]
    if failed:
        lines.append(f"FAILED: {', '.join(map(str, failed))}. Again: {command}")
    return "\n".join(lines)


def _distribution(name: str, values: Sequence[float]) -> str:
    marks = [f"{percentile(values, share):.3g}" for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1)]
    return f"{name}: least {marks[0]}, 10/25/50/75/90 % {'/'.join(marks[1:6])}, most {marks[6]}"
