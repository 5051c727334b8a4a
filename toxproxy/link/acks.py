"""Acknowledgements, said twice where that is cheap.

ENet acknowledges every command by itself, once. Where that datagram is lost, the command is sent
again for nothing: as many of them as there are losses on the way back. So a datagram of few
acknowledgements says the last ones again. Many at a time come where packets do faster than they
are handled; there, ENet's search for commands that are acknowledged already would cost too much.
"""

from __future__ import annotations

_HEADER = 2  # bytes; ENET_PROTOCOL_HEADER_FLAG_SENT_TIME would make it four, and say that there is more
_FLAGS = 0xC0
_ACKNOWLEDGE = 1
_ACK = 8  # bytes of ENetProtocolAcknowledge
_FEW, _AGAIN = 4, 8  # acknowledgements
_FRESH = 0.005  # seconds; every acknowledgement is a measure of the round trip to ENet


class Repeater:
    """Repeats the acknowledgements of one link."""

    def __init__(self) -> None:
        self._last = b""
        self._at = 0.0

    def repeat(self, datagram: memoryview, length: int, now: float) -> int:
        """The new length of an outgoing datagram, of which `length` bytes are in a larger buffer."""
        if datagram[0] & _FLAGS or datagram[_HEADER] != _ACKNOWLEDGE or length > _HEADER + _FEW * _ACK:
            return length
        said = bytes(datagram[_HEADER:length])
        again = self._last if now - self._at <= _FRESH else b""
        end = length + len(again)
        datagram[length:end] = again
        self._last = (said + again)[: _AGAIN * _ACK]
        self._at = now
        return end
