"""Where the nodes of friends were last: `nodes.json` in the state folder.

One JSON object: public keys of friends, each with the DHT key of its node, with addresses and UDP ports,
the best ones first, and with TCP relays that the node was connected to. What cannot be read is left out:
nothing is decided by it. `port` is this node's own UDP port.
"""

from __future__ import annotations

import json
import logging
from ipaddress import ip_address
from typing import Any, NamedTuple

from toxproxy.address import Address
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder
from toxproxy.tox.relay_list import MOST as MOST_RELAYS
from toxproxy.tox.relay_list import Relay

FILE = "nodes.json"
MOST = 4  # addresses of a node

_PORT = "port"
_KEY_SIZE = 32  # bytes
_log = logging.getLogger(__name__)


class KnownNode(NamedTuple):
    """A friend's node: its DHT key, where it may be reached, and the relays that it was connected to."""

    key: bytes
    places: tuple[tuple[Address, int], ...]
    relays: tuple[Relay, ...] = ()


class KnownNodes:
    """What the file says, by the keys of friends. `read` it first; `write` it after a change."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._nodes: dict[bytes, KnownNode] = {}
        self.port: int | None = None  # this node's

    def read(self) -> None:
        """Read the file. One that cannot be read says nothing."""
        entries = _entries(self._state)
        self.port = _own_port(entries)
        for friend, entry in entries.items():
            try:
                self._nodes[_key(friend)] = _node(entry)
            except (ValueError, TypeError, KeyError, OverflowError):
                continue

    def write(self) -> None:
        """Write the file. If that fails there is a warning."""
        entries: dict[str, Any] = {
            friend.hex().upper(): {
                "node": node.key.hex().upper(),
                "places": [[str(address), port] for address, port in node.places],
                "relays": [[str(each.address), each.port, each.key.hex().upper()] for each in node.relays],
            }
            for friend, node in self._nodes.items()
        }
        if entries and self.port is not None:
            entries[_PORT] = self.port
        try:
            self._state.write(FILE, json.dumps(entries, indent=1).encode() + b"\n")
        except StateError as error:
            _log.warning("%s", error)

    def move(self, port: int) -> bool:
        """This node has another UDP port now; False if that is known, or nothing else is."""
        moved, self.port = self.port != port, port
        return moved and bool(self._nodes)

    def get(self, friend: bytes) -> KnownNode | None:
        """The friend's node, if it is known."""
        return self._nodes.get(friend)

    def put(self, friend: bytes, node: KnownNode) -> bool:
        """Remember a node; False if that is known."""
        if self._nodes.get(friend) == node:
            return False
        self._nodes[friend] = node
        return True

    def drop(self, friend: bytes) -> bool:
        """Forget a friend; False if nothing was known."""
        return self._nodes.pop(friend, None) is not None


def kept_port(state: StateFolder) -> int | None:
    """This node's UDP port in the last run, if it is known."""
    return _own_port(_entries(state))


def _entries(state: StateFolder) -> dict[str, Any]:
    try:
        entries = json.loads(state.read(FILE) or b"{}")
    except (StateError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _own_port(entries: dict[str, Any]) -> int | None:
    try:
        return _port(entries[_PORT])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def _node(entry: dict[str, Any]) -> KnownNode:
    places = tuple((ip_address(host), _port(port)) for host, port in entry["places"][:MOST])
    relays = tuple(
        Relay(ip_address(host), _port(port), _key(key))
        for host, port, key in entry.get("relays", [])[:MOST_RELAYS]
    )
    return KnownNode(_key(str(entry["node"])), places, relays)


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != _KEY_SIZE:
        raise ValueError("not a key")
    return key


def _port(port: int) -> int:
    if not 0 < int(port) < 1 << 16:
        raise ValueError("not a port")
    return int(port)
