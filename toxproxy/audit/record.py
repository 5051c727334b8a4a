"""What the audit says of one connection, and its line. Pure.

Nothing that others wrote can forge a line or a field: in text a value with other than plain characters is
a JSON string, and JSON escapes everything that is not ASCII.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Literal

from toxproxy.errors import Refusal

_PLAIN = re.compile(r"[A-Za-z0-9_.:*/\[\],+-]+")
_SHORT = 12  # digits of a key in text
_MOST_ADDRESSES = 8  # that a name had; more are not written


class Verdict(Enum):
    """What the rules said."""

    PERMITTED = "permitted"
    DENIED = "denied"
    NONE = "none"  # not judged: a look-up failed, something was missing, or the server answers itself


class End(Enum):
    """How a connection ended."""

    FINISHED = "finished"  # both directions, in order
    REFUSED = "refused"  # it was not made
    ABANDONED = "abandoned"  # by the client, before it was made
    CLIENT_RESET = "client_reset"
    TARGET_RESET = "target_reset"
    SILENT = "silent"  # [limits] idle or half_closed
    SESSION_ENDED = "session_ended"  # and all of the client's connections with it
    QUOTA_USED = "quota_used"  # what the client may carry in a month
    CLOSED = "closed"  # here, by command or because the program stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One connection of a client, or of a server's that leaves here: `peer` says of which.

    `unix` is when it ended, in seconds since 1970.

    `addresses`: the one that was connected to; where there is none, those that the name has. `rule` is
    what decided, as in the file; None: no rule permits it, or the verdict is NONE.
    """

    unix: float
    client_key: str
    client_name: str | None
    target: str
    addresses: tuple[str, ...]
    verdict: Verdict
    rule: str | None
    refusal: Refusal | None
    to_target_bytes: int
    to_client_bytes: int
    duration_s: float
    end: End
    peer: Literal["client", "server"] = "client"


def text_line(record: Record) -> str:
    """`2026-01-31T12:00:00Z client=laptop key=9142DE888B58 target=…`; a `-` is: nothing, or not known."""
    fields = {
        record.peer: record.client_name,
        "key": record.client_key[:_SHORT],
        "target": record.target,
        "address": ",".join(record.addresses[:_MOST_ADDRESSES]) or None,
        "verdict": record.verdict.value,
        "rule": record.rule,
        "to_target": str(record.to_target_bytes),
        f"to_{record.peer}": str(record.to_client_bytes),
        "seconds": f"{record.duration_s:.3f}",
        "end": record.end.value,
        "refusal": _word(record.refusal),
    }
    time = datetime.fromtimestamp(record.unix, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%SZ} " + " ".join(
        f"{name}={_quoted(each)}" for name, each in fields.items()
    )


def json_line(record: Record) -> str:
    """The same as a JSON object, with the whole key."""
    time = datetime.fromtimestamp(record.unix, UTC).isoformat(timespec="milliseconds")
    fields = {
        "time": time.replace("+00:00", "Z"),
        f"{record.peer}_key": record.client_key,
        f"{record.peer}_name": record.client_name,
        "target": record.target,
        "addresses": record.addresses[:_MOST_ADDRESSES],
        "verdict": record.verdict.value,
        "rule": record.rule,
        "to_target_bytes": record.to_target_bytes,
        f"to_{record.peer}_bytes": record.to_client_bytes,
        "duration_s": round(record.duration_s, 3),
        "end": record.end.value,
        "refusal": _word(record.refusal),
    }
    return json.dumps(fields)


def _word(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.name.lower()


def _quoted(value: str | None) -> str:
    if value is None:
        return "-"
    return value if _PLAIN.fullmatch(value) and value != "-" else json.dumps(value)
