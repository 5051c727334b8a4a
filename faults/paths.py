"""Downloads across random paths: `python -m faults.paths`. Needs root, `ip` and a C compiler.

Each path has a server and a client of its own. A download must arrive whole, and must never be silent for
long; bytes are typed beside it. The next paths are prepared while one is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.emulator import Emulator, Network
from bench.program import python, running
from faults.trials import Outcome, Trial, line, summary, trials
from toxproxy.demo.network import PrivateNetwork
from toxproxy.errors import ToxproxyError

_PATHS = 100
_PREPARED = 4  # paths whose ends are looking for each other meanwhile
_MEETING = 180.0  # seconds: Tox is slow to connect if its first packets are lost
_HOST = "127.0.0.1"
_MOST_SEED = 1 << 32

_SERVER = "[access]\npermit = {host}:{content}, {host}:{echo}\n"
_CLIENT = (
    "[tox]\nwait = 300\n[client]\ncontent = 0:{host}:{content}:TOXID\necho = 0:{host}:{echo}:TOXID\n"
    "[compress]\ncontent = no\n"
)


@asynccontextmanager
async def _tunnel(trial: Trial, network: Network, folder: Path) -> AsyncIterator[PrivateNetwork]:
    """A tunnel with two forwards, `content` and `echo`."""
    serve = python("faults.transfer", "serve", str(trial.size))
    async with (
        running(network.far, folder, "serve", *serve) as content,
        running(network.far, folder, "origin", *python("bench.origin")) as echo,
    ):
        ports = {"host": _HOST, "content": int(await content.line()), "echo": int(await echo.line())}
        tunnel = PrivateNetwork(
            folder,
            server=_SERVER.format(**ports),
            client=_CLIENT.format(**ports),
            places=(network.far, network.near),
        )
        async with tunnel:
            await tunnel.connected(_MEETING)
            yield tunnel


async def attempt(trial: Trial, emulator: Emulator, folder: Path, turn: asyncio.Lock) -> Outcome:
    """Try one path. `turn` is held while it is measured."""
    try:
        with emulator.network(trial.link, trial.number) as network:
            async with _tunnel(trial, network, folder) as tunnel, turn:
                return await _measured(trial, network, tunnel, folder)
    except ToxproxyError as error:
        return Outcome(False, trial.longest, trial.longest, (), str(error))


async def _measured(trial: Trial, network: Network, tunnel: PrivateNetwork, folder: Path) -> Outcome:
    host, port = tunnel.listener("content")
    fetch = python("faults.transfer", "fetch", host, str(port), str(trial.size), str(trial.longest))
    typing = python("bench.load", "keys", json.dumps({"way": [tunnel.listener("echo"), None]}))
    async with (
        running(network.near, folder, "keys", *typing) as keys,
        running(network.near, folder, "fetch", *fetch) as fetching,
    ):
        times: list[float] = []
        said: dict[str, Any] = {}
        while "whole" not in said:
            said = await fetching.result()
            times.append(said["at"])
        keys.end_input()
        typed = (await keys.result())["times"]
    return Outcome(
        whole=said["whole"],
        seconds=times[-1] - times[0],
        silent=max(after - before for before, after in pairwise(times)),
        keys=tuple(typed),
        why=said["why"],
    )


async def run(options: argparse.Namespace, command: str) -> bool:
    """Try all paths and print what came of each. True if nothing was wrong."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    turn, prepared = asyncio.Lock(), asyncio.Semaphore(_PREPARED)
    results: list[tuple[Trial, Outcome]] = []

    async def one(trial: Trial, emulator: Emulator, place: str) -> None:
        async with prepared:
            folder = Path(tempfile.mkdtemp(dir=place))
            results.append((trial, await attempt(trial, emulator, folder, turn)))
            print(line(*results[-1]), flush=True)

    with Emulator() as emulator, tempfile.TemporaryDirectory(prefix="toxproxy-paths-") as place:
        async with asyncio.TaskGroup() as group:
            for trial in trials(options.seed, options.paths):
                if options.only in (0, trial.number):
                    group.create_task(one(trial, emulator, place))
    print(summary(results, command), flush=True)
    return not any(outcome.problems(trial) for trial, outcome in results)


def main() -> None:
    """Try the paths that the command line asks for. The exit status is 1 if anything went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m faults.paths", description="Downloads and keystrokes across random paths."
    )
    parser.add_argument("--paths", type=int, default=_PATHS, help="their number; default %(default)s")
    parser.add_argument("--seed", type=int, help="what they are made from; default: a random one")
    parser.add_argument("--only", type=int, default=0, metavar="NUMBER", help="only the path of this number")
    options = parser.parse_args()
    if options.paths < 1:
        parser.error("expected at least one path")
    options.seed = secrets.randbelow(_MOST_SEED) if options.seed is None else options.seed
    command = f"python -m faults.paths --seed {options.seed} --paths {options.paths}"
    print(command, flush=True)
    status = 130
    try:
        status = 0 if asyncio.run(run(options, command)) else 1
    except ToxproxyError as error:
        sys.exit(f"faults: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    sys.exit(status)


if __name__ == "__main__":
    main()
