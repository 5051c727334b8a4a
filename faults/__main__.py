"""`python -m faults`: carry out a plan and judge the result. Needs root, `ip` and a C compiler."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.emulator import Emulator
from faults.plan import Plan, Shape
from faults.report import Findings, render
from faults.run import LINK, run
from toxproxy.errors import ToxproxyError

_FULL = (3000, 15.0)  # streams, minutes
_QUICK = (300, 1.0)
_RATE = 1_500_000  # bytes per second that the streams ask for: few enough for a link that is cut often
_MOST_SEED = 1 << 32


def main() -> None:
    """Run the suite. The exit status is 1 if anything went wrong."""
    options = _options()
    command = (
        f"python -m faults --seed {options.seed} --streams {options.streams} --minutes {options.minutes:g}"
    )
    command += " --quick" if options.quick else ""
    folder = Path(tempfile.mkdtemp(prefix="toxproxy-faults-"))
    print(f"{command}\n{LINK}; logs in {folder}", flush=True)
    status = 130
    try:
        status = 0 if asyncio.run(_carry_out(options, folder, command)) else 1
    except* ToxproxyError as errors:
        status = 1
        print("\n".join(f"faults: {error}" for error in _leaves(errors)), file=sys.stderr)
    except* (KeyboardInterrupt, asyncio.CancelledError):
        pass
    if status == 1 and any(folder.iterdir()):
        print(f"The logs are in {folder}.")
    else:
        shutil.rmtree(folder)
    sys.exit(status)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description="Send streams through a tunnel whose link has every fault and is cut again and again.",
    )
    parser.add_argument("--seed", type=int, help="what the plan is made from; default: a random one")
    parser.add_argument("--streams", type=int, help=f"their number; default {_FULL[0]}, quick {_QUICK[0]}")
    parser.add_argument("--minutes", type=float, help=f"at most; default {_FULL[1]:g}, quick {_QUICK[1]:g}")
    parser.add_argument("--quick", action="store_true", help="fewer streams, less time, shorter cuts")
    options = parser.parse_args()
    streams, minutes = _QUICK if options.quick else _FULL
    options.seed = secrets.randbelow(_MOST_SEED) if options.seed is None else options.seed
    options.streams = options.streams or streams
    options.minutes = options.minutes or minutes
    if options.streams < 2 or options.minutes <= 0:
        parser.error("expected at least 2 streams and more than 0 minutes")
    return options


def _shape(options: argparse.Namespace) -> Shape:
    total = round(options.minutes * 60 * _RATE)
    if options.quick:
        return Shape(
            streams=options.streams, warm=options.streams // 2, at_once=50, total=total,
            stall=2, peace=(0.5, 3), cut=(0.5, 5), patience=30,
        )  # fmt: skip
    return Shape(
        streams=options.streams, warm=options.streams // 2, at_once=300, total=total,
        stall=10, peace=(3, 25), cut=(0.5, 20), patience=150,
    )  # fmt: skip


async def _carry_out(options: argparse.Namespace, folder: Path, command: str) -> bool:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    began = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)

    with Emulator() as emulator:
        plan = Plan.make(options.seed, _shape(options))
        findings: Findings = await run(plan, emulator, folder, say, options.minutes * 60)
    print(render(findings, command), flush=True)
    return findings.good


def _leaves(errors: BaseExceptionGroup[ToxproxyError]) -> list[BaseException]:
    """All errors in a group, at any depth."""
    found: list[BaseException] = []
    for error in errors.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()
