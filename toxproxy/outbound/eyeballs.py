"""Connecting to the one of several addresses that answers first (RFC 8305, "Happy Eyeballs").

Only the given addresses are dialled, and no name is looked up, so the caller's checks hold. If all
attempts fail, the most telling error is raised. asyncio's own Happy Eyeballs would join them into one
text.
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

_ATTEMPT_DELAY = 0.25  # seconds until the next address is tried too (RFC 8305, section 8)

#: The refusal for the `errno` of a failed connection, the most telling first: an answer from the host
#: itself tells more than one from a router.
REFUSALS = {
    errno.ECONNREFUSED: Refusal.CONNECTION_REFUSED,
    errno.ETIMEDOUT: Refusal.TIMED_OUT,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.ENETUNREACH: Refusal.NETWORK_UNREACHABLE,
}
_MOST_TELLING_FIRST = tuple(REFUSALS)


async def connect(addresses: Sequence[Address], port: int) -> socket.socket:
    """A connected, non-blocking TCP socket to `port` at one of `addresses` (at least one).

    They are tried in the given order, IPv6 and IPv4 in turns. The next attempt begins 250 ms after the
    one before, or as soon as one fails. Has no time limit of its own: the caller sets one. The socket
    has the options of `keep_lively`.

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
        # Not awaited: a cancellation during the wait would lose the connected socket.
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
    # asyncio sets TCP_NODELAY only on sockets that were made with the protocol's number.
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
    """Alternate IPv6 and IPv4, beginning with the family of the first address (RFC 8305, section 4)."""
    first = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    for pair in zip_longest(first, other):
        yield from (address for address in pair if address is not None)


def _rank(error: OSError) -> int:
    known = error.errno in _MOST_TELLING_FIRST
    return _MOST_TELLING_FIRST.index(error.errno) if known else len(_MOST_TELLING_FIRST)
