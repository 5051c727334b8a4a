"""Wrong passwords by source address, and the pause after each.

Pure: the time is an argument, in seconds of a monotonic clock. During a pause no password from that
address is checked, on whichever connection it comes. So the time of the answer does not tell whether a
password was right, and parallel connections do not help to guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from toxproxy.address import plain_address

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 3.0  # seconds; each wrong password doubles the pause
FORGOTTEN_AFTER = 600.0  # seconds without a wrong password
MOST_ADDRESSES = 4096  # with a pause of their own; all others share one

_LOOPBACK, _OTHERS = "loopback", "many addresses"


@dataclass(slots=True)
class _Failures:
    count: int
    last: float

    @property
    def over(self) -> float:
        """The time at which the pause is over."""
        return self.last + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.count - 1, 16))


def source(host: str) -> str:
    """The group of addresses that `host` counts as: all of loopback, or a whole IPv6 /64.

    Whoever has one address of such a group can use all of them.
    """
    try:
        address = plain_address(host)
    except ValueError:
        return host
    if address.is_loopback:
        return _LOOPBACK
    return str(address) if isinstance(address, IPv4Address) else str(ip_network((address, 64), strict=False))


class Guesses:
    """The wrong passwords of the last minutes, of at most `MOST_ADDRESSES` sources."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}  # the least recent first

    def __len__(self) -> int:
        return len(self._failures)

    def pause(self, host: str, now: float) -> float:
        """Seconds until a password from `host` may be checked, usually 0."""
        failures = self._failures.get(self._key(source(host)))
        return max(0.0, failures.over - now) if failures is not None else 0.0

    def failed(self, host: str, now: float) -> int:
        """Note a wrong password from `host`. Returns how many it sent within `FORGOTTEN_AFTER`."""
        self._forget(now)
        key = self._key(source(host))
        failures = self._failures.pop(key, None) or _Failures(0, now)
        failures.count += 1
        failures.last = now
        self._failures[key] = failures
        return failures.count

    def _key(self, name: str) -> str:
        full = len(self._failures) >= MOST_ADDRESSES and name not in self._failures
        return _OTHERS if full else name

    def _forget(self, now: float) -> None:
        while self._failures:
            oldest = next(iter(self._failures))
            if now - self._failures[oldest].last < FORGOTTEN_AFTER:
                return
            del self._failures[oldest]
