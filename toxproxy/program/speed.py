"""A speed test in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from toxproxy.control.snapshots import PathKind
from toxproxy.control.speeds import DirectionSnapshot, SpeedPhase, SpeedSnapshot
from toxproxy.program.amounts import rate

_WIDTH = 24  # characters of the bar
_LITTLE = 50.0  # ms that a queue may add without a word

_PATHS = {PathKind.DIRECT: "direct", PathKind.RELAY: "through a relay", PathKind.UNKNOWN: "path unknown"}


def bar(shot: SpeedSnapshot) -> str:
    """The progress line."""
    done = round(_WIDTH * min(1.0, shot.progress_share))
    speed = f" {rate(shot.bytes_per_s)}" if shot.bytes_per_s else ""
    return f"{shot.phase.value:<8} [{'#' * done}{'.' * (_WIDTH - done)}]{speed}"


def lines(shot: SpeedSnapshot) -> Iterator[str]:
    """The whole result."""
    idle = shot.idle_rtt_ms
    yield f"Server {shot.peer_key[:12]}, {_PATHS[shot.path]}: {_ms(idle)} without load."
    yield ""
    added = []
    for phase, direction in ((SpeedPhase.DOWNLOAD, shot.download), (SpeedPhase.UPLOAD, shot.upload)):
        if direction is not None:
            yield f"  {phase.value:<8}  {_direction(direction, idle)}"
            if direction.rtt_ms is not None and idle is not None:
                added.append((direction.rtt_ms - idle, phase.value))
    most, which = max(added, default=(0.0, ""))
    if most > _LITTLE:
        yield ""
        yield f"The {which} makes a queue on the line: everything else on it waits {most:.0f} ms longer."


def _direction(direction: DirectionSnapshot, idle: float | None) -> str:
    speed = direction.bytes_per_s
    parts = [f"{rate(speed)} ({8 * speed / 1e6:.1f} Mbit/s)"]
    if direction.loss_share is not None:
        parts.append(f"{100 * direction.loss_share:.1f} % lost")
    if direction.rtt_ms is not None and idle is not None:
        parts.append(f"{_ms(direction.rtt_ms)} under load ({direction.rtt_ms - idle:+.0f} ms)")
    return ", ".join(parts)


def _ms(value: float | None) -> str:
    return "no answer to a ping" if value is None else f"{value:.0f} ms"
