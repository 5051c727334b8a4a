"""Who may use a proxy port with a password: it is asked for, and guessing it takes for ever."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from toxproxy.inbound.guesses import Guesses
from toxproxy.inbound.handshake import Credentials
from toxproxy.pace import Notice
from toxproxy.relay.stream import ByteStream

log = logging.getLogger(__name__)

LONGEST_WAIT = 4.0  # seconds; more than the longest pause


class Guard:
    """One port's credentials, and the wrong ones that were tried on it.

    `name` is the port's, for the log. Before a password is looked at, `turn` is awaited; between
    the two nothing else may be, or parallel guesses would get through.
    """

    def __init__(self, name: str, credentials: Credentials) -> None:
        self.credentials = credentials
        self._name = name
        self._guesses = Guesses()
        self._wrong = Notice(log, logging.WARNING, most=10)

    async def turn(self, client: ByteStream) -> bool:
        """Wait until a password from the client's address may be looked at; false where others guess on.

        That takes `LONGEST_WAIT` at most.
        """
        host, end = _host(client), monotonic() + LONGEST_WAIT
        while pause := self._guesses.pause(host, monotonic()):
            left = end - monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(pause, left))
        return True

    def wrong(self, client: ByteStream) -> None:
        """A wrong user name or password came from this client."""
        host = _host(client)
        count = self._guesses.failed(host, monotonic())
        self._wrong("%s: a wrong user name or password from %s (%d of late)", self._name, host, count)


def _host(client: ByteStream) -> str:
    peer = client.transport.get_extra_info("peername") if client.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else "an unknown address"
