"""Acknowledgements, sent twice where that is cheap.

ENet acknowledges each command once. If that datagram is lost, the peer retransmits a command that
has arrived. So a datagram with few acknowledgements repeats those of the datagrams just before. A
datagram with many is sent when packets arrive faster than they are handled. Nothing is repeated
there, because ENet would spend too much time searching for commands that it has removed already.
"""

from __future__ import annotations

_HEADER = 2  # bytes; four with ENET_PROTOCOL_HEADER_FLAG_SENT_TIME, which datagrams with other commands have
_FLAGS = 0xC0
_ACKNOWLEDGE = 1
_ACK = 8  # bytes of ENetProtocolAcknowledge
_FEW, _AGAIN = 4, 8  # acknowledgements: at most so many of its own, and so many to repeat
_FRESH = 0.005  # seconds; later, the repetition would spoil ENet's measurement of the round trip


class Repeater:
    """Repeats the acknowledgements of one link."""

    def __init__(self) -> None:
        self._last = b""
        self._at = 0.0

    def repeat(self, datagram: memoryview, length: int, now: float) -> int:
        """Append to an outgoing datagram of `length` bytes, in a larger buffer; returns the new length."""
        if datagram[0] & _FLAGS or datagram[_HEADER] != _ACKNOWLEDGE or length > _HEADER + _FEW * _ACK:
            return length
        said = bytes(datagram[_HEADER:length])
        again = self._last if now - self._at <= _FRESH else b""
        end = length + len(again)
        datagram[length:end] = again
        self._last = (said + again)[: _AGAIN * _ACK]
        self._at = now
        return end
