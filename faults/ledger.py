"""The outcome of the streams: the accounts of both ends, and the judgement on them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self

from faults.plan import Kind, Side, Stream


class End(Enum):
    """How one side saw a stream end."""

    WHOLE = "whole"  # both directions ended in order
    CUT = "cut"  # this side reset the stream, as planned
    RESET = "reset"  # the stream was reset
    REFUSED = "refused"  # the stream could not be opened
    LATE = "late"  # the stream had not ended within its time bound


@dataclass(frozen=True, slots=True)
class Account:
    """What one side saw of a stream: it got `got` bytes; `wrong_at` is the offset of the first wrong one."""

    number: int
    side: Side
    end: End
    got: int = 0
    wrong_at: int | None = None
    why: str = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The account that `to_json` described."""
        return cls(**data | {"side": Side(data["side"]), "end": End(data["end"])})

    def to_json(self) -> dict[str, Any]:
        """A description for another process."""
        return asdict(self) | {"side": self.side.value, "end": self.end.value}


class Ledger:
    """The accounts of both sides, for all streams."""

    def __init__(self) -> None:
        self._accounts: defaultdict[int, dict[Side, Account]] = defaultdict(dict)

    def note(self, account: Account) -> None:
        """Enter the account of a side that is done with a stream."""
        self._accounts[account.number][account.side] = account

    def count(self, side: Side) -> int:
        """The number of streams that a side is done with."""
        return sum(side in known for known in self._accounts.values())

    @property
    def bytes(self) -> int:
        """Bytes that arrived, at both ends together."""
        return sum(account.got for known in self._accounts.values() for account in known.values())

    def complete(self, streams: Iterable[Stream]) -> bool:
        """Whether both sides are done with all of these streams."""
        return all(len(self._accounts[stream.number]) == len(Side) for stream in streams)

    def ends(self, stream: Stream) -> dict[Side, End]:
        """How a stream ended, for the sides that have reported."""
        return {side: account.end for side, account in self._accounts[stream.number].items()}

    def got(self, stream: Stream) -> int:
        """Bytes of a stream that arrived, in both directions."""
        return sum(account.got for account in self._accounts[stream.number].values())

    def problems(self, stream: Stream) -> list[str]:
        """What is wrong with a stream. Empty if nothing is."""
        known = self._accounts[stream.number]
        return [text for side in Side for text in judge(stream, side, known.get(side))]


def judge(stream: Stream, side: Side, account: Account | None) -> list[str]:
    """What is wrong with one side's account."""
    if account is None:
        return [f"the {side.value} end heard nothing of it, or did not end"]
    size = stream.size(side.other)
    of_size = f"after {account.got} of {size} bytes" + (f": {account.why}" if account.why else "")
    found = []
    if account.wrong_at is not None:
        found.append(f"the {side.value} end got a wrong byte at {account.wrong_at} of {size}")
    if account.got > size:
        found.append(f"the {side.value} end got {account.got} bytes, sent were {size}")
    match account.end:
        case End.WHOLE if account.got < size:
            found.append(f"the {side.value} end saw an end in order {of_size}")
        case End.WHOLE if stream.kind is Kind.RESET and side is stream.actor:
            found.append(f"the {side.value} end saw an end in order where it was to reset")
        case End.RESET if stream.kind is not Kind.RESET or side is stream.actor:
            found.append(f"the {side.value} end was reset {of_size}")
        case End.REFUSED:
            found.append(f"the {side.value} end was refused: {account.why}")
        case End.LATE:
            found.append(f"the {side.value} end hung {of_size}")
    return found
