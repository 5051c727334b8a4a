"""Decides which clients may be friends of the server.

A client is let in for one of four reasons: the configuration has its key ([access] allow, or a section
[client NAME]), it was given to `toxproxy allow`, it sent the secret, or `allow = *` lets anyone in. The
last three are recorded with their reason and survive a restart. A record counts only while its reason
holds: a new secret, or an `allow = *` that was removed, shuts out the clients that came by it.

A client that was blocked, or whose time is over, is shut out whatever it sends. Blocking is stronger than
the configuration; `toxproxy allow` undoes both, but not the `expires` of a section.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from toxproxy.address import is_possible_key, shown
from toxproxy.admission.clients import MAX_NAME, Clients, Reason, Record, is_name
from toxproxy.admission.words import words
from toxproxy.config.settings import AccessSettings, ClientSection
from toxproxy.errors import ConfigError
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.friend import called

REQUEST_BYTES = 921  # TOX_MAX_FRIEND_REQUEST_LENGTH

_GREETING = b"toxproxy"
_MAX_RECORDS = 1024  # of clients that came by the secret or `allow = *`; `toxproxy allow` has no limit
_MAX_WAITING = 64
_LEAST_PREFIX = 4  # hexadecimal digits of a key that may stand for it


class Claim(Enum):
    """What a friend request is."""

    ADMITTED = "from a key that may be a friend already"
    SECRET = "from a client with the right secret"
    ANYONE = "from a client, and `allow = *` lets anyone in"
    GUESS = "from a client with a wrong secret"
    GREETING = "from a client without a secret"
    OTHER = "from another program, from a key that Tox does not accept, or from one that is shut out"


# Whose record is removed for a newcomer if the list is full, the first kind first: (reason, seen).
# A client that came by the secret and has been connected is never removed.
_GIVING_WAY: dict[Claim, tuple[tuple[Reason, bool], ...]] = {
    Claim.ANYONE: ((Reason.ANYONE, False),),
    Claim.SECRET: ((Reason.ANYONE, False), (Reason.SECRET, False), (Reason.ANYONE, True)),
}


class Access:
    """Which clients may be friends, by `settings`, the sections [client NAME], and the record `clients.json`.

    Raises `StateError` for a damaged file, which is not changed then, and `ConfigError` for a secret
    that is too long for a friend request.
    """

    def __init__(
        self, settings: AccessSettings, state: StateFolder, sections: Iterable[ClientSection] = ()
    ) -> None:
        self._settings = settings
        self._sections = {each.key: each for each in sections}
        self._secret_request = None if settings.secret is None else request_message(settings.secret)
        self._clients = Clients(state)
        self._seen: set[bytes] = set()  # connected since; the file may not have it yet
        self._seen_at: dict[bytes, int] = {}  # when last; neither
        self._waiting: dict[bytes, None] = {}

    def change(self, settings: AccessSettings, sections: Iterable[ClientSection] = ()) -> None:
        """Decide by other settings from now on. Raises as the constructor; then nothing has changed."""
        self._secret_request = None if settings.secret is None else request_message(settings.secret)
        self._settings = settings
        self._sections = {each.key: each for each in sections}

    @property
    def anyone(self) -> bool:
        """Whether anyone may connect who was not shut out."""
        return self._settings.anyone

    def configured(self, key: bytes) -> bool:
        """Whether the configuration has this key: [access] allow, or a section [client NAME]."""
        return key in self._settings.allow or key in self._sections

    def section(self, key: bytes) -> ClientSection | None:
        """The section [client NAME] of this client."""
        return self._sections.get(key)

    def over(self, key: bytes) -> bool:
        """Whether the time of a client is over, by its section; else by its record."""
        section, record = self._sections.get(key), self._clients.records.get(key)
        if section is not None and section.over(time.time()):
            return True
        return record is not None and record.over and not self.configured(key)

    @property
    def has_secret(self) -> bool:
        """Whether there is a secret that lets clients in."""
        return self._secret_request is not None

    @property
    def waiting(self) -> tuple[bytes, ...]:
        """The keys that asked and were not let in, at most 64, the newest last."""
        return tuple(self._waiting)

    def admits(self, key: bytes) -> bool:
        """Whether `key` may be a friend now."""
        record = self._clients.records.get(key)
        if self.over(key):
            return False
        if self.configured(key):
            return record is None or record.by is not Reason.BLOCKED
        return record is not None and self._holds(key, record)

    def admitted(self) -> set[bytes]:
        """Every key that may be a friend now."""
        known = {*self._settings.allow, *self._sections, *self._clients.records}
        return {key for key in known if self.admits(key)}

    @property
    def known(self) -> dict[bytes, Record | None]:
        """Every client on record or in the configuration; None where it is only there. The newest last."""
        configured = dict.fromkeys((*self._settings.allow, *self._sections))
        known = {**configured, **self._clients.records}
        return {key: self._current(key, record) for key, record in known.items()}

    @property
    def next_expiry(self) -> int | None:
        """When the time of the next client is over, in seconds since 1970."""
        now = time.time()
        times = [record.expires for record in self._clients.records.values()]
        times += [section.expires for section in self._sections.values()]
        return min((each for each in times if each is not None and each > now), default=None)

    def name(self, key: bytes) -> str | None:
        """What the owner calls a client, in the configuration or else by command."""
        known = self._sections.get(key) or self._clients.records.get(key)
        return known.name if known is not None else None

    def called(self, key: bytes) -> str:
        """A client, for the log: its name, if the owner gave it one, and its key."""
        return called(key, self.name(key))

    def find(self, text: str) -> bytes:
        """The client with this name, these words, or a key that begins so; it is known, or waits.

        Raises `ValueError`.
        """
        wanted, known = " ".join(text.split()), self.known
        if named := [key for key in known if self.name(key) == wanted]:
            found = named
        elif " " in wanted:
            found = [key for key in {**known, **self._waiting} if words(key) == wanted.lower()]
        elif len(wanted) >= _LEAST_PREFIX:
            found = [key for key in {**known, **self._waiting} if key.hex().startswith(wanted.lower())]
        else:
            found = []
        if len(found) != 1:
            count = "several clients are" if found else "no client on record, and none that waits, is"
            raise ValueError(
                f"{count} called {shown(wanted)}; expected a name, its words, a key or its beginning"
            )
        return found[0]

    def claim(self, key: bytes, message: bytes, *, compare: bool = True) -> Claim:
        """Classify a friend request. Without `compare` every secret counts as wrong."""
        if not is_possible_key(key):
            return Claim.OTHER
        if self.admits(key):
            return Claim.ADMITTED
        if self._is_shut_out(key):
            return Claim.OTHER
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

    def ignore(self, key: bytes) -> None:
        """Forget that a client waits, until it asks again. Raises `ValueError` if it does not."""
        if key not in self._waiting:
            raise ValueError("this client does not wait")
        del self._waiting[key]

    def admit(self, key: bytes, claim: Claim) -> bool:
        """Let `key` in for its claim, SECRET or ANYONE, and record it.

        Records whose reason no longer holds are removed. False if the list is full and no record in it
        may be removed. Raises `StateError` if the file cannot be written; the client is not let in then.
        """
        self._clients.read()
        records = self._clients.records
        current = {
            k: r for k, r in records.items() if k != key and (self._holds(k, r) or self._is_shut_out(k))
        }
        if sum(record.by in (Reason.SECRET, Reason.ANYONE) for record in current.values()) >= _MAX_RECORDS:
            least = self._first_to_go(current, claim)
            if least is None:
                return False
            del current[least]
        self._write(current | {key: self._record(key, claim)})
        self._waiting.pop(key, None)
        return True

    def allow(self, key: bytes, name: str | None = None, expires: int | None = None) -> None:
        """Let `key` in by command, whatever the settings are: for good, or until `expires`.

        Without a `name` it keeps the one it has. Raises `ValueError` for a key that Tox does not accept, a
        name that cannot be or that another client has, and a time that is over; `StateError` as `admit`.
        """
        if not is_possible_key(key):
            raise ValueError(f"{key.hex().upper()} cannot be a Tox key")
        if expires is not None and expires <= time.time():
            raise ValueError("the time until which it may connect is over already")
        if (section := self._sections.get(key)) is not None and section.over(time.time()):
            raise ValueError(f"its time is over by [client {section.name}] expires: change it there")
        self._clients.read()
        before = self._clients.records.get(key, Record(Reason.COMMAND))
        name = before.name if name is None else self._checked(name, key)
        record = replace(before, by=Reason.COMMAND, secret=None, name=name, expires=expires)
        self._write(self._clients.records | {key: record})
        self._waiting.pop(key, None)

    def revoke(self, key: bytes) -> Reason:
        """Forget a client; returns by what it was let in. Raises `ValueError` if it is not on record."""
        if self.configured(key):
            section = self._sections.get(key)
            where = "[access] allow" if section is None else f"[client {section.name}]"
            raise ValueError(f"this client is in {where} of the configuration: remove it there, or block it")
        self._clients.read()
        records = dict(self._clients.records)
        if (record := records.pop(key, None)) is None:
            raise ValueError("this client is not on record")
        self._write(records)
        return record.by

    def block(self, key: bytes) -> None:
        """Shut a client out, whatever it sends and whatever the configuration says. Raises `StateError`."""
        self._clients.read()
        before = self._clients.records.get(key, Record(Reason.BLOCKED))
        record = replace(before, by=Reason.BLOCKED, secret=None, expires=None)
        self._write(self._clients.records | {key: record})
        self._waiting.pop(key, None)

    def seen(self, key: bytes) -> None:
        """A client is connected at this moment. `save` writes it down, as does any other change."""
        self._seen_at[key] = int(time.time())

    def save(self) -> None:
        """Write down when clients were seen. Raises `StateError`."""
        if self._seen_at.keys() & self._clients.records.keys():
            self._clients.read()
            self._write(self._clients.records)

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
        self._clients.write({key: self._current(key, record) or record for key, record in records.items()})
        self._seen.clear()
        self._seen_at.clear()

    def _current(self, key: bytes, record: Record | None) -> Record | None:
        """A record with what the file does not know yet."""
        if record is None:
            return None
        seen_at = self._seen_at.get(key, record.seen_at)
        return replace(record, seen=record.seen or key in self._seen, seen_at=seen_at)

    def _checked(self, name: str, key: bytes) -> str:
        if not is_name(name):
            raise ValueError(f"expected a name of 1 to {MAX_NAME} printable characters, found {shown(name)}")
        if any(self.name(other) == name and other != key for other in self.known):
            raise ValueError(f"another client is called {shown(name)}")
        return name

    def _is_shut_out(self, key: bytes) -> bool:
        """Whether the owner said that this client may not connect, now or any more."""
        record = self._clients.records.get(key)
        return self.over(key) or (record is not None and (record.by is Reason.BLOCKED or record.over))

    def _first_to_go(self, records: dict[bytes, Record], claim: Claim) -> bytes | None:
        for by, seen in _GIVING_WAY[claim]:
            for key, record in records.items():  # the oldest first
                if record.by is by and (record.seen or key in self._seen) is seen:
                    return key
        return None

    def _record(self, key: bytes, claim: Claim) -> Record:
        before = self._clients.records.get(key, Record(Reason.ANYONE))
        if claim is Claim.SECRET and self._secret_request is not None:
            return replace(before, by=Reason.SECRET, secret=_fingerprint(key, self._secret_request))
        return replace(before, by=Reason.ANYONE, secret=None)

    def _holds(self, key: bytes, record: Record) -> bool:
        """Whether the reason of a record still holds."""
        if record.over:
            return False
        match record.by:
            case Reason.BLOCKED:
                return False
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
