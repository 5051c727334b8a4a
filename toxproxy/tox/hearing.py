"""Whether UDP packets come in, which libtoxcore tells only after minutes."""

from __future__ import annotations

from toxproxy.address import Address, plain_address
from toxproxy.tox.ahead import Ahead

_PATIENCE = 3.0  # seconds in which one of the nodes that were asked answers


class Hearing:
    """Listens at a node's UDP socket, by what is `ahead` there, while an answer is due.

    Call `asked` for each node, and `look` before each time that libtoxcore reads: it sees the first packet
    that waits. A node's own packets come back, too, so only those of the nodes that were asked count.
    """

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._hosts: set[Address] = set()
        self._since: float | None = None  # the first question that was not answered

    def asked(self, host: str, now: float) -> None:
        """The node at this address was asked, or could not be since this machine lets no UDP packet out."""
        self._hosts.add(plain_address(host))
        if self._since is None:
            self._since = now

    def look(self) -> None:
        """See whether an answer has come. Costs nothing while none is due."""
        if self._since is None or (datagram := self._ahead.next()) is None:
            return
        if datagram.address in self._hosts:
            self._since = None
            self._hosts.clear()

    def deaf_for(self, now: float) -> float | None:
        """Seconds since the question that nothing answered; None if there is none, or it was just asked."""
        return now - self._since if self._since is not None and now - self._since >= _PATIENCE else None
