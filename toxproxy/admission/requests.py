"""Answers friend requests: lets the client in, makes it wait, or ignores it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from toxproxy.admission.access import Access, Claim
from toxproxy.admission.words import words
from toxproxy.config.secret import weakness
from toxproxy.errors import ToxproxyError
from toxproxy.pace import Notice, Pace

log = logging.getLogger(__name__)

GUESSES = 100  # wrong secrets a minute that are compared, if the secret is weak


class Requests:
    """Answers friend requests.

    A known key, or a client with the right secret, is let in however many strangers ask. Of strangers,
    `strangers` are heard in a minute; more are ignored. A strong secret cannot be guessed. If the secret
    is weak, no secret is accepted any more in a minute with 100 wrong ones.

    `let_in` makes a friend of a key for its claim, and returns False if there is no room. A
    `ToxproxyError` from it is logged. `command` returns what the owner types before a key to let it in.
    """

    def __init__(
        self,
        access: Access,
        secret: str | None,
        strangers: int,
        *,
        let_in: Callable[[bytes, Claim], bool],
        command: Callable[[], str],
    ) -> None:
        self._access = access
        self._let_in = let_in
        self._command = command
        self._most = strangers
        self._strangers = Pace(strangers)
        self._guesses = Pace(GUESSES) if secret is not None and weakness(secret) else None
        self._ignored = Notice(log)
        self._guessed = Notice(log, logging.WARNING)
        self._full = Notice(log, logging.WARNING)

    def received(self, key: bytes, message: bytes) -> None:
        """Answer a request of at most 921 bytes."""
        compare = self._guesses is None or self._guesses.left
        claim = self._access.claim(key, message, compare=compare)
        if claim is Claim.GUESS:
            self._guess(compare)
        if claim in (Claim.ADMITTED, Claim.SECRET) or (claim is Claim.ANYONE and self._heard(key)):
            self._admit(key, claim)
        elif claim in (Claim.GUESS, Claim.GREETING) and self._heard(key):
            known = key in self._access.waiting
            self._access.wait(key)
            if not known:
                log.info(
                    "a client waits to be let in, in words: %s; to do so: %s %s",
                    words(key), self._command(), key.hex().upper(),
                )  # fmt: skip

    def _heard(self, key: bytes) -> bool:
        """Whether this stranger is heard. One that waits already is not counted again."""
        if key in self._access.waiting or self._strangers.take():
            return True
        self._ignored("friend requests beyond %d a minute are ignored ([limits] friend_requests)", self._most)
        return False

    def _guess(self, compared: bool) -> None:
        if compared:
            self._guessed("a client has a wrong secret ([access] secret)")
            if self._guesses is not None:
                self._guesses.take()
        else:
            self._guessed("more than %d wrong secrets in a minute: no secret is accepted for now", GUESSES)

    def _admit(self, key: bytes, claim: Claim) -> None:
        try:
            if not self._let_in(key, claim):
                name, command = key.hex().upper(), self._command()
                self._full("a client is not let in: clients.json is full; to let it in: %s %s", command, name)
        except ToxproxyError as error:
            log.error("%s", error)
