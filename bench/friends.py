"""What friends that are absent cost libtoxcore itself, without toxproxy: `python -m bench.friends COUNT`.

One node has COUNT friends with keys that nobody has. Other nodes are there, since paths through the network
need some. Everything is in a network namespace of its own (as root), where the node's packets are counted.

Printed is a line: memory for each friend, the processor time of a node that is called for each packet and at
libtoxcore's interval, what a call takes (most, and the longest of each second: then the DHT and the onion do
their work), packets, and what is saved.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import machine
from toxproxy.system.privileges import forbid_memory_locking
from toxproxy.tox.pytox import Tox, ToxOptions
from toxproxy.tox.startup import find_udp_socket

_OTHERS = 16  # nodes beside the measured one
_ROUND = 0.05  # seconds between two calls of each of them
_JOIN, _MEASURE, _CALLS = 10.0, 15.0, 5.0  # seconds
_OPTIONS = ToxOptions(local_discovery_enabled=False, start_port=22000, end_port=22999)
_RULES = """
table inet count {{
  chain i {{
    type filter hook input priority 0
    udp dport {0} counter
  }}
  chain o {{
    type filter hook output priority 0
    udp sport {0} counter
  }}
}}
"""


def others(port: int, key: str) -> None:
    """Be the other nodes until killed."""
    nodes = [Tox(_OPTIONS) for _ in range(_OTHERS)]
    for each in nodes:
        each.bootstrap("127.0.0.1", port, key)
    while True:
        due = time.monotonic() + _ROUND
        for each in nodes:
            each.iterate()
        time.sleep(max(0.0, due - time.monotonic()))


class Measured(Tox):
    """The node with the friends."""

    def __init__(self) -> None:
        super().__init__(_OPTIONS)
        found = find_udp_socket(self.self_get_udp_port())
        assert found is not None
        self._socket = found

    def run(self, seconds: float) -> None:
        """Run as toxproxy does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            select.select([self._socket], [], [], self.iteration_interval() / 1000)
            self.iterate()

    def calls(self, seconds: float) -> tuple[float, float]:
        """Microseconds of a call that reads few packets: the median, and the longest of each second."""
        times: list[float] = []
        longest: dict[int, float] = {}
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            began = time.perf_counter()
            self.iterate()
            times.append(1e6 * (time.perf_counter() - began))
            longest[int(now)] = max(times[-1], longest.get(int(now), 0.0))
            time.sleep(0.001)
        return statistics.median(times), statistics.median(longest.values())


def _packets() -> list[int]:
    """Datagrams that came and that left so far."""
    command = ["nft", "list", "table", "inet", "count"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(number) for number in re.findall(r"packets (\d+)", said.stdout)]


def _keys(count: int) -> list[str]:
    """Public keys that nobody uses. libtoxcore refuses those with the top bit set."""
    return [(os.urandom(31) + bytes([os.urandom(1)[0] & 0x7F])).hex() for _ in range(count)]


def measure(count: int, settle: float) -> None:
    """Be the node, and print what it costs."""
    forbid_memory_locking()
    node = Measured()
    port = node.self_get_udp_port()
    subprocess.run(["nft", "-f", "-"], input=_RULES.format(port), text=True, check=True)
    nodes = (sys.executable, "-m", "bench.friends", "--others", str(port), node.self_get_dht_id())
    with subprocess.Popen(nodes) as crowd:
        try:
            node.run(_JOIN)
            memory = machine.memory(os.getpid())
            for key in _keys(count):
                node.friend_add_norequest(key)
            node.run(settle)
            used, packets, since = time.process_time(), _packets(), time.monotonic()
            node.run(_MEASURE)
            seconds = time.monotonic() - since
            share = 100 * (time.process_time() - used) / seconds
            came, left = ((b - a) / seconds for a, b in zip(packets, _packets(), strict=True))
            usual, longest = node.calls(_CALLS)
            began = time.perf_counter()
            saved = len(node.get_savedata())
            saving = time.perf_counter() - began
        finally:
            crowd.kill()
    grown = (machine.memory(os.getpid()) - memory) / max(1, count) / 1000
    print(
        f"{count} absent friends for {settle:g} s: {grown:.1f} kB each, {share:.2f} % of a core, "
        f"a call {usual:.0f} µs, the longest of a second {longest / 1000:.1f} ms, {came:.0f} packets/s came, "
        f"{left:.0f} left, {saved / 1000:.0f} kB saved in {1000 * saving:.1f} ms"
    )


def main() -> None:
    """Measure, in a network namespace that ends with this process."""
    parser = argparse.ArgumentParser(prog="python -m bench.friends", description="Measure absent friends.")
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--settle", type=float, default=60, help="seconds before that; default: %(default)g")
    parser.add_argument("--others", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.others:
        others(int(options.others[0]), options.others[1])
    elif options.inside:
        measure(options.count, options.settle)
    else:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        inside = [sys.executable, "-m", "bench.friends", *sys.argv[1:], "--inside"]
        script = 'ip link set lo up && exec "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", script, "sh", *inside])


if __name__ == "__main__":
    main()
