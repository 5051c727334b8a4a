"""Makes Tox friends of the clients that may be one, and of nobody else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from toxproxy.admission.access import Access, Claim
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.tox.node import Node
from toxproxy.tox.pytox import ToxError
from toxproxy.tunnel.friend import Friend

log = logging.getLogger(__name__)

_MOST_PAUSE = 3600.0  # seconds between two looks at the clock, which may be set


class Guests:
    """Keeps three lists consistent: Tox's friends, the record of clients, and `friends`.

    `befriend` makes a `Friend` of a Tox friend number and a key. A client becomes a Tox friend first and
    is recorded then. A failure in between is undone. A crash in between leaves a Tox friend without a
    record, which the next start removes.
    """

    def __init__(
        self,
        node: Node,
        access: Access,
        friends: dict[int, Friend],
        befriend: Callable[[int, bytes], Friend],
    ) -> None:
        self._node = node
        self._access = access
        self._friends = friends
        self._befriend = befriend
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Make friends of all who may be, and log those whom Tox refuses. Raises `StateError`."""
        admitted = self._access.admitted()
        for key in self._node.friends.keys() - admitted:
            self._node.remove_friend(key)
        self._welcome(admitted)
        self._expect_expiry()

    def change(self) -> None:
        """The settings have changed: make friends of all who may be now, and dismiss the others.

        What cannot be written is logged, and those clients stay out.
        """
        known = {friend.key for friend in self._friends.values()}
        try:
            self._welcome(self._access.admitted() - known)
        except StateError as error:
            log.error("%s", error)
        self.recheck()

    def _welcome(self, keys: set[bytes]) -> None:
        for key in keys:
            try:
                self._make_friend(key)
            except ToxError as error:
                log.warning(
                    "client %s is not let in: Tox does not accept its key (%s)",
                    self._access.called(key),
                    error.code,
                )

    async def close(self) -> None:
        """Wait until those who are being dismissed are gone. Nobody is dismissed after that."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)

    def let_in(self, key: bytes, claim: Claim) -> bool:
        """Make a friend of a client for its claim. False if the record is full.

        Raises `ToxError` if Tox does not accept the key, and `StateError` if a file cannot be written;
        the client is not let in then.
        """
        if claim is Claim.ADMITTED:
            self._make_friend(key)
            return True
        return self._make_friend(key, lambda: self._access.admit(key, claim))

    def allow(self, key: bytes, name: str | None = None, expires: int | None = None) -> None:
        """Make a friend of a client by command; see `Access.allow`. Raises what `let_in` does, too."""
        if key == self._node.public_key:
            raise ValueError("this is the key of the server itself: give the client's")

        def record() -> bool:
            self._access.allow(key, name, expires)
            return True

        self._make_friend(key, record)

    def recheck(self) -> None:
        """The record has changed: dismiss who may not be a friend, now and when their time ends."""
        self._dismiss_others()
        self._expect_expiry()

    def _expect_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if not self._closed and (due := self._access.next_expiry) is not None:
            pause = min(max(due - time.time(), 0.0) + 0.01, _MOST_PAUSE)
            self._expiry = asyncio.get_running_loop().call_later(pause, self.recheck)

    def met(self, friend: Friend) -> None:
        """Record that a client is connected."""
        try:
            self._access.met(friend.key)
        except StateError as error:
            log.warning("%s", error)

    def _make_friend(self, key: bytes, record: Callable[[], bool] = lambda: True) -> bool:
        number = self._node.admit_friend(key)
        try:
            recorded = record()
        except BaseException:
            self._undo(key, number)
            raise
        if not recorded:
            self._undo(key, number)
            return False
        if number not in self._friends:
            self._friends[number] = self._befriend(number, key)
        self.recheck()
        return True

    def _undo(self, key: bytes, number: int) -> None:
        """Undo what `_make_friend` has begun for a client that was no friend before."""
        if number not in self._friends:
            with suppress(StateError):  # the next start removes it
                self._node.remove_friend(key)

    def _dismiss_others(self) -> None:
        """Dismiss those who may no longer be friends, since the record has changed."""
        if self._closed:
            return
        for number, friend in self._friends.items():
            if number not in self._leaving and not self._access.admits(friend.key):
                log.info("client %s is not allowed any more", self._access.called(friend.key))
                self._leaving[number] = asyncio.create_task(self._dismiss(number, friend))

    async def _dismiss(self, number: int, friend: Friend) -> None:
        try:
            await friend.close("this client is not allowed any more")
            del self._friends[number]
            if self._access.admits(friend.key):  # let in again meanwhile
                self._friends[number] = self._befriend(number, friend.key)
            else:
                self._node.remove_friend(friend.key)
        except ToxproxyError as error:
            log.error("%s", error)
        finally:
            del self._leaving[number]
