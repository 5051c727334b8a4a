"""One measurement on one link, for those who change the program: `python -m bench.once LINK…`.

A keystroke every 50 ms beside a download. Prints a line for each run:

    LINK  MB/s · p50/p95/max ms of a keystroke · longest time without a byte · CPU s per GB far/near

The far end is the sender. Measured is the checkout in which this module is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from bench.emulator import Emulator
from bench.keystrokes import SECONDS, typed
from bench.links import LINKS, Link, parse
from bench.rivals import rivals
from bench.tunnels import course, toxproxy
from toxproxy.errors import ToxproxyError

_CHECKOUT = Path(__file__).parents[1]


async def measure(options: argparse.Namespace, link: Link) -> None:
    """Measure as the command line says, and print."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    crossings = {"toxproxy": toxproxy} | {rival.name: rival.cross for rival in rivals() if not rival.missing}
    if options.tunnel not in crossings:
        raise ToxproxyError(f"expected one of {', '.join(crossings)}, found {options.tunnel}")
    with Emulator() as emulator, tempfile.TemporaryDirectory(prefix="toxproxy-once-") as folder:
        for number in range(options.runs):
            place = Path(folder) / str(number)
            place.mkdir()
            with emulator.network(link, options.seed + number) as network:
                network.use("bbr")
                async with course(network, place) as across, crossings[options.tunnel](across) as tunnel:
                    result = await typed(
                        across,
                        tunnel,
                        options.seconds,
                        down=1,
                        up=options.up,
                        trace_at=options.trace_at,
                        patience=options.patience,
                    )
                    print(f"{link.name:<8} {result}", flush=True)
                if options.counts:
                    print(network.end(), flush=True)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.once", description="Measure a keystroke beside a download on one link."
    )
    parser.add_argument(
        "link", nargs="+", help=f"{', '.join(LINKS)}; or [down:|up:]KEY=VALUE…; or a name and what differs"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run; default %(default)g")
    parser.add_argument("--runs", type=int, default=1, help="each on a new network; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the link's losses in the first run")
    parser.add_argument("--tunnel", default="toxproxy", help="or a rival: 'ssh (bbr)', …")
    parser.add_argument("--up", type=int, default=0, help="also so many uploads; default none")
    parser.add_argument(
        "--trace-at", type=float, default=0.0, help="second of the link's traces at which the download begins"
    )
    parser.add_argument("--patience", action="store_true", help="the next key waits for the last one's echo")
    parser.add_argument("--counts", action="store_true", help="also what the link carried, lost and dropped")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(_CHECKOUT)  # for the processes of the tunnel
    try:
        asyncio.run(measure(options, parse(options.link)))
    except (ToxproxyError, ValueError) as error:
        sys.exit(f"bench: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


if __name__ == "__main__":
    main()
