"""LZ4 for one direction of a stream: blocks that may refer back to the blocks before them.

For `stream`, whose two halves have one of these each where both sides agreed on it. Both ends
remember the last `HISTORY` bytes of what went in blocks. What went as plain DATA is not among
them, so a direction that does not shrink costs no memory. The blocks are those of the LZ4 block
format, without a size in front.
"""

from __future__ import annotations

from lz4.block import LZ4BlockError, compress, decompress

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux.frames import DATA_HEADER, MAX_RAW, PACKED_HEADER

# Bytes. 64 KiB would cost four times the memory and for frames of a datagram more than twice the
# time, and make what is sent 2 to 7 % smaller (logs, JSON, source code).
HISTORY = 16 * 1024

_OVERHEAD = PACKED_HEADER - DATA_HEADER
_LEAST = 32  # bytes worth a try with a history,
_LEAST_ALONE = 200  # and without
_MISSES = 3  # blocks in a row that may fail to shrink before it is left alone
_SHORTEST_REST = 64 * 1024  # bytes that then pass untried, and twice as many the next time
_LONGEST_REST = 4 * 1024 * 1024


class Compressor:
    """Makes the blocks of a sender, as far as that pays: a block must save a tenth.

    After `_MISSES` blocks in a row that do not, bytes pass untried for a while, which doubles
    with each further miss and ends with the first block that shrinks.
    """

    __slots__ = ("_history", "_misses", "_ratio", "_rest", "_untried")

    def __init__(self) -> None:
        self._history = b""
        self._ratio = 1.0  # by which the last block shrank
        self._misses = 0  # in a row
        self._rest = _SHORTEST_REST  # how long the next rest will be
        self._untried = 0  # bytes left of the present one

    def reach(self, waiting: int, size: int) -> int:
        """How many of `waiting` bytes to give to `pack` for a frame with `size` bytes of payload.

        0 where the frame should be plain; that it then takes as many bytes as it can is counted.
        """
        plain = min(waiting, size)
        if self._untried > 0:
            self._untried -= plain
            return 0
        if plain < (_LEAST if self._history else _LEAST_ALONE):
            return 0
        return min(waiting, MAX_RAW, int(size * self._ratio))

    def pack(self, raw: bytes, size: int) -> tuple[int, bytes] | None:
        """A block, and how many of the first bytes of `raw` are in it; None where that does not pay.

        `size` bounds the block in bytes, with what its header is longer than that of DATA.
        """
        while True:
            block: bytes = compress(raw, mode="fast", store_size=False, dict=self._history)
            packed = len(block) + _OVERHEAD
            if 10 * packed > 9 * len(raw):
                self._missed()
                return None
            if packed <= size:
                break
            raw = raw[:size]  # it shrank less than the block before; so much fits if it shrinks at all
        self._history = _remember(self._history, raw)
        self._ratio = max(1.0, 0.9 * len(raw) / packed)  # with room for a block that shrinks a little less
        self._misses = 0
        self._rest = _SHORTEST_REST
        return len(raw), block

    def _missed(self) -> None:
        self._ratio = 1.0
        self._misses += 1
        if self._misses >= _MISSES:
            self._untried = self._rest
            self._rest = min(2 * self._rest, _LONGEST_REST)


class Decompressor:
    """Reads the blocks of one direction, in the order in which they were made."""

    __slots__ = ("_history",)

    def __init__(self) -> None:
        self._history = b""

    def unpack(self, block: bytes, length: int) -> bytes:
        """The `length` bytes of a block; no more than these are ever allocated.

        Raises `RemoteProtocolError` for what is not a block of just that many.
        """
        try:
            raw: bytes = decompress(block, uncompressed_size=length, dict=self._history)
        except LZ4BlockError:
            raise RemoteProtocolError(f"a block that is not LZ4 or holds more than {length} bytes") from None
        if len(raw) != length:
            raise RemoteProtocolError(f"a block of {len(raw)} bytes, {length} were declared")
        self._history = _remember(self._history, raw)
        return raw


def _remember(history: bytes, raw: bytes) -> bytes:
    return raw[-HISTORY:] if len(raw) >= HISTORY else history[len(raw) - HISTORY :] + raw
