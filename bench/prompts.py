"""How long ssh takes to its first output: by itself, and by `toxproxy connect` with a client that runs."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.figures import Bound, Figure
from bench.links import FAR, Link
from bench.program import ProgramFailed
from bench.rivals.ssh import daemon, user_at
from bench.run import Outcome, Row, Run
from bench.tunnels import Course
from toxproxy.demo.network import PrivateNetwork

_PORT = 2220
_TIMES = 10  # of each, in a repetition
_MORE = 0.3  # seconds that a prompt may take more than ssh alone, beside a round trip


async def _prompt(across: Course, command: tuple[str, ...]) -> float:
    """Seconds from the start of ssh to the first byte of the shell at the far end. Raises `ProgramFailed`."""
    began = time.perf_counter()
    ssh = await asyncio.create_subprocess_exec(
        *across.network.near.command, *command, "echo ready", stdout=subprocess.PIPE
    )
    assert ssh.stdout is not None
    said = await ssh.stdout.readline()
    took = time.perf_counter() - began
    if await ssh.wait() or said != b"ready\n":
        raise ProgramFailed(f"ssh ended with {ssh.returncode}")
    return took


async def _measure(run: Run, link: Link) -> Outcome:
    alone: list[float] = []
    through: list[float] = []
    async for number in run.times():
        async with run.course(link, seed=number) as across, daemon(across, "prompts", _PORT) as (_, ssh):
            far = across.network.far.address
            network = PrivateNetwork(
                across.folder,
                server=f"[access]\npermit = {far}:{_PORT}\n",
                client="[socks]\nproxy = 0:TOXID\n",
                places=(across.network.far, across.network.near),
            )
            async with network:
                await network.connected()
                toxproxy = str(Path(sys.executable).with_name("toxproxy"))
                words = (toxproxy, "connect", "--state", str(across.folder / "client.state"), far, str(_PORT))
                ways = ((*ssh,), (*ssh, "-o", f"ProxyCommand {shlex.join(words)}"))
                for _ in range(run.size(_TIMES)):
                    for way, times in zip(ways, (alone, through), strict=True):
                        times.append(await _prompt(across, (*way, user_at(far))))
    trip = (link.down.delay + link.up.delay) / 1000
    more = tuple(1000 * (ours - median(alone)) for ours in through)
    return Outcome(
        [
            Figure("ssh, until its first output", "ms", tuple(1000 * each for each in alone)),
            Figure("by `toxproxy connect`", "ms", tuple(1000 * each for each in through)),
            Figure("more than ssh alone", "ms", more, Bound(1000 * (trip + _MORE), at_most=True)),
        ]
    )


ROWS = (
    Row(
        "prompt",
        "ssh's first output, by itself and by `toxproxy connect`",
        FAR,
        lambda run: _measure(run, FAR),
    ),
)
