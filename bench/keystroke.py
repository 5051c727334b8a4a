"""One measurement: a keystroke every 50 ms beside a download, through one tunnel across one link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench import machine
from bench.figures import percentile
from bench.tunnels import Course, Tunnel

MB = 1_000_000
SECONDS = 22.0


@dataclass(frozen=True, slots=True)
class Typed:
    """What was measured.

    `down` and `up` are MB/s of the payload that arrived, `keys` the times of the keystrokes, there and
    back, in ms. `silence` is the longest time without a byte of the download, in seconds. `near` and `far`
    are the CPU seconds of the two ends for each GB that either of them carried, and `acks` the packets of
    less than 200 bytes that entered the link each second, down and up.
    """

    down: float
    up: float
    keys: tuple[float, ...]
    silence: float
    near: float
    far: float
    acks: tuple[float, float]

    @property
    def p50(self) -> float:
        """Milliseconds that half of the keystrokes do not exceed."""
        return percentile(self.keys, 0.5)

    @property
    def p95(self) -> float:
        """The same for 95 percent."""
        return percentile(self.keys, 0.95)

    @property
    def worst(self) -> float:
        """The slowest keystroke, in ms."""
        return max(self.keys)

    def __str__(self) -> str:
        up = f" down, {self.up:.3g} up" if self.up else ""
        return (
            f"{self.down:.3g}{up} MB/s · {self.p50:.0f}/{self.p95:.0f}/{self.worst:.0f} ms · "
            f"longest gap {self.silence:.2f} s · {self.far:.1f}/{self.near:.1f} CPU s per GB"
        )


async def typed(
    across: Course, tunnel: Tunnel, seconds: float = SECONDS, down: int = 1, up: int = 0
) -> Typed:
    """Type beside `down` downloads and `up` uploads for `seconds`. Traces of the link begin again."""
    network = across.network
    network.begin_traces()
    before, used = network.counts(), _used(tunnel)
    result: dict[str, Any] = await across.work(
        "typing", way=[tunnel.forward, None], seconds=seconds, down=down, up=up
    )
    after, near, far = network.counts(), *(now - then for now, then in zip(_used(tunnel), used, strict=True))
    got = [sum(result[way]) for way in ("down", "up")]
    gigabytes = max(sum(got), 1) / 1e9
    return Typed(
        down=got[0] / seconds / MB,
        up=got[1] / seconds / MB,
        keys=tuple(1000 * time for time in result["times"]),
        silence=result["silence"],
        near=near / gigabytes,
        far=far / gigabytes,
        acks=(
            (after.down["small"] - before.down["small"]) / seconds,
            (after.up["small"] - before.up["small"]) / seconds,
        ),
    )


def _used(tunnel: Tunnel) -> list[float]:
    """CPU seconds of the near and the far end so far."""
    return [machine.family_seconds(pid) for pid in tunnel.processes]
