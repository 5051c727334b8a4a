"""Flows beside ours that keep a queue, as TCP does: whether they are there, and a window to live with them.

A flow that keeps its own queue short gets next to nothing beside them. While they are there, the window
grows, until the queue is half as long again as theirs or something is lost. Now and then the owner looks
whether they still are.
"""

from __future__ import annotations

_SECONDS = 2.0  # a queue that was long for so long, and that DEEP left, is not ours
_LASTS = 10.0  # seconds until the owner looks again
_LEAST = 0.02  # seconds: a queue that is no sign of others; more than that is …
_BASE_SHARE, _ALLOWED_SHARE = 0.25, 2.0  # … this share of the base, and of the queue that is allowed
_QUEUE = 1.5  # the queue up to which the window grows, as a share of the others'
_DOUBLING = 2.0  # the growth in a round, at first; it takes long to get a share of a long queue
_GROWTH = 1.2  # the growth in a second, later
_LOSS = 0.8  # the window after a loss: CUBIC has 0.7, but does not stop every ten seconds


class Competition:
    """What is known of others on the path."""

    def __init__(self, most: float) -> None:
        self.window = 0.0  # bytes, at most `most`
        self._most = most
        self._others = float("inf")  # their queue in seconds, the least that was seen
        self.until = 0.0  # when to look whether they still are there
        self._doubles = True

    def deep(self, now: float, queue: float, base: float, allowed: float, quiet_at: float) -> bool:
        """DEEP left such a queue, which was short at `quiet_at`. Returns whether others keep it."""
        if queue <= max(_LEAST, _BASE_SHARE * base, _ALLOWED_SHARE * allowed):
            self.window, self._others = 0.0, float("inf")
            return False
        return now - quiet_at >= _SECONDS

    def begin(self, now: float, window: float, queue: float) -> None:
        """Compete from now on, with this window or the one before, if that is larger."""
        self.window = max(self.window, window)
        # The least: two controllers that take each other for others must not outbid each other.
        self._others = min(self._others, queue)
        self.until = now + _LASTS
        self._doubles = True

    def round(self, seconds: float, queue: float, *, lost: bool, idle: bool) -> None:
        """A round of so many seconds ended, with such a queue, with loss or not."""
        if lost:
            self.window *= _LOSS
            self._doubles = False
        elif queue > _QUEUE * self._others:
            self.window /= _GROWTH ** min(seconds, _LASTS)
            self._doubles = False
        elif not idle:
            growth = _DOUBLING if self._doubles else _GROWTH ** min(seconds, _LASTS)
            self.window = min(self.window * growth, self._most)
