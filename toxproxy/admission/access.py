"""Decides which clients may be friends of the server.

A client is let in for one of four reasons: the configuration lists its key, it was given to
`toxproxy allow`, it sent the secret, or `allow = *` lets anyone in. The last three are recorded with
their reason and survive a restart. A record counts only while its reason holds: a new secret, or an
`allow = *` that was removed, shuts out the clients that came by it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from enum import Enum

from toxproxy.address import is_possible_key
from toxproxy.admission.clients import Clients, Reason, Record
from toxproxy.config.settings import AccessSettings
from toxproxy.errors import ConfigError
from toxproxy.system.state import StateFolder

REQUEST_BYTES = 921  # TOX_MAX_FRIEND_REQUEST_LENGTH

_GREETING = b"toxproxy"
_MAX_RECORDS = 1024  # of clients that came by the secret or `allow = *`; `toxproxy allow` has no limit
_MAX_WAITING = 64


class Claim(Enum):
    """What a friend request is."""

    ADMITTED = "from a key that may be a friend already"
    SECRET = "from a client with the right secret"
    ANYONE = "from a client, and `allow = *` lets anyone in"
    GUESS = "from a client with a wrong secret"
    GREETING = "from a client without a secret"
    OTHER = "from another program, or from a key that Tox does not accept"


# Whose record is removed for a newcomer if the list is full, the first kind first: (reason, seen).
# A client that came by the secret and has been connected is never removed.
_GIVING_WAY: dict[Claim, tuple[tuple[Reason, bool], ...]] = {
    Claim.ANYONE: ((Reason.ANYONE, False),),
    Claim.SECRET: ((Reason.ANYONE, False), (Reason.SECRET, False), (Reason.ANYONE, True)),
}


class Access:
    """Which clients may be friends, by `settings` and by the record `clients.json` in `state`.

    Raises `StateError` for a damaged file, which is not changed then, and `ConfigError` for a secret
    that is too long for a friend request.
    """

    def __init__(self, settings: AccessSettings, state: StateFolder) -> None:
        self._settings = settings
        self._secret_request = None if settings.secret is None else request_message(settings.secret)
        self._clients = Clients(state)
        self._seen: set[bytes] = set()  # connected since; the file may not have it yet
        self._waiting: dict[bytes, None] = {}

    @property
    def waiting(self) -> tuple[bytes, ...]:
        """The keys that asked and were not let in, at most 64, the newest last."""
        return tuple(self._waiting)

    def admits(self, key: bytes) -> bool:
        """Whether `key` may be a friend now."""
        record = self._clients.records.get(key)
        return key in self._settings.allow or (record is not None and self._holds(key, record))

    def admitted(self) -> set[bytes]:
        """Every key that may be a friend now."""
        return set(self._settings.allow) | {key for key in self._clients.records if self.admits(key)}

    def claim(self, key: bytes, message: bytes, *, compare: bool = True) -> Claim:
        """Classify a friend request. Without `compare` every secret counts as wrong."""
        if not is_possible_key(key):
            return Claim.OTHER
        if self.admits(key):
            return Claim.ADMITTED
        if message.split(b" ", 1)[0] != _GREETING:
            return Claim.OTHER
        secret = self._secret_request
        if secret is not None and message != _GREETING:
            if compare and hmac.compare_digest(message, secret):
                return Claim.SECRET
            return Claim.ANYONE if self._settings.anyone else Claim.GUESS
        return Claim.ANYONE if self._settings.anyone else Claim.GREETING

    def wait(self, key: bytes) -> None:
        """Remember a client that asked and was not let in."""
        self._waiting.pop(key, None)
        self._waiting[key] = None
        if len(self._waiting) > _MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]

    def admit(self, key: bytes, claim: Claim) -> bool:
        """Let `key` in for its claim, SECRET or ANYONE, and record it.

        Records whose reason no longer holds are removed. False if the list is full and no record in it
        may be removed. Raises `StateError` if the file cannot be written; the client is not let in then.
        """
        self._clients.read()
        current = {k: r for k, r in self._clients.records.items() if k != key and self._holds(k, r)}
        if sum(record.by is not Reason.COMMAND for record in current.values()) >= _MAX_RECORDS:
            least = self._first_to_go(current, claim)
            if least is None:
                return False
            del current[least]
        self._write(current | {key: self._record(key, claim)})
        self._waiting.pop(key, None)
        return True

    def allow(self, key: bytes) -> None:
        """Let `key` in by command, for good, whatever the settings are.

        Raises `ValueError` for a key that Tox does not accept, and `StateError` as `admit` does.
        """
        if not is_possible_key(key):
            raise ValueError(f"{key.hex().upper()} cannot be a Tox key")
        self._clients.read()
        self._write(self._clients.records | {key: Record(Reason.COMMAND)})
        self._waiting.pop(key, None)

    def met(self, key: bytes) -> None:
        """Record that `key` has been connected. Clients that never were are removed before it.

        Raises `StateError` if the file cannot be written; the next write includes it then.
        """
        record = self._clients.records.get(key)
        if record is None or record.seen or key in self._seen or record.by is Reason.COMMAND:
            return
        self._seen.add(key)
        self._clients.read()
        self._write(self._clients.records)

    def _write(self, records: dict[bytes, Record]) -> None:
        seen = {key: replace(records[key], seen=True) for key in self._seen & records.keys()}
        self._clients.write(records | seen)
        self._seen.clear()

    def _first_to_go(self, records: dict[bytes, Record], claim: Claim) -> bytes | None:
        for by, seen in _GIVING_WAY[claim]:
            for key, record in records.items():  # the oldest first
                if record.by is by and (record.seen or key in self._seen) is seen:
                    return key
        return None

    def _record(self, key: bytes, claim: Claim) -> Record:
        if claim is Claim.SECRET and self._secret_request is not None:
            return Record(Reason.SECRET, _fingerprint(key, self._secret_request))
        return Record(Reason.ANYONE)

    def _holds(self, key: bytes, record: Record) -> bool:
        """Whether the reason of a record still holds."""
        match record.by:
            case Reason.COMMAND:
                return True
            case Reason.SECRET:
                return record.secret is not None and self._is_current(key, record.secret)
            case Reason.ANYONE:
                return self._settings.anyone

    def _is_current(self, key: bytes, fingerprint: str) -> bool:
        secret = self._secret_request
        return secret is not None and hmac.compare_digest(fingerprint, _fingerprint(key, secret))


def request_message(secret: str | None) -> bytes:
    """The message of a client's friend request, at most 921 bytes. Raises `ConfigError`."""
    if secret is None:
        return _GREETING
    message = _GREETING + b" " + secret.encode()
    if not secret or len(message) > REQUEST_BYTES:
        most = REQUEST_BYTES - len(_GREETING) - 1
        raise ConfigError(f"secret: expected 1 to {most} bytes (UTF-8), found {len(secret.encode())}")
    return message


def _fingerprint(key: bytes, request: bytes) -> str:
    """A value that is the same while the secret is, and does not reveal it. Each client has another."""
    return hmac.new(key, request, hashlib.sha256).hexdigest()
