"""Namespaces for tests that need another name server, other interfaces or other mounts.

`python -m tests.isolated NAME` runs inside: it does the experiment NAME and prints the outcome as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.tox.pair import Diary
from toxproxy.address import Target
from toxproxy.config.settings import ExitSettings, ToxSettings
from toxproxy.errors import StreamRefused
from toxproxy.outbound.exit import Exit
from toxproxy.rules import Rules, parse_rule
from toxproxy.system.gateway import default_gateway
from toxproxy.system.interfaces import Interfaces
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node

_SECONDS = 30
_RESOLVE_WITH = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
_ALONE = 'ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@"'

DENIED = Rules((parse_rule("*:*"),), deny=(parse_rule("127.0.0.0/8:*"), parse_rule("[::1]:*")))

SPELLINGS = [
    *("127.0.0.1", "127.1.2.3", "127.0.0.0", "127.255.255.254", "127.255.255.255"),
    *("0.0.0.0", "0.0.0.1", "255.255.255.255", "224.0.0.1", "169.254.0.1"),
    *("::", "::1", "::2", "fe80::1", "ff01::1", "ff02::1", "100::"),
    *("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b:1::127.0.0.1", "2002:7f00:1::", "2002:7f00:1::1", "2001:0:7f00:1::"),
]


def _may_isolate() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode == 0


MAY_ISOLATE = _may_isolate()
needs_namespaces = pytest.mark.skipif(not MAY_ISOLATE, reason="needs root and namespaces")


def resolving_with(file: Path) -> tuple[str, ...]:
    """The beginning of a command line whose process reads `file` as /etc/resolv.conf."""
    return ("unshare", "--mount", "sh", "-c", _RESOLVE_WITH, str(file))


async def isolated(experiment: str) -> Any:
    """The outcome of an experiment where loopback is the only network and has a name server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        resolv_conf = Path(folder) / "resolv.conf"
        resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        command = ["unshare", "--net", "--mount", "sh", "-c", _ALONE, str(resolv_conf)]
        process = await asyncio.create_subprocess_exec(
            *command, sys.executable, "-m", "tests.isolated", experiment, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def reach() -> dict[str, tuple[bool, bool]]:
    """For each spelling of an address: does the kernel reach this machine by it, do the rules allow it?"""
    with _listening("0.0.0.0", 0) as four, _listening("::", four.getsockname()[1]):
        port = four.getsockname()[1]
        return {
            text: (_reaches(text, port), DENIED.allows(Target(text, port), ip_address(text)))
            for text in SPELLINGS
        }


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def _reaches(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock, suppress(OSError):
        sock.settimeout(1)
        sock.connect((host, port))
        return True
    return False


def rebind() -> list[str]:
    """What a client reaches by one name whose address is another one at every look-up."""
    with _listening("127.0.0.1", 0) as allowed, _listening("127.0.0.2", allowed.getsockname()[1]):
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 53))
        threading.Thread(target=_answer, args=(names, ["127.0.0.1", "127.0.0.2"]), daemon=True).start()
        return asyncio.run(_dial_often(allowed.getsockname()[1]))


def _without(deny: str, interfaces: Interfaces | None = None) -> Exit:
    rules = Rules((parse_rule("*:*"),), (parse_rule(deny),))
    return Exit(ExitSettings(connect_timeout=10), rules, interfaces=interfaces)


async def _dial_often(port: int) -> list[str]:
    way_out = _without("127.0.0.2:*")
    return [await _met(way_out, "rebind.test", port) for _ in range(20)]


async def _met(way_out: Exit, host: str, port: int) -> str:
    """The name of the service that a connection reached, or the code of the refusal."""
    try:
        transport, _ = await way_out.dial(asyncio.Protocol, Target(host, port))
    except StreamRefused as refused:
        return refused.code.name
    transport.close()
    return str(transport.get_extra_info("peername")[0])


def moved() -> list[dict[str, str]]:
    """What is reached at some addresses under three rules, before and after this machine has them."""
    with _listening("0.0.0.0", 0) as four, _listening("::", four.getsockname()[1]):
        return asyncio.run(_dial_before_and_after(four.getsockname()[1]))


async def _dial_before_and_after(port: int) -> list[dict[str, str]]:
    interfaces = Interfaces(fresh=0)
    exits = {deny: _without(f"{deny}:*", interfaces) for deny in ("self", "private", "linklocal")}
    found = []
    for addresses in ((), ("203.0.113.9/32", "2001:db8:1:2::5/64")):
        for address in addresses:
            await (await asyncio.create_subprocess_exec("ip", "addr", "add", address, "dev", "lo")).wait()
        found.append(
            {
                f"{host} without {deny}": await _met(way_out, host, port)
                for deny, way_out in exits.items()
                for host in ("203.0.113.9", "2001:db8:1:2::5", "2001:db8:1:2::6")
            }
        )
    return found


def gateways() -> list[str | None]:
    """The default gateway on loopback alone, through loopback, in a network without one, and with one."""
    found = []
    for commands in (
        (),
        ("ip route add default dev lo",),
        (
            "ip route del default",
            "ip link add lan type veth peer name far",
            "ip addr add 192.168.77.2/24 dev lan",
            "ip link set lan up",
            "ip link set far up",
        ),
        ("ip route add default dev lan",),
        ("ip route replace default via 192.168.77.1",),
        ("ip addr add 192.168.77.3/24 dev lan", "ip route replace default via 192.168.77.1 src 192.168.77.3"),
    ):
        for command in commands:
            subprocess.run(command.split(), check=True)
        gateway = default_gateway()
        found.append(None if gateway is None else f"{gateway.address} from {gateway.source}")
    return found


def neighbours() -> list[str]:
    """The DHT keys that two far ports are told when a node starts on a local network, and its own last."""
    for command in (
        "ip link add lan type veth peer name far",
        "ip addr add 192.168.77.2/24 brd + dev lan",
        "ip link set lan up",
        "ip link set far up",
    ):
        subprocess.run(command.split(), check=True)
    ears = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for ear, port in zip(ears, (33500, 33545), strict=True):
        ear.bind(("", port))
        ear.setblocking(False)

    async def told() -> list[str]:
        settings = ToxSettings(bootstrap=(), ports=(33460, 33460))
        with tempfile.TemporaryDirectory() as folder:
            async with Node(settings, StateFolder(Path(folder)), "node", Diary()) as node:
                loop = asyncio.get_running_loop()
                packets = [await loop.sock_recv(ear, 100) for ear in ears]
                return [*[packet[1:].hex() for packet in packets], node.dht_key.hex()]

    return asyncio.run(told())


def _answer(names: socket.socket, addresses: list[str]) -> None:
    """Be a name server (RFC 1035, section 4): answer each question with the next address and a TTL of 0."""
    turns = cycle(addresses)
    while True:
        question, asker = names.recvfrom(512)
        end = question.index(0, 12) + 5  # header, name, type and class
        is_a = question[end - 4 : end - 2] == b"\0\1"
        header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, is_a, 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(next(turns)) if is_a else b""
        names.sendto(header + question[12:end] + record, asker)


if __name__ == "__main__":
    experiments = (reach, rebind, moved, gateways, neighbours)
    print(json.dumps({each.__name__: each for each in experiments}[sys.argv[1]]()))
