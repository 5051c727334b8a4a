"""What can be asked of a running server about its clients, or ordered, by its control socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from toxproxy.address import parse_key
from toxproxy.admission.access import Access
from toxproxy.admission.clients import Reason, Record
from toxproxy.admission.guests import Guests
from toxproxy.admission.words import words
from toxproxy.app.orders import expect, text
from toxproxy.control.encoding import encoded
from toxproxy.control.server import Method, Params
from toxproxy.control.snapshots import (
    AccessSnapshot,
    Admission,
    AllowanceSnapshot,
    ClientSnapshot,
    StrangerSnapshot,
)
from toxproxy.tunnel.friend import Friend, Phase

log = logging.getLogger(__name__)

WHOLE = 64  # characters that can only be a whole key

_MOST_CLIENTS = 10_000  # in one answer

_ADMISSIONS = {
    Reason.COMMAND: Admission.COMMAND,
    Reason.SECRET: Admission.SECRET,
    Reason.ANYONE: Admission.ANYONE,
    Reason.BLOCKED: Admission.BLOCKED,
}


class Admissions:
    """The methods `clients`, `waiting`, `allow`, `ignore`, `revoke`, `block`.

    A change counts at once, and is kept.
    """

    def __init__(
        self,
        access: Access,
        guests: Guests,
        friends: Callable[[], Iterable[Friend]],
        allowance: Callable[[bytes], AllowanceSnapshot | None],
    ) -> None:
        self._allowance = allowance
        self._access = access
        self._guests = guests
        self._friends = friends

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names in requests."""
        return {
            "clients": self.clients,
            "waiting": self.waiting,
            "allow": self.allow,
            "ignore": self.ignore,
            "revoke": self.revoke,
            "block": self.block,
        }

    async def clients(self, params: Params) -> object:
        """`ClientSnapshot`s, 10,000 at most; and how many there are."""
        expect(params)
        friends = {friend.key: friend for friend in self._friends()}
        for key, friend in friends.items():
            if friend.phase is Phase.READY:
                self._access.seen(key)
        found = known(self._access, friends, self._allowance)
        return {"clients": encoded(found[:_MOST_CLIENTS]), "count": len(found)}

    async def waiting(self, params: Params) -> object:
        """`StrangerSnapshot`s: who asked and was not let in, the newest last."""
        expect(params)
        return {"waiting": encoded(strangers(self._access))}

    async def allow(self, params: Params) -> object:
        """Let in `key`, a key, a name or the beginning of a key; with a `name`, or until `expires_unix_s`."""
        expect(params, "key", "name", "expires_unix_s")
        key = self._key(params)
        name = None if params.get("name") is None else text(params, "name")
        expires = params.get("expires_unix_s")
        if expires is not None and (not isinstance(expires, int) or isinstance(expires, bool)):
            raise ValueError("expires_unix_s: expected whole seconds since 1970")
        self._guests.allow(key, name, expires)
        log.info("client %s is allowed", self._access.called(key))
        return {"key": key.hex().upper(), "words": words(key)}

    async def ignore(self, params: Params) -> object:
        """Forget that the client `key` waits. It is shown again when it asks again."""
        expect(params, "key")
        key = self._key(params)
        self._access.ignore(key)
        return {"key": key.hex().upper()}

    async def revoke(self, params: Params) -> object:
        """Forget the client `key`, and end its session. The answer says by what it had come."""
        expect(params, "key")
        key = self._key(params)
        who = self._access.called(key)
        reason = self._access.revoke(key)
        log.info("client %s is revoked", who)
        self._guests.recheck()
        return {"key": key.hex().upper(), "was": _ADMISSIONS[reason].value}

    async def block(self, params: Params) -> object:
        """Shut out the client `key`, and end its session."""
        expect(params, "key")
        key = self._key(params)
        self._access.block(key)
        log.info("client %s is blocked", self._access.called(key))
        self._guests.recheck()
        return {"key": key.hex().upper()}

    def _key(self, params: Params) -> bytes:
        return find(self._access, text(params, "key"))


def find(access: Access, wanted: str) -> bytes:
    """The key that somebody means: a whole one, a Tox ID, or how a known client is called or begins.

    Raises `ValueError`.
    """
    if len(wanted) >= WHOLE:
        return parse_key(wanted)
    return access.find(wanted)


def known(
    access: Access,
    friends: Mapping[bytes, Friend],
    allowance: Callable[[bytes], AllowanceSnapshot | None] = lambda _: None,
) -> list[ClientSnapshot]:
    """Every client on record or in the configuration."""
    return [
        _client(access, key, record, friends.get(key), allowance(key)) for key, record in access.known.items()
    ]


def _admission(access: Access, key: bytes, record: Record | None) -> Admission:
    if record is not None and record.by is Reason.BLOCKED:
        return Admission.BLOCKED
    if access.over(key):
        return Admission.EXPIRED
    return Admission.CONFIGURED if record is None or access.configured(key) else _ADMISSIONS[record.by]


def _client(
    access: Access,
    key: bytes,
    record: Record | None,
    friend: Friend | None,
    allowance: AllowanceSnapshot | None,
) -> ClientSnapshot:
    sent, received = friend.carried if friend is not None else (0, 0)
    expires = record.expires if record is not None and not access.configured(key) else None
    return ClientSnapshot(
        key=key.hex().upper(),
        name=access.name(key),
        words=words(key),
        admission=_admission(access, key, record),
        connected=friend is not None and friend.phase is Phase.READY,
        seen_unix_s=record.seen_at if record is not None else None,
        expires_unix_s=expires if allowance is None else allowance.expires_unix_s,
        sent_bytes=sent,
        received_bytes=received,
        allowance=allowance,
    )


def strangers(access: Access) -> tuple[StrangerSnapshot, ...]:
    """Who waits to be let in."""
    return tuple(StrangerSnapshot(key=key.hex().upper(), words=words(key)) for key in access.waiting)


def access_snapshot(access: Access) -> AccessSnapshot:
    """Who may connect, and who waits."""
    return AccessSnapshot(
        admitted=len(access.admitted()),
        anyone=access.anyone,
        secret=access.has_secret,
        waiting=strangers(access),
    )
