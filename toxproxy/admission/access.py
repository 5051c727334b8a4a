"""Who may be a friend of the server: what a friend request amounts to, and who was let in.

A client is let in because the configuration lists its key, because somebody said
`toxproxy allow`, because it sent the secret, or because anyone may come. The last three are
written down with the reason, so that they outlive a restart, but only for as long as the
reason does: a changed secret or a withdrawn `allow = *` closes the door to those it let in.
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
_RECORDS_MOST = 1024  # for the clients that let themselves in; commands have no limit
_WAITING_MOST = 64


class Claim(Enum):
    """What a friend request amounts to."""

    ADMITTED = "the key may be a friend already"
    SECRET = "a client with the right secret"
    ANYONE = "a client, where anyone may come"
    GUESS = "a client with another secret than the right one"
    GREETING = "a client that nobody let in yet"
    OTHER = "no client: another program's, or from a key that Tox does not take"


# Who gives way to a newcomer where the list is full, the first kind first: (reason, seen).
# Nobody gives way who was let in by the secret and has been here.
_GIVING_WAY: dict[Claim, tuple[tuple[Reason, bool], ...]] = {
    Claim.ANYONE: ((Reason.ANYONE, False),),
    Claim.SECRET: ((Reason.ANYONE, False), (Reason.SECRET, False), (Reason.ANYONE, True)),
}


class Access:
    """The server's door.

    `settings` say who may enter, the file `clients.json` in `state` who did. Raises
    `StateError` for a damaged file, which is left as it is, and `ConfigError` for a secret
    that does not fit a friend request.
    """

    def __init__(self, settings: AccessSettings, state: StateFolder) -> None:
        self._settings = settings
        self._secret_request = None if settings.secret is None else request_message(settings.secret)
        self._clients = Clients(state)
        self._seen: set[bytes] = set()  # which the file may not say yet
        self._waiting: dict[bytes, None] = {}

    @property
    def waiting(self) -> tuple[bytes, ...]:
        """The keys that asked and were not let in, the newest last, at most 64."""
        return tuple(self._waiting)

    def admits(self, key: bytes) -> bool:
        """Whether `key` may be a friend now."""
        record = self._clients.records.get(key)
        return key in self._settings.allow or (record is not None and self._holds(key, record))

    def admitted(self) -> set[bytes]:
        """Every key that may be a friend now."""
        return set(self._settings.allow) | {key for key in self._clients.records if self.admits(key)}

    def claim(self, key: bytes, message: bytes, *, compare: bool = True) -> Claim:
        """What a friend request amounts to. Without `compare` every secret counts as a wrong one."""
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
        if len(self._waiting) > _WAITING_MOST:
            del self._waiting[next(iter(self._waiting))]

    def admit(self, key: bytes, claim: Claim) -> bool:
        """Let `key` in for its claim, SECRET or ANYONE, and write it down.

        What no longer holds is dropped. False where the list is full and nobody in it gives way.
        Raises `StateError` where the record cannot be written; the client is not let in then.
        """
        self._clients.read()
        current = {k: r for k, r in self._clients.records.items() if k != key and self._holds(k, r)}
        if sum(record.by is not Reason.COMMAND for record in current.values()) >= _RECORDS_MOST:
            least = self._first_to_go(current, claim)
            if least is None:
                return False
            del current[least]
        self._write(current | {key: self._record(key, claim)})
        self._waiting.pop(key, None)
        return True

    def allow(self, key: bytes) -> None:
        """Let `key` in by command, for good, whatever the settings.

        Raises `ValueError` for a key that Tox does not take, and `StateError` as `admit` does.
        """
        if not is_possible_key(key):
            raise ValueError(f"{key.hex().upper()} cannot be a Tox key")
        self._clients.read()
        self._write(self._clients.records | {key: Record(Reason.COMMAND)})
        self._waiting.pop(key, None)

    def met(self, key: bytes) -> None:
        """`key` has been connected: it does not give way as one who was never seen does.

        Raises `StateError` where that cannot be written; it is with the next record then.
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
        """Whether the reason of a record is still one."""
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
    """What a client says in its friend request, at most 921 bytes. Raises `ConfigError`."""
    if secret is None:
        return _GREETING
    message = _GREETING + b" " + secret.encode()
    if not secret or len(message) > REQUEST_BYTES:
        most = REQUEST_BYTES - len(_GREETING) - 1
        raise ConfigError(f"secret: expected 1 to {most} bytes (UTF-8), found {len(secret.encode())}")
    return message


def _fingerprint(key: bytes, request: bytes) -> str:
    """Tells whether a secret is still the same without saying which; differs from client to client."""
    return hmac.new(key, request, hashlib.sha256).hexdigest()
