"""What fills packets, and takes their contents at the other end: the multiplexer."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Frames of at most `room` bytes for each packet; see `Recovery`."""

    @property
    def wants_to_send(self) -> bool:
        """Whether `fill` would return anything."""
        ...

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> object | None:
        """Append frames of at most `room` bytes in all, for one packet. Returns what they are, or None.

        What would not be sent again is left out: a packet of such frames alone has empty contents.
        """
        ...

    def delivered(self, contents: object) -> None:
        """The packet with these contents has arrived."""
        ...

    def lost(self, contents: object) -> None:
        """The packet was lost, or is to be sent again to be sure. Send again what still matters."""
        ...

    def receive(self, packet: bytes, start: int) -> bool:
        """Handle the frames from `start` to the end of a packet that came, once or more than once.

        False if they cannot be stored now; then the packet is not acknowledged. Raises
        `RemoteProtocolError`.
        """
        ...
