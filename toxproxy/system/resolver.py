"""Looking up names with the system's resolver, in threads.

A look-up cannot be stopped, and takes 10 s or more if no name server answers. The threads are daemons,
which an executor's are not: the program can end without waiting for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Thread

_MAX_LOOK_UPS = 16  # at a time

#: The errors of a resolver that has answered: there is no such name.
NO_SUCH_NAME = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)}


class Resolver:
    """Looks up 16 names at a time. More wait for their turn.

    If a caller gives up, its thread goes on and keeps its turn until the look-up ends.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_MAX_LOOK_UPS)

    async def look_up(self, host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[str]:
        """The addresses of `host` as literals, in the resolver's order, each once.

        Has no time limit of its own: the caller sets one. Raises `OSError`.
        """
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def finish(addresses: list[str], error: Exception | None) -> None:
            self._turns.release()
            if answer.done():  # the caller gave up
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
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(finish, addresses, failure)

        try:
            Thread(target=run, name=f"look up {host}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._turns.release()
            raise
        return await answer
