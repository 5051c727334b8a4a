"""What a speed test measures, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from toxproxy.control.snapshots import PathKind


class SpeedPhase(Enum):
    """What a speed test is doing."""

    LATENCY = "latency"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionSnapshot:
    """One direction of a speed test. `moved_bytes` arrived. The rate includes the beginning.

    `loss_share` is of the packets in this direction. `rtt_ms` is the median of the pings meanwhile.
    """

    moved_bytes: int
    bytes_per_s: float
    loss_share: float | None
    rtt_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSnapshot:
    """How far a speed test is. `bytes_per_s` is that of the direction under way.

    `idle_rtt_ms` is the median of pings before the load.
    """

    peer_key: str
    path: PathKind
    phase: SpeedPhase
    progress_share: float
    bytes_per_s: float | None
    idle_rtt_ms: float | None
    download: DirectionSnapshot | None
    upload: DirectionSnapshot | None
