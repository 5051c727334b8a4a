"""A client and a server, each behind a NAT.

    python -m faults.nats [PAIR…] [--runs N] [--seconds S]    pairs of kinds, such as cone-symmetric
    python -m faults.nats ladder         one download: relay, direct, no UDP, a new address, another relay
    python -m faults.nats relay-rate     through a TCP relay, beside ssh over the same two connections

Each run makes an internet of network namespaces: Tox nodes with public addresses, and two homes, each
behind a router of its kind. It needs root, `ip`, `nft` and `tox-bootstrapd`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import ExitStack

from bench.emulator import Emulator
from bench.links import CLEAN, Link, parse
from faults.nats import matrix
from faults.nats.kinds import KINDS
from faults.nats.ladder import climb
from faults.nats.pair import Setting
from faults.nats.relays import compare
from toxproxy.errors import ToxproxyError


async def _matrix(options: argparse.Namespace, emulator: Emulator | None) -> bool:
    """Measure the pairs. True if all bounds were kept."""
    failed = []
    print(matrix.header(), flush=True)
    for pair in options.what or matrix.PAIRS:
        results = []
        for number in range(options.runs):
            client, server = matrix.pair_of(pair)
            setting = Setting(client, server, options.nodes, options.link, options.seed + number)
            results.append(await matrix.measure(setting, emulator, options.seconds))
            print(matrix.row(str(setting), results[-1]), flush=True)
        if options.runs > 1:
            print(matrix.row(f"{setting}, median", matrix.middle(results)), flush=True)
        failed += matrix.faults(setting, results)
    print(*failed or ["All bounds were kept."], sep="\n", flush=True)
    return not failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults.nats",
        description="Measure a client and a server that are each behind a NAT.",
        epilog="kinds: " + "; ".join(f"{name}: {kind.text}" for name, kind in KINDS.items()),
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="PAIR",
        help="CLIENT-SERVER, kinds of NAT; or ladder, or relay-rate; default: many pairs",
    )
    parser.add_argument("--runs", type=int, default=3, help="of each pair; default %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=matrix.LATER,
        help="to the second look at the path; default %(default)g",
    )
    parser.add_argument("--nodes", type=int, default=12, help="of the Tox network; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; default %(default)s")
    parser.add_argument(
        "--link", type=parse_link, default=CLEAN, help="of either home: wan, or delay=25,rate=20"
    )
    parser.add_argument("--control", default="cubic", help="TCP congestion control of relay-rate; or bbr")
    parser.add_argument("--own", action="store_true", help="the relay of relay-rate is a toxproxy")
    options = parser.parse_args()
    if options.what not in (["ladder"], ["relay-rate"]):
        try:
            for pair in options.what:
                matrix.pair_of(pair)
        except ValueError as error:
            parser.error(str(error))
    return options


def parse_link(text: str) -> Link:
    """A link from one word. Raises `ValueError`."""
    return parse([text])


async def main() -> bool:
    """Do what the command line says."""
    options = _options()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with ExitStack() as stack:
        match options.what:
            case ["ladder"]:
                return await climb(stack.enter_context(Emulator()), options.nodes, options.seed)
            case ["relay-rate"]:
                emulator = stack.enter_context(Emulator())
                for number in range(options.runs):
                    seed = options.seed + number
                    await compare(emulator, options.seconds, options.control, own=options.own, seed=seed)
                return True
            case _:
                linked = options.link is not CLEAN
                return await _matrix(options, stack.enter_context(Emulator()) if linked else None)


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(main()) else 1)
    except ToxproxyError as error:
        sys.exit(f"faults: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
