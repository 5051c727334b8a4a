"""Names looked up by the system's resolver, in threads that nobody has to wait for.

A look-up takes as long as the C library likes, 10 s and more where no name server answers, and
cannot be stopped. The threads are daemons, unlike an executor's: the program may end meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Thread

_MOST = 16  # look-ups at a time


class Resolver:
    """Looks up 16 names at a time; further ones wait for their turn.

    A caller that gives up leaves its thread behind, and the turn with it.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_MOST)

    async def look_up(self, host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[str]:
        """The addresses of `host`, as literals in the resolver's order, each once.

        Raises `OSError`. There is no time limit: the caller sets it.
        """
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def finish(addresses: list[str], error: Exception | None) -> None:
            self._turns.release()
            if answer.done():  # nobody waits any more
                return
            if error is None:
                answer.set_result(addresses)
            else:
                answer.set_exception(error)

        def run() -> None:
            addresses: list[str] = []
            failure: Exception | None = None
            try:
                infos = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, addresses, failure)

        try:
            Thread(target=run, name=f"look up {host}", daemon=True).start()
        except RuntimeError:  # no more threads
            self._turns.release()
            raise
        return await answer
