"""A download and a keystroke over one session, for tests of congestion control."""

from __future__ import annotations

import math

from tests.recovery.path import Path
from tests.recovery.tunnel import Tunnel
from tests.recovery.world import World


class Download:
    """A download and keystrokes, from time 0."""

    def __init__(self, world: World, late: float = 0.0, begin: float = 0.0) -> None:
        self.near, self.far = Tunnel(0, begin, begin + 0.2), Tunnel(math.inf, begin)
        self.host, _ = world.join(self.near, self.far, begin, late)
        self.controller = self.far.recovery.controller

    @property
    def lost(self) -> float:
        return self.far.load.packets_lost / self.far.sent_packets


def alone(on: Path, until: float, seed: int = 1, late: float = 0.0) -> Download:
    world = World(on, seed)
    download = Download(world, late)
    world.run(until)
    return download
