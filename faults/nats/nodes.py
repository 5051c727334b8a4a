"""Tox nodes of the rig: tox-bootstrapd, each at an address of its own, all of them TCP relays.

Most nodes that the public list names run this program too. A toxproxy with `tcp_relay` can take their place.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import random
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.program import Program, running
from faults.nats.rig import Rig, RigError
from toxproxy.demo.network import Place, Process

PROGRAM = "tox-bootstrapd"
PORT = 33445  # of UDP and TCP; the relays listen on 443 too, as the public ones do
_KEY = 32  # bytes
_JOINED = "Connected to another bootstrap node"
_JOIN_SECONDS = 60.0

_CONFIG = """\
port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = false
enable_ipv4_fallback = false
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [{ports}]
enable_motd = false
motd = ""
bootstrap_nodes = ({others})
"""

_TOXPROXY = """\
[tox]
local_discovery = no
bootstrap = none
port = {port}-{port}
tcp_relay = {port}
"""


@dataclass
class Node:
    """A running node. `key` is its public key in hexadecimal digits."""

    place: Place
    key: str
    port: int  # of UDP, and one of those of TCP
    program: Program | Process

    def __str__(self) -> str:
        """The node as a value of `[tox] bootstrap`."""
        return f"{self.place.address}:{self.port}:{self.key}"


async def start(
    stack: AsyncExitStack, rig: Rig, folder: Path, count: int, seed: int, port: int = PORT
) -> list[Node]:
    """Start so many nodes, and wait until each has found another. Their keys follow from the seed.

    Raises `RigError` if they do not, or if the program is missing.
    """
    if (program := shutil.which(PROGRAM)) is None:
        raise RigError(f"expected the program {PROGRAM} (Debian: toxcore-utils), found none")
    dice = random.Random(seed)
    ports = ", ".join(map(str, {443, PORT}))
    nodes: list[Node] = []
    for number in range(count):
        home = folder / f"node{number + 1}"
        home.mkdir()
        place, secret = rig.node(), dice.randbytes(_KEY)
        public = _public_key(secret)
        (home / "keys").write_bytes(public + secret)
        others = ", ".join(
            f'{{ address = "{node.place.address}"; port = {port}; public_key = "{node.key}"; }}'
            for node in nodes[-4:]
        )
        (home / "config").write_text(_CONFIG.format(folder=home, port=port, ports=ports, others=others))
        command = (program, "--foreground", "--log-backend", "stdout", "--config", str(home / "config"))
        running_node = await stack.enter_async_context(running(place, home, "node", *command))
        nodes.append(Node(place, public.hex().upper(), port, running_node))
    try:
        async with asyncio.timeout(_JOIN_SECONDS):
            for node in nodes[1:]:
                while _JOINED not in await node.program.line():
                    pass
    except TimeoutError:
        raise RigError(f"the {PROGRAM}s did not find each other within {_JOIN_SECONDS:g} s") from None
    return nodes


async def start_toxproxy(stack: AsyncExitStack, rig: Rig, folder: Path, port: int = PORT) -> list[Node]:
    """Start one node that is a toxproxy with `[tox] tcp_relay`."""
    place, home = rig.node(), folder / "node1"
    home.mkdir()
    program = Process("server", home, place)
    stack.push_async_callback(program.stop)
    await program.start(_TOXPROXY.format(port=port))
    return [Node(place, program.ready["dht_key"], port, program)]


def _public_key(secret: bytes) -> bytes:
    """The public key that belongs to a secret one (X25519). libtoxcore brings libsodium along."""
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
    public = ctypes.create_string_buffer(_KEY)
    sodium.crypto_scalarmult_base(public, secret)
    return public.raw
