"""A home with a real router (miniupnpd), in namespaces of their own.

An experiment runs at home, at 192.168.77.2. The router has 192.168.77.1 there and 11.0.0.1 outside, where
a host has 11.0.0.2. Nothing of that reaches the machine's own network, and all of it ends with the
experiment.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.isolated import MAY_ISOLATE
from toxproxy.mapping.grant import Mapping

SECONDS = 60
OUTSIDE, ROUTER, HOME, NEIGHBOUR = "11.0.0.2", "192.168.77.1", "192.168.77.2", "192.168.77.3"
PORT = 33500
_DAEMON = shutil.which("miniupnpd", path=f"{os.environ['PATH']}:/usr/sbin")
_NFT = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")


def _may_route() -> bool:
    if not (MAY_ISOLATE and _DAEMON and _NFT):
        return False
    command = ["unshare", "--net", _NFT, "add", "table", "inet", "filter"]
    return subprocess.run(command, capture_output=True).returncode == 0


needs_router = pytest.mark.skipif(not _may_route(), reason="needs root, namespaces, nftables and miniupnpd")

_NETWORK = """
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up
ip netns add mapping-router
ip netns add mapping-outside
ip link add lan type veth peer name home netns mapping-router
ip -n mapping-router link add wan type veth peer name host netns mapping-outside
ip addr add 192.168.77.2/24 dev lan
ip addr add 192.168.77.3/24 dev lan
ip link set lan up
ip -n mapping-router addr add 192.168.77.1/24 dev home
ip -n mapping-router addr add 11.0.0.1/24 dev wan
ip -n mapping-router link set lo up
ip -n mapping-router link set home up
ip -n mapping-router link set wan up
ip -n mapping-outside addr add 11.0.0.2/24 dev host
ip -n mapping-outside link set lo up
ip -n mapping-outside link set host up
ip netns exec mapping-router sysctl -qw net.ipv4.ip_forward=1
ip route add default via 192.168.77.1 src 192.168.77.2
"""
_RULES = """
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "home" accept
        jump miniupnpd
    }
    chain miniupnpd {}
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting {
        type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname "wan" masquerade
    }
    chain prerouting_miniupnpd {}
    chain postrouting_miniupnpd {}
}
"""
_CONFIGURATION = """
ext_ifname=wan
listening_ip=home
port=0
enable_natpmp={natpmp}
enable_upnp={upnp}
min_lifetime=2
max_lifetime=86400
secure_mode=yes
ipv6_disable=yes
system_uptime=no
notify_interval=900
uuid=7c1bbd0c-d33e-4f7b-8f6c-7a6b8b5a6f01
lease_file={folder}/leases
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


async def outcome(experiment: str) -> Any:
    """What an experiment of `tests.mapping.experiments` found."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = await asyncio.create_subprocess_exec(
        *(*command, sys.executable, "-m", "tests.mapping.experiments", experiment),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def build() -> None:
    """Make the networks, from within the experiment's own namespaces."""
    subprocess.run(["sh", "-e", "-c", _NETWORK], check=True)


class Router:
    """miniupnpd, which speaks PCP and NAT-PMP if `natpmp`, and UPnP if `upnp`."""

    def __init__(self, folder: Path, *, natpmp: bool = True, upnp: bool = True) -> None:
        words = {True: "yes", False: "no"}
        self._file = folder / "miniupnpd.conf"
        self._file.write_text(_CONFIGURATION.format(natpmp=words[natpmp], upnp=words[upnp], folder=folder))
        self._log = folder / "miniupnpd.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Router:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start with nothing mapped, as a router that was switched on."""
        _forget()
        command = ["ip", "netns", "exec", "mapping-router", _DAEMON or "", "-d", "-f", str(self._file)]
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)
        time.sleep(0.5)

    def stop(self) -> None:
        """As when it is switched off: what was mapped is forgotten."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            _forget()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def _forget() -> None:
    in_router(_NFT or "nft", "flush", "ruleset")
    in_router(_NFT or "nft", "-f", "-", input=_RULES)


def in_router(*command: str, **options: Any) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", "mapping-router", *command],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )
    return done.stdout


def mapped() -> list[str]:
    """The mappings in the router's tables, as it wrote them."""
    rules = in_router(_NFT or "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd")
    return [line.strip() for line in rules.splitlines() if "dnat" in line]


@contextmanager
def node_port(address: str = "0.0.0.0", port: int = PORT) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        yield sock


async def send(address: str, port: int, count: int = 1) -> None:
    """Send datagrams from outside."""
    script = (
        f"import socket\nfor _ in range({count}): socket.socket(2, 2).sendto(b'hello', ('{address}', {port}))"
    )
    command = ["ip", "netns", "exec", "mapping-outside", sys.executable, "-c", script]
    await (await asyncio.create_subprocess_exec(*command)).wait()


def received() -> int:
    """How many datagrams the sockets at home have been given."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Udp:"
    )
    return int(values[names.index("InDatagrams")])


async def arrives(sock: socket.socket, mapping: Mapping) -> bool:
    """Whether a datagram from outside reaches the port by its mapping."""
    await send(str(mapping.address), mapping.port)
    sock.settimeout(1)
    try:
        data, sender = await asyncio.to_thread(sock.recvfrom, 100)
    except TimeoutError:
        return False
    return data == b"hello" and sender[0] == OUTSIDE


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.05)


def told(mapping: Mapping | None) -> list[object] | None:
    return None if mapping is None else [str(mapping.address), mapping.port, mapping.by.value, mapping.public]
