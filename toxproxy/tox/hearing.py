"""Whether UDP packets come in, which libtoxcore tells only after minutes."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_PATIENCE = 3.0  # seconds in which one of the nodes that were asked answers
_MAPPED = "::ffff:"  # before an IPv4 address, on a socket that is for IPv6 as well


class Hearing:
    """Listens at a node's UDP socket while an answer is due.

    Call `asked` for each node, and `look` before each time that libtoxcore reads: it sees the first packet
    that waits. A node's own packets come back, too, so only those of the nodes that were asked count.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._hosts: set[str] = set()
        self._since: float | None = None  # the first question that was not answered

    def close(self) -> None:
        """Close the copy of the socket."""
        self._socket.close()

    def asked(self, host: str, now: float) -> None:
        """The node at this address was asked, or could not be since this machine lets no UDP packet out."""
        self._hosts.add(host)
        if self._since is None:
            self._since = now

    def look(self) -> None:
        """See whether an answer has come. Costs nothing while none is due."""
        if self._since is None:
            return
        with suppress(OSError):  # nothing has come, or the error of a packet that was sent
            _, sender = self._socket.recvfrom(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if sender[0].removeprefix(_MAPPED) in self._hosts:
                self._since = None
                self._hosts.clear()

    def deaf_for(self, now: float) -> float | None:
        """Seconds since the question that nothing answered; None if there is none, or it was just asked."""
        return now - self._since if self._since is not None and now - self._since >= _PATIENCE else None
