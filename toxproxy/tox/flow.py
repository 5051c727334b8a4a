"""When a node reads its sockets: at each packet, or once a millisecond while many flow."""

from __future__ import annotations

REST = 0.001  # seconds that the sockets are left alone while packets flow
FLOW = 3  # packets in that time that are a flow
MANY = 32  # packets in one reading, after which the next one follows at once: this side is the slow one


class Flow:
    """Decides whether packets flow so fast that the sockets are better read once a millisecond than for each.

    A wake-up costs more than a packet. The first packets after a pause are always read at once.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._packets = 0

    def pause(self, packets: int, now: float) -> float | None:
        """Seconds to wait after so many packets were read; None: read the next one when it comes."""
        if not packets:
            return None
        if now - self._since > REST:
            self._since, self._packets = now, 0
        self._packets += packets
        if self._packets < FLOW:
            return None
        return 0.0 if packets >= MANY else REST
