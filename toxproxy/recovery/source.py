"""What fills packets: the multiplexer's scheduler."""

from __future__ import annotations

from typing import Any, Protocol


class Source(Protocol):
    """Frames of at most `room` bytes for each packet; see `Recovery`."""

    @property
    def wants_to_send(self) -> bool:
        """Whether `fill` would return anything."""
        ...

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> Any | None:
        """Append frames of at most `room` bytes in all, for one packet. Returns what they are, or None.

        What would not be sent again is left out: a packet of such frames alone has empty contents.
        """
        ...

    def delivered(self, contents: Any) -> None:
        """The packet with these contents has arrived."""
        ...

    def lost(self, contents: Any) -> None:
        """The packet was lost, or is to be sent again to be sure. Send again what still matters."""
        ...
