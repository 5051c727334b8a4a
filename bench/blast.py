"""What Tox alone can carry: lossy packets from one process to another, as fast as possible.

Of toxproxy only the binding to libtoxcore is used. Start `python -m bench.blast listen` first; it
prints what `python -m bench.blast send` needs to know. With `--unlocked` either keeps libtoxcore from
locking memory for each packet, as toxproxy does. The sender never waits, so packets that come faster
than the receiver can take them are lost.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from toxproxy.system.privileges import forbid_memory_locking
from toxproxy.tox.pytox import MAX_CUSTOM_PACKET_SIZE, Tox, ToxError, ToxOptions

_PACKET = bytes([200]) + bytes(MAX_CUSTOM_PACKET_SIZE - 1)
_BATCH = 32  # packets sent between two calls of iterate()
_SILENCE = 1.0  # seconds without a packet after which the sender counts as done


class Node(Tox):
    """A node that accepts every friend request and counts the packets that it gets."""

    def __init__(self) -> None:
        options = ToxOptions(local_discovery_enabled=False, start_port=22000, end_port=22999)
        super().__init__(options)
        self.packets = 0
        self.first = self.last = 0.0
        self.friend: int | None = None

    def on_friend_request(self, public_key: str, message: str) -> None:
        self.friend_add_norequest(public_key)

    def on_friend_connection_status(self, friend_number: int, status: int) -> None:
        self.friend = friend_number if status == self.CONNECTION_UDP else None

    def on_friend_lossy_packet(self, friend_number: int, data: Any) -> None:
        self.last = time.perf_counter()
        if not self.packets:
            self.first = self.last
        self.packets += 1


def listen() -> None:
    """Print how to reach this node, then count until the sender falls silent."""
    node = Node()
    _say(port=node.self_get_udp_port(), key=node.self_get_dht_id(), tox_id=node.self_get_address())
    while not node.packets or time.perf_counter() - node.last < _SILENCE:
        node.iterate()
        if not node.packets:
            time.sleep(node.iteration_interval() / 1000)
    _say(bytes=node.packets * len(_PACKET), seconds=node.last - node.first)


def send(address: str, port: int, key: str, tox_id: str, seconds: float) -> None:
    """Find the listener, then send to it for `seconds`."""
    node = Node()
    node.bootstrap(address, port, key)
    node.friend_add(tox_id, "blast")
    while node.friend is None:
        node.iterate()
        time.sleep(node.iteration_interval() / 1000)
    sent, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(_BATCH):
            sent += node.friend_send_lossy_packet(node.friend, _PACKET)
        node.iterate()
        if node.friend is None:
            raise ToxError("blast", "the friend went away")
    _say(bytes=sent * len(_PACKET), seconds=time.perf_counter() - began)


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    """Run the end that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.blast")
    parser.add_argument("role", choices=["listen", "send"])
    parser.add_argument("--unlocked", action="store_true")
    parser.add_argument("--seconds", type=float, default=5)
    for name in ("address", "key", "tox-id"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.unlocked:
        forbid_memory_locking()
    if options.role == "listen":
        listen()
    else:
        send(options.address, options.port, options.key, options.tox_id, options.seconds)


if __name__ == "__main__":
    main()
