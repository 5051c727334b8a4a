"""Whether a router forgot its mappings, by its clock (RFC 6887, section 8.5; RFC 6886, section 3.6). Pure."""

from __future__ import annotations


class Epoch:
    """A router's clock as last heard. It counts seconds since the router lost its mappings.

    `now` is this machine's monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self._heard: tuple[int, float] | None = None  # the router's time, and ours

    def hear(self, epoch: int, now: float) -> None:
        """The router said its time in an answer to a request of ours."""
        self._heard = epoch, now

    def fits(self, epoch: int, now: float) -> bool:
        """Whether a router that forgot nothing could have this time now."""
        if self._heard is None:
            return False
        before, then = self._heard
        ours, theirs = now - then, epoch - before
        if theirs < -1:
            return False
        return ours + 2 >= theirs - theirs / 16 and theirs + 2 >= ours - ours / 16
