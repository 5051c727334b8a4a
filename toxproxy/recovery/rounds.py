"""Measuring by rounds: a round trip's worth of packets, and the rate at which they arrived.

A round ends when a packet is acknowledged that left after it began, or earlier when its owner says so.
"""

from __future__ import annotations

from toxproxy.recovery.sent import Report, Sent

SHORTEST = 0.01  # seconds


class Round:
    """The round that goes on."""

    def __init__(self, now: float) -> None:
        self.last_sent = 0  # the number of the last packet that left
        self.rate = 0.0  # bytes per second at which packets arrived, when the round is over; 0: not known
        self.begin(now, None, None)

    def begin(self, now: float, newest: Sent | None, report: Report | None) -> None:
        """A round begins with the acknowledgement of `newest`; without it, its rate is not measured."""
        self.began = now
        self._mark = self.last_sent
        # When the newest acknowledged packet arrived, by the peer's clock, and left; 0: not known.
        self._arrived = report.arrived if report else 0.0
        self._left = newest.sent_at if newest else 0.0
        self.size = self.acked = self.lost = 0  # bytes acknowledged, packets, packets
        self.limited = False  # the window kept packets back
        self.idle = False  # the application used less than half of the window

    def over(self, now: float, newest: Sent) -> bool:
        """Whether `newest`, just acknowledged, ends the round."""
        return newest.number > self._mark and now - self.began >= SHORTEST

    def end(self, newest: Sent, report: Report) -> None:
        """The round ends with the acknowledgement of `newest`."""
        # By the peer's clock, since acknowledgements may come late and together; and not faster
        # than the packets left, since packets may have waited together, too.
        elapsed = max(report.arrived - self._arrived, newest.sent_at - self._left, SHORTEST / 2)
        self.rate = self.size / elapsed if self._arrived else 0.0
