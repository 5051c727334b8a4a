"""Times, sizes and rates in words."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """The two largest units: `2 h 3 min`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def size(count: float) -> str:
    """Bytes, in powers of 1000: `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def rate(count: float) -> str:
    """Bytes a second."""
    return f"{size(count)}/s"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 connection`, `2 connections`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def moment(unix: float) -> str:
    """A time of the past or the future: `2026-01-31 12:00 UTC`."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"
