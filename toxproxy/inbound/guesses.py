"""Wrong passwords, by the address that they came from, and how long that has others wait.

Pure: the time goes in as an argument, in seconds by a clock that never goes back. While an address
waits, no password from it is looked at, whichever connection it comes on: so a right one
cannot be told from a wrong one by how fast the answer is, and parallel connections gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 3.0  # seconds; each wrong password doubles the pause
FORGOTTEN_AFTER = 600.0  # seconds without a wrong password
MOST_ADDRESSES = 4096  # all others share one pause

_LOOPBACK, _OTHERS = "loopback", "many addresses"


@dataclass(slots=True)
class _Failures:
    count: int
    last: float

    @property
    def over(self) -> float:
        """When the pause is over."""
        return self.last + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.count - 1, 16))


def source(host: str) -> str:
    """What counts as one address: all of this machine's loopback, and a whole /64 of IPv6.

    Whoever has one of these has all of them.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv4Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return _LOOPBACK
    return str(address) if isinstance(address, IPv4Address) else str(ip_network((address, 64), strict=False))


class Guesses:
    """The wrong passwords of the last minutes, of at most `MOST_ADDRESSES` sources."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}  # the longest quiet first

    def __len__(self) -> int:
        return len(self._failures)

    def pause(self, host: str, now: float) -> float:
        """For how many seconds no password from `host` is to be looked at, mostly 0."""
        failures = self._failures.get(self._key(source(host)))
        return max(0.0, failures.over - now) if failures is not None else 0.0

    def failed(self, host: str, now: float) -> int:
        """A password from `host` was wrong; returns how many have been, of late."""
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
