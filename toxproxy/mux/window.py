"""Flow control of one direction of a stream, at the receiver.

Offsets count the bytes of the direction from its start; its end (FIN) takes one more. Credit
is given for what the application consumed, not for what arrived, so a reader that stops costs
one window and stops its own writer only. (The idea is QUIC's, RFC 9000 section 4.1.)
"""

from __future__ import annotations

from toxproxy.errors import LocalProtocolError, RemoteProtocolError


class ReceiveWindow:
    """Counts what came and what was consumed, and says when the peer is due more credit.

    `limit` never falls. `size` is how far it should stay ahead of what was consumed, in bytes.
    """

    __slots__ = ("consumed", "limit", "received", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = size
        self.received = 0
        self.consumed = 0

    def widen(self, size: int) -> None:
        """Let the window be at least `size` bytes; takes effect with the next credit."""
        self.size = max(self.size, size)

    def receive(self, offset: int, length: int) -> None:
        """Take `length` bytes that start at `offset`.

        Raises `RemoteProtocolError` for a gap, a repetition or an overrun of the credit given.
        """
        if offset != self.received:
            raise RemoteProtocolError(f"stream data at offset {offset}, expected {self.received}")
        if offset + length > self.limit:
            raise RemoteProtocolError(f"stream data up to {offset + length}, credit was {self.limit}")
        self.received += length

    def consume(self, length: int) -> None:
        """The application took `length` more bytes. Raises `LocalProtocolError` beyond what came."""
        if self.consumed + length > self.received:
            raise LocalProtocolError("more consumed than was received")
        self.consumed += length

    @property
    def due(self) -> bool:
        """Whether a quarter of the window or more could be given back."""
        return 4 * (self.consumed + self.size - self.limit) >= self.size

    def grant(self) -> int:
        """Move the limit ahead and return it."""
        self.limit = max(self.limit, self.consumed + self.size)
        return self.limit
