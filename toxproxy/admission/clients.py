"""The record of clients that were let in or shut out: `clients.json` in a server's state folder.

One JSON object. Its keys are the clients' public keys (64 hexadecimal digits), its values say why each
was let in or shut out. An entry or a field that only a later version knows is kept, and lets nobody in.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from toxproxy.address import is_possible_key, shown
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder

log = logging.getLogger(__name__)

FILE = "clients.json"
MAX_NAME = 64  # characters

_FIELDS = frozenset({"by", "secret", "seen", "name", "seen_at", "expires"})

_KEY = re.compile(r"[0-9A-F]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Reason(Enum):
    """Why a client was let in, or that it is shut out. The value is the word in the file."""

    COMMAND = "command"
    SECRET = "secret"
    ANYONE = "anyone"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Record:
    """One client in the file.

    `secret`: the fingerprint of the secret that it sent, if it came by that. `seen`: it has been
    connected since; `seen_at` says when last. `expires`: until when it may connect. Both are in seconds
    since 1970, None where it is not known or without end. `name`: what the owner calls it. `rest`: fields
    of a later version.
    """

    by: Reason
    secret: str | None = None
    seen: bool = False
    name: str | None = None
    seen_at: int | None = None
    expires: int | None = None
    rest: Mapping[str, object] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether the time is over in which it may connect."""
        return self.expires is not None and self.expires <= time.time()


class Clients:
    """The records, as of the last `read` or `write`.

    The file may be edited by hand while a server runs: call `read` before a change. Raises `StateError`
    for a damaged file, which is not changed then.
    """

    def __init__(self, state: StateFolder) -> None:
        self.records: dict[bytes, Record] = {}
        self._state = state
        self._unknown: dict[str, object] = {}  # entries of a later version
        self._warned: set[str] = set()
        self.read()

    def read(self) -> None:
        """Read the file again. Raises `StateError`; the records do not change then."""
        data = self._state.read(FILE)
        try:
            entries = json.loads(data) if data is not None else {}
            if not isinstance(entries, dict):
                raise ValueError("expected an object")
            parsed = {parse_key(key): _parse_record(entry) for key, entry in entries.items()}
        except (ValueError, RecursionError) as error:
            what_to_do = "mend it, or remove it to forget the clients that were let in"
            raise StateError(f"{self._state.path / FILE} is damaged ({error}): {what_to_do}") from error
        self.records, self._unknown = {}, {}
        for key, record in parsed.items():
            name = key.hex().upper()
            if record is None:
                self._unknown[name] = entries[name]
                self._warn(name, "was let in for a reason that this version does not know")
            elif not is_possible_key(key):
                self._warn(name, "cannot be a Tox key")
            else:
                self.records[key] = record

    def write(self, records: Mapping[bytes, Record]) -> None:
        """Replace the records and the file. Raises `StateError`; neither changes then."""
        entries: dict[str, object] = {key.hex().upper(): _fields(record) for key, record in records.items()}
        kept = {name: entry for name, entry in self._unknown.items() if name not in entries}
        self._state.write(FILE, json.dumps(kept | entries, indent=1).encode() + b"\n")
        self.records, self._unknown = dict(records), kept

    def _warn(self, name: str, why: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            log.warning("%s: %s %s; it is not let in", self._state.path / FILE, name[:12], why)


def _fields(record: Record) -> dict[str, object]:
    fields: dict[str, object] = {**record.rest, "by": record.by.value}
    if record.secret is not None:
        fields["secret"] = record.secret
    if record.seen:
        fields["seen"] = True
    kept = {"name": record.name, "seen_at": record.seen_at, "expires": record.expires}
    return fields | {name: value for name, value in kept.items() if value is not None}


def parse_key(text: str) -> bytes:
    """A client's key as files of the state folder have it. Raises `ValueError`."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"expected a key of 64 hexadecimal digits, found {shown(text)}")
    return bytes.fromhex(text)


def _parse_record(entry: Any) -> Record | None:
    """The record, or None for a reason of a later version. Raises `ValueError`."""
    match entry:
        case {"by": "secret", "secret": str(fingerprint)} if _FINGERPRINT.fullmatch(fingerprint):
            return _record(Reason.SECRET, fingerprint, entry)
        case {"by": "command" | "anyone" | "blocked" as by}:
            return _record(Reason(by), None, entry)
        case {"by": str(by)} if by not in {reason.value for reason in Reason}:
            return None
    raise ValueError(
        f'expected {{"by": "command", "secret", "anyone" or "blocked"}}, found {shown(str(entry))}'
    )


def _record(by: Reason, secret: str | None, entry: Mapping[str, Any]) -> Record:
    name = entry.get("name")
    if name is not None and not (isinstance(name, str) and is_name(name)):
        raise ValueError(f"expected a name of 1 to {MAX_NAME} printable characters, found {shown(str(name))}")
    times = {each: entry.get(each) for each in ("seen_at", "expires")}
    for each, value in times.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"expected {each} in whole seconds since 1970, found {shown(str(value))}")
    rest = {each: value for each, value in entry.items() if each not in _FIELDS}
    return Record(by, secret, entry.get("seen") is True, name, rest=rest, **times)


def is_name(text: str) -> bool:
    """Whether a client can be called so."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()
