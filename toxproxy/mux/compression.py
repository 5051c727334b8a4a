"""LZ4 for one direction of a stream: blocks that may refer back to the blocks before them.

A `Sender` may have a `Compressor`, and the peer's `Receiver` a `Decompressor`. Both keep the last `HISTORY`
bytes that PACKED frames carried, so a direction that does not compress costs no memory. Blocks are in the
LZ4 block format, without a size in front.
"""

from __future__ import annotations

from lz4.block import LZ4BlockError, compress, decompress

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux.frames import DATA_HEADER, MAX_RAW, PACKED_HEADER
from toxproxy.recovery.sent import PACKET_SIZE

# Bytes. 64 KiB would save 2 to 7 % of logs, JSON and source code, for more than twice the time.
HISTORY = 16 * 1024

# Bytes of a PACKED frame, which is sent again as a whole. So it must fit into a packet behind the header
# (4 bytes), INTRODUCTION (16) and the longest ACK (269).
MAX_PACKED = PACKET_SIZE - 4 - 16 - 269

_OVERHEAD = PACKED_HEADER - DATA_HEADER
_MOST = MAX_PACKED - DATA_HEADER  # bytes of payload of a DATA frame as long as the longest PACKED frame
_LEAST = 32  # bytes; fewer are not worth a try …
_LEAST_ALONE = 200  # … and without a history
_MISSES = 3  # blocks in a row that did not shrink, after which compression pauses
_SHORTEST_REST = 64 * 1024  # bytes that pass during the first pause; each next one is twice as long
_LONGEST_REST = 4 * 1024 * 1024


class Compressor:
    """Compresses a sender's bytes where that pays: a block must be a tenth smaller.

    After `_MISSES` in a row it pauses. Each further miss doubles the pause, up to `_LONGEST_REST`.
    """

    def __init__(self) -> None:
        self._history = b""
        self._ratio = 1.0  # how many times smaller the last block became, less a margin
        self._misses = 0  # in a row
        self._rest = _SHORTEST_REST  # bytes of the next pause
        self._untried = 0  # bytes that are left of the current pause

    def pack(self, waiting: bytes | bytearray, most: int, size: int) -> tuple[int, bytes] | None:
        """Compress the first of `waiting` bytes, at most `most`; returns how many, and the block.

        The PACKED frame is no longer than a DATA frame with `size` bytes of payload, and than `MAX_PACKED`.
        None means: send a DATA frame. During a pause its bytes, as many as fit, count.
        """
        if self._untried > 0:
            self._untried -= size if size < most else most
            return None
        if min(most, size) < (_LEAST if self._history else _LEAST_ALONE):
            return None
        size = min(size, _MOST)
        raw = bytes(waiting[: min(most, MAX_RAW, int(size * self._ratio))])
        while True:
            block: bytes = compress(raw, mode="fast", store_size=False, dict=self._history)
            packed = len(block) + _OVERHEAD
            if 10 * packed > 9 * len(raw):
                self._ratio = 1.0
                self._misses += 1
                if self._misses >= _MISSES:
                    self._untried = self._rest
                    self._rest = min(2 * self._rest, _LONGEST_REST)
                return None
            if packed <= size:
                break
            raw = raw[:size]  # it shrank less than the last block; `size` bytes fit if they shrink at all
        self._history = _remember(self._history, raw)
        self._ratio = max(1.0, 0.9 * len(raw) / packed)  # with room for a block that shrinks a little less
        self._misses = 0
        self._rest = _SHORTEST_REST
        return len(raw), block


class Decompressor:
    """Reads the blocks of one direction, in the order in which they were made."""

    def __init__(self) -> None:
        self._history = b""

    def unpack(self, block: bytes, length: int) -> bytes:
        """Exactly `length` bytes; no more are allocated. Raises `RemoteProtocolError` for any other block."""
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
