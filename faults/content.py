"""What streams carry. It is derived from the seed of the run, the stream and the sending side, so the
receiving side knows what must arrive. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.plan import Plan, Side, Stream

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK = 1 << 16  # bytes

_COMPRESSIBLE = 0.4  # share of the blocks
_REPEATED = 256  # bytes that a compressible block repeats


@dataclass(frozen=True, slots=True)
class Content:
    """The `size` bytes that a side sends on a stream. Some blocks of them can be compressed."""

    seed: int
    number: int
    side: Side
    size: int

    @classmethod
    def of(cls, plan: Plan, stream: Stream, sender: Side) -> Content:
        """The content that `sender` sends on a stream of this plan."""
        return cls(plan.seed, stream.number, sender, stream.size(sender))

    def pieces(self) -> Iterator[bytes]:
        """The content, in pieces of at most `BLOCK` bytes."""
        for start in range(0, self.size, BLOCK):
            yield self.block(start // BLOCK)[: self.size - start]

    def block(self, index: int) -> bytes:
        """A whole block, even at the end of the content."""
        dice = random.Random(f"{self.seed} {self.number} {self.side.value} {index}")
        if dice.random() < _COMPRESSIBLE:
            return dice.randbytes(_REPEATED) * (BLOCK // _REPEATED)
        return dice.randbytes(BLOCK)


class Receipt:
    """Compares what arrives, in pieces of any size, with the content.

    `got` counts the bytes. `wrong_at` is the offset of the first wrong byte, or None.
    """

    def __init__(self, content: Content) -> None:
        self.got = 0
        self.wrong_at: int | None = None
        self._content = content
        self._index = -1
        self._block = b""

    def take(self, data: Buffer) -> None:
        """Compare the next bytes."""
        view = memoryview(data)
        while view:
            index, start = divmod(self.got, BLOCK)
            if index != self._index:
                self._index, self._block = index, self._content.block(index)
            piece, view = view[: BLOCK - start], view[BLOCK - start :]
            expected = self._block[start : start + len(piece)]
            if self.wrong_at is None and piece != expected:
                pairs = enumerate(zip(piece, expected, strict=True))
                self.wrong_at = self.got + next(at for at, (left, right) in pairs if left != right)
            self.got += len(piece)
