"""Sockets of others, watched at an edge by Linux's epoll(7). Other systems do not have it."""

from __future__ import annotations

import select
import sys
from typing import Any

_select: Any = select  # names that only Linux has
_MOST_EVENTS = 64  # at once; the others are read with the next ones


class Edges:
    """Tells of a socket when something comes, when it can be written to again, and when it is over.

    `descriptor` is readable while there are events. A socket that is closed is forgotten by itself.
    """

    def __init__(self) -> None:
        self._epoll = _select.epoll()
        self._ends = _select.EPOLLHUP | _select.EPOLLERR | _select.EPOLLRDHUP
        self._interest = _select.EPOLLIN | _select.EPOLLOUT | _select.EPOLLRDHUP | _select.EPOLLET
        self.descriptor = self._epoll.fileno()

    def add(self, descriptor: int) -> None:
        """Watch a socket. Raises `FileExistsError` if it is watched already, and `OSError`."""
        self._epoll.register(descriptor, self._interest)

    def events(self) -> list[tuple[int, bool]]:
        """The sockets that have an event, up to 64, and whether it is their end."""
        found = self._epoll.poll(0, _MOST_EVENTS)
        return [(descriptor, bool(event & self._ends)) for descriptor, event in found]

    def close(self) -> None:
        """Watch nothing any more. The sockets stay open."""
        self._epoll.close()


def edges() -> Edges | None:
    """A watch, None where the system cannot do this."""
    return Edges() if sys.platform == "linux" else None
