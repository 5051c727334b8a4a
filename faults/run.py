"""A run: a tunnel across an emulated link that is cut while the streams run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from bench import machine
from bench.emulator import Emulator, Network
from bench.links import Direction, Link
from bench.program import Program, python, running
from faults.ledger import Account
from faults.plan import Cut, Plan, Side, Way
from faults.report import Findings
from faults.usage import Usage, usage
from toxproxy.demo.network import PrivateNetwork, Process

LINK = Link.alike(
    "faults",
    Direction(delay=25, loss=5, rate=100, queue=600, duplication=2, reordering=5, corruption=0.5),
)

_LOOPBACK = "127.0.0.1"
_SERVER = "[access]\npermit = {target}\n"
_CLIENT = "[tox]\nwait = 300\n[client]\nforward = 0:{target}:TOXID\n[socks]\nsocks = 0:TOXID\n"
_MEETING = 300.0  # seconds: Tox is slow to connect if its first packets are lost
_SETTLE = 60.0  # seconds within which the last streams end and release what they hold
_TRIM = 8.0  # seconds after the last stream within which memory goes back to the system
_LOOK = 0.5  # seconds between two looks at the processes
_TELL = 5.0  # seconds between two lines of progress


async def run(
    plan: Plan, emulator: Emulator, folder: Path, say: Callable[[str], None], seconds: float
) -> Findings:
    """Carry out a plan. The streams must end within `seconds`.

    `folder` gets the logs, `say` the progress. Raises `ToxproxyError`, alone or in a group, if the plan
    cannot be carried out.
    """
    findings = Findings(plan)
    machine.see_processes()
    with emulator.network(LINK, plan.seed) as network:
        async with AsyncExitStack() as stack:
            command = python("faults.far", plan.to_json())
            far = await stack.enter_async_context(running(network.far, folder, "far", *command))
            target = f"{_LOOPBACK}:{int(await far.line())}"
            tunnel = PrivateNetwork(
                folder,
                server=_SERVER.format(target=target),
                client=_CLIENT.format(target=target),
                places=(network.far, network.near),
            )
            await stack.enter_async_context(tunnel)
            say("waiting until the two ends have connected")
            await tunnel.connected(_MEETING)
            await _Run(findings, network, tunnel, folder, say).play(far, target, seconds)
        findings.traffic = network.end()
    for process in (tunnel.client, tunnel.server):
        findings.trouble += complaints(process)
    return findings


class _Run:
    """The part of a run in which the tunnel is up."""

    def __init__(
        self,
        findings: Findings,
        network: Network,
        tunnel: PrivateNetwork,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._findings = findings
        self._plan = findings.plan
        self._network = network
        self._tunnel = tunnel
        self._folder = folder
        self._say = say
        self._heard = asyncio.Event()  # set when an account comes

    async def play(self, far: Program, target: str, seconds: float) -> None:
        """Run all streams, in two rounds, and measure the processes after each round."""
        async with asyncio.TaskGroup() as group:
            company = [group.create_task(self._hear(far)), group.create_task(self._tell())]
            idle, began = self._usages(), time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    await self._round(0, target)
                    before = await self._settled(idle)
                    await self._round(1, target)
            except TimeoutError:
                self._findings.trouble.append(f"the streams had not ended within {seconds:g} s")
            else:
                after = await self._settled(idle)
                for name, now in after.items():
                    self._findings.usage[name] = before[name], now
                    self._findings.trouble += [f"the {name} has {what}" for what in now.excess(before[name])]
            self._findings.seconds = time.monotonic() - began
            for task in company:
                task.cancel()

    async def _round(self, turn: int, target: str) -> None:
        """Run the streams of a round while the path is cut again and again."""
        streams = self._plan.rounds()[turn]
        host, _, port = target.rpartition(":")
        arguments = {
            "plan": self._plan.to_json(),
            "first": streams[0].number,
            "beyond": streams[-1].number + 1,
            "ports": {way.value: self._tunnel.listener(way.value) for way in Way},
            "target": [host, int(port)],
        }
        command = python("faults.near", json.dumps(arguments))
        async with running(self._network.near, self._folder, "near", *command) as near:
            cutting = asyncio.create_task(self._cut(self._plan.cuts(turn)))
            try:
                for _ in streams:
                    self._note(await near.result())
            finally:
                cutting.cancel()
                with suppress(asyncio.CancelledError):
                    await cutting
        with suppress(TimeoutError):  # a missing account is a problem of its stream in the report
            async with asyncio.timeout(_SETTLE):
                while not self._findings.ledger.complete(streams):
                    self._heard.clear()
                    await self._heard.wait()

    async def _cut(self, cuts: Iterator[Cut]) -> None:
        try:
            for cut in cuts:
                await asyncio.sleep(cut.peace)
                self._network.cut()
                self._findings.cuts.append(cut.seconds)
                await asyncio.sleep(cut.seconds)
                self._network.mend()
        finally:
            self._network.mend()

    async def _hear(self, far: Program) -> None:
        while True:
            self._note(await far.result())

    def _note(self, account: dict[str, object]) -> None:
        self._findings.ledger.note(Account.from_json(account))
        self._heard.set()

    async def _settled(self, idle: dict[str, Usage]) -> dict[str, Usage]:
        """The usage of the processes once they have released what they hold, or after `_SETTLE`."""
        for _ in range(round(_SETTLE / _LOOK)):
            await asyncio.sleep(_LOOK)
            now = self._usages()
            if all(now[name].at_rest(idle[name]) for name in now):
                await asyncio.sleep(_TRIM)
                return self._usages()
        return now

    def _usages(self) -> dict[str, Usage]:
        processes = (self._tunnel.client, self._tunnel.server)
        return {process.name: usage(process.name, process.pid) for process in processes}

    async def _tell(self) -> None:
        """Report the progress. Raises `ProcessEnded` as soon as a process has ended."""
        while True:
            await asyncio.sleep(_TELL)
            ledger, count = self._findings.ledger, len(self._plan.streams)
            held = ", ".join(
                f"{name} {now.memory / 1e6:.0f} MB and {now.connections} connections"
                for name, now in self._usages().items()
            )
            self._say(
                f"{ledger.count(Side.NEAR)} of {count} streams done, {ledger.bytes / 1e6:.0f} MB, "
                f"{len(self._findings.cuts)} cuts; {held}"
            )


def complaints(process: Process) -> list[str]:
    """The warnings and errors in the log of a process, each once."""
    found: dict[str, None] = {}
    for line in process.log.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # not JSON: written by the interpreter itself
            found[f"the {process.name} wrote: {line}"] = None
            continue
        if record["level"] not in ("DEBUG", "INFO"):
            found[f"the {process.name} wrote: {record['level'].lower()}: {record['message']}"] = None
    return list(found)
