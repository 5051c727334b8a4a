"""Connecting to whichever of several addresses answers first (RFC 8305, "Happy Eyeballs").

Names are not looked up here: only the addresses given are ever dialled, so a caller that
checked them knows where the connection leads. When all of them fail, the error raised is
the one that tells most; a library that folds them into one text could not say which.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from toxproxy.address import Address
from toxproxy.errors import Refusal
from toxproxy.system.sockets import keep_lively, os_errors

_ATTEMPT_DELAY = 0.25  # seconds before the next address is tried as well (RFC 8305, section 8)

#: What a failed connection is called, by its `errno`, the most telling first: what an address that was
#: reached says counts for more than what the way to another one says.
REFUSALS = {
    errno.ECONNREFUSED: Refusal.CONNECTION_REFUSED,
    errno.ETIMEDOUT: Refusal.TIMED_OUT,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.ENETUNREACH: Refusal.NETWORK_UNREACHABLE,
}
_MOST_TELLING_FIRST = tuple(REFUSALS)


async def connect(addresses: Sequence[Address], port: int) -> socket.socket:
    """A connected, non-blocking TCP socket to `port` at one of `addresses` (at least one).

    They are tried in the order given, IPv6 and IPv4 in turns; the next one starts 250 ms
    after the last, or as soon as one fails. There is no time limit: the caller sets it.
    `keep_lively` was called with it.

    Raises `OSError` with the most telling `errno` of all attempts.
    """
    untried = deque(_in_turns(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    connected: list[socket.socket] = []
    errors: list[OSError] = []
    try:
        while not connected and (untried or running):
            if untried:
                running.add(asyncio.create_task(_attempt(untried.popleft(), port)))
            done, running = await asyncio.wait(
                running, timeout=_ATTEMPT_DELAY if untried else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    connected.append(task.result())
                except OSError as error:
                    errors.append(error)
    finally:
        # Not awaited: a cancellation while waiting here would lose the socket that won.
        for task in running:
            task.add_done_callback(_close_late)
            task.cancel()
    for late in connected[1:]:
        late.close()
    if not connected:
        raise min(errors, key=_rank)
    return connected[0]


async def _attempt(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # With the protocol's number: asyncio turns Nagle's algorithm off only where it sees it.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        keep_lively(sock)
        with os_errors():
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _close_late(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _in_turns(addresses: Sequence[Address]) -> Iterator[Address]:
    """Alternate the two families, beginning with the first address's (RFC 8305, section 4)."""
    first = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    for pair in zip_longest(first, other):
        yield from (address for address in pair if address is not None)


def _rank(error: OSError) -> int:
    known = error.errno in _MOST_TELLING_FIRST
    return _MOST_TELLING_FIRST.index(error.errno) if known else len(_MOST_TELLING_FIRST)
