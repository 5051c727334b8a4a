"""How long a connection may be silent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may be silent, in seconds; 0 is for ever.

    `idle`: without a byte in either direction. `half_closed`: the same once one direction has
    ended, as when a program is gone and the one at the other end never notices. What was waited
    for that long is reset, since FIN would claim that the data is complete.
    """

    idle: float = 0.0
    half_closed: float = 3600.0
