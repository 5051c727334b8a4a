"""How much each client has carried in this month: `quotas.json` in a server's state folder.

Months are those of UTC. One JSON object: by the clients' public keys (64 hexadecimal digits), the month and
the bytes. A month that is over is forgotten. A clock that is set back begins no month again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from datetime import UTC, datetime
from typing import Any

from toxproxy.address import shown
from toxproxy.admission.clients import parse_key
from toxproxy.errors import StateError
from toxproxy.pace import Notice
from toxproxy.system.state import StateFolder
from toxproxy.timer import Timer

log = logging.getLogger(__name__)

FILE = "quotas.json"
SAVE_AFTER = 10.0  # seconds after the first byte that is not in the file …
SAVE_BYTES = 64 << 20  # … or so many bytes after it, if that is sooner

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


class Quotas:
    """Counts, and writes down after `SAVE_AFTER` seconds or `SAVE_BYTES` bytes: so much a crash forgets.

    Raises `StateError` for a damaged file, which is not changed then.
    """

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._used = _read(state)
        self._until = 0.0  # when the month is over
        self._month = ""
        self._unsaved = 0  # bytes
        self._timer = Timer(self._save_soon)
        self._saving: asyncio.Task[None] | None = None
        self._failed = Notice(log, logging.WARNING)

    def used(self, key: bytes) -> int:
        """Bytes that a client has carried in this month."""
        month, used = self._used.get(key, ("", 0))
        return used if month >= self._now() else 0

    def add(self, key: bytes, size: int) -> int:
        """A client has carried so many bytes more. Returns those of this month."""
        now = self._now()
        month, used = self._used.get(key, (now, 0))
        month, used = (month, used + size) if month >= now else (now, size)
        self._used[key] = month, used
        if not self._timer.running:
            self._timer.set(SAVE_AFTER)
        self._unsaved += size
        if self._unsaved >= SAVE_BYTES:
            self._save_soon()
        return used

    async def close(self) -> None:
        """Write everything down."""
        self._timer.stop()
        if self._saving is not None:
            await asyncio.wait((self._saving,))
        if self._unsaved:
            self._write(self._text())

    def _now(self) -> str:
        """The month, as `2026-11`."""
        now = time.time()
        if not self._until or now >= self._until:
            date = datetime.fromtimestamp(now, UTC)
            self._month = f"{date:%Y-%m}"
            following = (date.year + 1, 1) if date.month == 12 else (date.year, date.month + 1)
            self._until = datetime(*following, 1, tzinfo=UTC).timestamp()
        return self._month

    def _save_soon(self) -> None:
        self._timer.stop()
        if self._saving is None:
            self._saving = asyncio.create_task(self._save(), name="quotas")

    async def _save(self) -> None:
        """Write in a thread: a disk may be slow, and streams go on."""
        try:
            await asyncio.to_thread(self._write, self._text())
        finally:
            self._saving = None

    def _text(self) -> bytes:
        now = self._now()
        self._used = {key: each for key, each in self._used.items() if each[0] >= now}
        self._unsaved = 0
        entries = {
            key.hex().upper(): {"month": month, "bytes": used} for key, (month, used) in self._used.items()
        }
        return json.dumps(entries, indent=1).encode() + b"\n"

    def _write(self, text: bytes) -> None:
        try:
            self._state.write(FILE, text)
        except StateError as error:
            self._failed("%s; a restart would forget what clients have carried since", error)


def _read(state: StateFolder) -> dict[bytes, tuple[str, int]]:
    data = state.read(FILE)
    try:
        entries = json.loads(data) if data is not None else {}
        if not isinstance(entries, dict):
            raise ValueError("expected an object")
        return {parse_key(key): _entry(entry) for key, entry in entries.items()}
    except (ValueError, RecursionError) as error:
        what_to_do = "mend it, or remove it to forget what clients have carried in this month"
        raise StateError(f"{state.path / FILE} is damaged ({error}): {what_to_do}") from error


def _entry(entry: Any) -> tuple[str, int]:
    match entry:
        case {"month": str(month), "bytes": int(used)} if _MONTH.fullmatch(month) and used >= 0:
            return month, used
    raise ValueError(f'expected {{"month": "2027-01", "bytes": …}}, found {shown(str(entry))}')
