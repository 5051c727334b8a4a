"""What a number of friends costs libtoxcore itself, without toxproxy: `python -m bench.friends COUNT`.

One node has COUNT friends. Either they are all on the network, as nodes of another process, or all absent:
keys that nobody has. Everything is in a network namespace of its own (as root), where packets are counted.

Printed is a line: when all were there, memory for each, the processor time of a node that is called for each
packet and at libtoxcore's interval, what a call takes (most, and the longest of each second: then the DHT
and the onion do their work), packets, and what is saved.
"""

from __future__ import annotations

import argparse
import json
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

_OTHERS = 16  # nodes beside the friends: paths through the network need some
_ROUND = 0.1  # seconds between two calls of each friend's node
_PATIENCE = 150.0  # seconds until the last friend must be there
_SETTLE, _MEASURE, _CALLS = 10.0, 15.0, 5.0  # seconds
_OPTIONS = ToxOptions(local_discovery_enabled=False, start_port=22000, end_port=32000)
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


def crowd(count: int, port: int, key: str, public_key: str) -> None:
    """Be `count` nodes with one friend, and the others without. Print the public keys, run until killed."""
    nodes = [Tox(_OPTIONS) for _ in range(count + _OTHERS)]
    for each in nodes:
        each.bootstrap("127.0.0.1", port, key)
    for each in nodes[:count]:
        each.friend_add_norequest(public_key)
    print(json.dumps([each.self_get_public_key() for each in nodes[:count]]), flush=True)
    while True:
        due = time.monotonic() + _ROUND
        for each in nodes:
            each.iterate()
        time.sleep(max(0.0, due - time.monotonic()))


class Measured(Tox):
    """The node with the friends. It counts those that are there."""

    def __init__(self) -> None:
        super().__init__(_OPTIONS)
        self.there: set[int] = set()
        found = find_udp_socket(self.self_get_udp_port())
        assert found is not None
        self._socket = found

    def on_friend_connection_status(self, friend_number: int, status: int) -> None:
        (self.there.add if status else self.there.discard)(friend_number)

    def run(self, seconds: float, enough: int | None = None) -> float:
        """Run as toxproxy does, until `enough` friends are there. Returns how many seconds that took."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and len(self.there) != enough:
            select.select([self._socket], [], [], self.iteration_interval() / 1000)
            self.iterate()
        return passed

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
    said = subprocess.run(
        ["nft", "list", "table", "inet", "count"], capture_output=True, text=True, check=True
    )
    return [int(number) for number in re.findall(r"packets (\d+)", said.stdout)]


def _other_keys(count: int) -> list[str]:
    """Public keys that nobody uses. libtoxcore refuses those with the top bit set."""
    return [(os.urandom(31) + bytes([os.urandom(1)[0] & 0x7F])).hex() for _ in range(count)]


def measure(count: int, absent: bool) -> None:
    """Be the node, and print what it costs."""
    forbid_memory_locking()
    node = Measured()
    port = node.self_get_udp_port()
    subprocess.run(["nft", "-f", "-"], input=_RULES.format(port), text=True, check=True)
    known = (str(port), node.self_get_dht_id(), node.self_get_public_key())
    nodes = (sys.executable, "-m", "bench.friends", "0" if absent else str(count), "--crowd", *known)
    with subprocess.Popen(nodes, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            assert crowd.stdout is not None
            keys = json.loads(crowd.stdout.readline())
            node.run(5.0)
            memory = machine.memory(os.getpid())
            began = time.perf_counter()
            for key in _other_keys(count) if absent else keys:
                node.friend_add_norequest(key)
            added = time.perf_counter() - began
            took = node.run(20.0 if absent else _PATIENCE, count)
            node.run(_SETTLE)
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
    there = "absent" if absent else f"{len(node.there)} there after {took:.1f} s"
    grown = (machine.memory(os.getpid()) - memory) / max(1, count) / 1000
    print(
        f"{count:>6} friends, {there}: added in {added:.2f} s, {grown:.1f} kB each, {share:.2f} % of a core, "
        f"a call {usual:.0f} µs, the longest of a second {longest:.0f} µs, {came:.0f} packets/s came, "
        f"{left:.0f} left, {saved / 1000:.0f} kB saved in {1000 * saving:.1f} ms"
    )


def main() -> None:
    """Measure, in a network namespace that ends with this process."""
    parser = argparse.ArgumentParser(prog="python -m bench.friends", description="Measure friends of a node.")
    parser.add_argument("count", type=int)
    parser.add_argument("--absent", action="store_true", help="none of them is on the network")
    parser.add_argument("--crowd", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        port, key, public_key = options.crowd
        crowd(options.count, int(port), key, public_key)
    elif options.inside:
        measure(options.count, options.absent)
    else:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        inside = [sys.executable, "-m", "bench.friends", *sys.argv[1:], "--inside"]
        script = 'ip link set lo up && exec "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", script, "sh", *inside])


if __name__ == "__main__":
    main()
