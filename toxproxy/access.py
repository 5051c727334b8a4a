"""Who may be a friend of the server: the answer to every friend request, and its memory.

A client is let in because the configuration lists its key, because somebody said
`toxproxy allow`, because it sent the secret, or because anyone may come. The last three are
written down with the reason, so that they outlive a restart, but only for as long as the
reason does: a changed secret or a withdrawn `allow = *` closes the door to those it let in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from enum import Enum

from toxproxy.config import AccessSettings
from toxproxy.errors import ConfigError, StateError
from toxproxy.state import StateFolder

REQUEST_BYTES = 921  # TOX_MAX_FRIEND_REQUEST_LENGTH

_FILE = "clients.json"
_GREETING = b"toxproxy"
_RECORDS_MOST = 1024  # for the clients that let themselves in; commands have no limit
_WAITING_MOST = 64
_KEY = re.compile(r"[0-9A-F]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Reason(Enum):
    """Why a recorded client was let in; the value is the word in the file."""

    COMMAND = "command"
    SECRET = "secret"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Record:
    """One client in the file. `secret` is the fingerprint of the secret it sent, if that let it in."""

    by: Reason
    secret: str | None = None


class Access:
    """The server's door.

    `settings` say who may enter, the file `clients.json` in `state` who did. Raises
    `StateError` for a damaged file, which is left as it is, and `ConfigError` for a secret
    that does not fit a friend request.
    """

    def __init__(self, settings: AccessSettings, state: StateFolder) -> None:
        self._settings = settings
        self._state = state
        self._secret_request = None if settings.secret is None else request_message(settings.secret)
        self._records = _load(state)
        self._waiting: dict[bytes, None] = {}

    @property
    def waiting(self) -> tuple[bytes, ...]:
        """The keys that asked and were not let in, the newest last, at most 64.

        A key that is not among them before `judge` asks for the first time.
        """
        return tuple(self._waiting)

    def admits(self, key: bytes) -> bool:
        """Whether `key` may be a friend now."""
        record = self._records.get(key)
        return key in self._settings.allow or (record is not None and self._holds(key, record))

    def admitted(self) -> set[bytes]:
        """Every key that may be a friend now."""
        return set(self._settings.allow) | {key for key in self._records if self.admits(key)}

    def judge(self, key: bytes, message: bytes) -> bool:
        """Answer a friend request; an admission is recorded, anything else that is a client's waits.

        Raises `StateError` where the record cannot be written; the client is not let in then.
        """
        if self.admits(key):
            return True
        record = self._reason_to_admit(key, message)
        if record is not None and self._record(key, record):
            return True
        if _is_client(message):
            self._waiting.pop(key, None)
            self._waiting[key] = None
            if len(self._waiting) > _WAITING_MOST:
                del self._waiting[next(iter(self._waiting))]
        return False

    def allow(self, key: bytes) -> None:
        """Let `key` in by command, for good, whatever the settings. Raises `StateError` as `judge` does."""
        self._remember(self._records | {key: Record(Reason.COMMAND)})
        self._waiting.pop(key, None)

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

    def _reason_to_admit(self, key: bytes, message: bytes) -> Record | None:
        secret = self._secret_request
        if secret is not None and hmac.compare_digest(message, secret):
            return Record(Reason.SECRET, _fingerprint(key, secret))
        if self._settings.anyone and _is_client(message):
            return Record(Reason.ANYONE)
        return None

    def _record(self, key: bytes, record: Record) -> bool:
        """Record an admission, and drop what no longer holds; False where there are too many already."""
        current = {k: r for k, r in self._records.items() if self._holds(k, r)}
        if sum(r.by is not Reason.COMMAND for r in current.values()) >= _RECORDS_MOST:
            return False
        self._remember(current | {key: record})
        self._waiting.pop(key, None)
        return True

    def _remember(self, records: dict[bytes, Record]) -> None:
        self._state.write(_FILE, _dump(records))  # first: what is not on disk does not count
        self._records = records


def request_message(secret: str | None) -> bytes:
    """What a client says in its friend request, at most 921 bytes. Raises `ConfigError`."""
    if secret is None:
        return _GREETING
    message = _GREETING + b" " + secret.encode()
    if not secret or len(message) > REQUEST_BYTES:
        most = REQUEST_BYTES - len(_GREETING) - 1
        raise ConfigError(f"secret: expected 1 to {most} bytes (UTF-8), found {len(secret.encode())}")
    return message


def _is_client(message: bytes) -> bool:
    return message.split(b" ", 1)[0] == _GREETING


def _fingerprint(key: bytes, request: bytes) -> str:
    """Tells whether a secret is still the same without saying which; differs from client to client."""
    return hmac.new(key, request, hashlib.sha256).hexdigest()


def _dump(records: dict[bytes, Record]) -> bytes:
    entries = {}
    for key, record in records.items():
        entries[key.hex().upper()] = {"by": record.by.value}
        if record.secret is not None:
            entries[key.hex().upper()]["secret"] = record.secret
    return json.dumps(entries, indent=1).encode() + b"\n"


def _load(state: StateFolder) -> dict[bytes, Record]:
    data = state.read(_FILE)
    if data is None:
        return {}
    try:
        entries = json.loads(data)
        if not isinstance(entries, dict):
            raise ValueError("expected an object")
        return {_parse_key(key): _parse_record(entry) for key, entry in entries.items()}
    except (ValueError, RecursionError) as error:
        what_to_do = "mend it, or remove it to forget the clients that were let in"
        raise StateError(f"{state.path / _FILE} is damaged ({error}): {what_to_do}") from error


def _parse_key(text: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise ValueError(f"expected a key of 64 hexadecimal digits, found {text[:80]!r}")
    return bytes.fromhex(text)


def _parse_record(entry: object) -> Record:
    match entry:
        case {"by": "secret", "secret": str(fingerprint)} if _FINGERPRINT.fullmatch(fingerprint):
            return Record(Reason.SECRET, fingerprint)
        case {"by": "command" | "anyone" as by}:
            return Record(Reason(by))
    raise ValueError(f'expected {{"by": "command", "secret" or "anyone"}}, found {str(entry)[:80]}')
