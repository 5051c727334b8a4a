"""The password of a proxy port, and the pauses that make guessing it hopeless."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from toxproxy.inbound.guesses import Guesses
from toxproxy.inbound.handshake import Credentials
from toxproxy.pace import Notice
from toxproxy.relay.stream import ByteStream

log = logging.getLogger(__name__)

LONGEST_WAIT = 4.0  # seconds that `turn` may take; more than the longest pause


class Guard:
    """The credentials of one port, and the wrong ones that were tried on it.

    `name` is the port's name, for the log. Await `turn` before each check of a password, and await
    nothing between the two: otherwise parallel guesses would get past the pause.
    """

    def __init__(self, name: str, credentials: Credentials) -> None:
        self.credentials = credentials
        self._name = name
        self._guesses = Guesses()
        self._wrong = Notice(log, logging.WARNING, most=10)

    async def turn(self, client: ByteStream) -> bool:
        """Wait until a password from the client's address may be checked.

        False after `LONGEST_WAIT` seconds, if wrong passwords keep coming from that address.
        """
        host, end = _host(client), monotonic() + LONGEST_WAIT
        while pause := self._guesses.pause(host, monotonic()):
            left = end - monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(pause, left))
        return True

    def wrong(self, client: ByteStream) -> None:
        """Note that this client sent a wrong user name or password."""
        host = _host(client)
        count = self._guesses.failed(host, monotonic())
        self._wrong("%s: a wrong user name or password from %s (%d recently)", self._name, host, count)


def _host(client: ByteStream) -> str:
    peer = client.transport.get_extra_info("peername") if client.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else "an unknown address"
