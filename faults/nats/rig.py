"""The rig: an internet of network namespaces, without a way out, and homes behind routers.

    node   node   node …                        each a namespace with a public address
      |      |      |
    [ the internet: one bridge, 11.0.0.0/8 ]
          |                   |
    [carrier's NAT]     [carrier's NAT]          where the kind has one; 100.64.0.0/10 below it
          |                   |
    [ home router ]     [ home router ]          what it does is its kind
          |                   |                  a link of `bench/links.py`, where one is asked for
       client              server

The public addresses must look public: libtoxcore treats those of private ranges in another way, and
miniupnpd does nothing with those kept for documents. 11.0.0.0/8 has been assigned for ever and is not
announced. Needs root, `ip` and `nft`. Everything made here is removed at the end of its `with` block.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.emulator import Emulator
from bench.links import CLEAN, Link
from faults.nats.kinds import KINDS, Kind
from toxproxy.demo.network import Place
from toxproxy.errors import ToxproxyError

NEEDED = ("ip", "nft")
LAN_ROUTER = "192.168.1.1"  # of either home: many homes have the same addresses
PROXY_PORT = 3128

_PUBLIC = 8  # bits of the network 11.0.0.0/8
_LAN_HOSTS = {"client": "192.168.1.2", "server": "192.168.1.3"}
_OUTER = {"client": "11.20.0.1", "server": "11.30.0.1"}
_OPEN = {"client": ("11.20.1.1", "11.20.1.2"), "server": ("11.30.1.1", "11.30.1.2")}
_SHARED = {"client": ("100.64.1.1", "100.64.1.2"), "server": ("100.64.2.1", "100.64.2.2")}

# What of the other home's UDP, and of anyone's TCP, the outer router let in. It is counted after the
# router's own rules.
_COUNTERS = """\
table ip path {{
    counter direct {{ }}
    counter relayed {{ }}
    chain forward {{
        type filter hook forward priority filter + 10;
        iifname "out" ip saddr {other} meta l4proto udp counter name direct
        iifname "out" meta l4proto tcp counter name relayed
    }}
}}
"""
_NO_UDP = """\
table ip cut {
    chain forward { type filter hook forward priority filter - 10; meta l4proto udp drop; }
}
"""

_numbers = itertools.count()


class RigError(ToxproxyError):
    """The rig cannot be made on this machine. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Bytes of IP packets that the outer router of a home let in: `direct` over UDP from the other home,
    `relayed` over TCP from anyone."""

    direct: int
    relayed: int

    def since(self, before: Arrived) -> Arrived:
        """What came after `before`."""
        return Arrived(self.direct - before.direct, self.relayed - before.relayed)

    @property
    def share(self) -> float:
        """How much of it came directly, 0 to 1."""
        return self.direct / max(self.direct + self.relayed, 1)


@dataclass
class Home:
    """A host behind its router. `address` is the public address from which others hear it."""

    side: str
    kind: Kind
    place: Place
    router: str  # the namespace of the router, and below of the carrier's or the same
    outer: str
    address: str
    _moves: Iterator[int] = field(default_factory=lambda: iter(range(2, 250)))

    def count(self, other: Home) -> None:
        """Begin to count what comes from the other home."""
        _nft(self.outer, _COUNTERS.format(other=other.address))

    def arrived(self) -> Arrived:
        """What has come since `count`."""
        text = _run("ip", "netns", "exec", self.outer, "nft", "-j", "list", "counters", "table", "ip", "path")
        counters = [entry["counter"] for entry in json.loads(text)["nftables"] if "counter" in entry]
        return Arrived(**{counter["name"]: counter["bytes"] for counter in counters})

    def add_rules(self, ruleset: str) -> None:
        """Add to the rules of the home's router, for `nft -f`."""
        _nft(self.router, ruleset)

    def block_udp(self) -> None:
        """Let the router drop all UDP from now on."""
        _nft(self.router, _NO_UDP)

    def allow_udp(self) -> None:
        """End that."""
        _run("ip", "netns", "exec", self.router, "nft", "delete", "table", "ip", "cut")

    def move(self) -> None:
        """Give the router another public address, as a provider does over night. Its mappings are gone.

        Only for a kind that translates. `count` is to be called again.
        """
        old, self.address = self.address, f"{self.address.rpartition('.')[0]}.{next(self._moves)}"
        _ip(self.outer, "address", "delete", f"{old}/{_PUBLIC}", "dev", "out")
        _ip(self.outer, "address", "add", f"{self.address}/{_PUBLIC}", "dev", "out")


class Rig:
    """An internet. A context manager; entering it raises `RigError` where it cannot be made.

    `emulator` makes the links of homes that have one. Several rigs can be on a machine.
    """

    def __init__(self, emulator: Emulator | None = None) -> None:
        self._emulator = emulator
        self._stack = ExitStack()
        self._name = f"toxproxy-nats-{os.getpid()}-{next(_numbers)}"
        self._net = f"{self._name}-net"
        self._nodes = 0
        self._names: list[str] = []

    def __enter__(self) -> Rig:
        if missing := lacking():
            raise RigError(f"expected {missing}, found none: there can be no rig of NATs")
        with self._stack:
            self._namespace(self._net)
            _ip(self._net, "link", "add", "net", "type", "bridge", "mcast_snooping", "0")
            _ip(self._net, "link", "set", "net", "up")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def node(self) -> Place:
        """A new host with a public address, in a network of its own."""
        self._nodes += 1
        name, address = f"{self._name}-node{self._nodes}", f"11.{self._nodes}.0.1"
        self._namespace(name)
        self._join(name, f"node{self._nodes}", address)
        return _place(name, address)

    def home(self, side: str, kind: Kind, link: Link = CLEAN, seed: int = 1) -> Home:
        """The home of the `side`, client or server. Each can be made once."""
        names = {part: f"{self._name}-{side}{part}" for part in ("", "-router", "-carrier")}
        host, router, carrier = names.values()
        self._namespace(host)
        self._namespace(router)
        lan, inner = (LAN_ROUTER, _LAN_HOSTS[side]) if kind.translates else _OPEN[side]
        self._lead(host, inner, router, lan, link, seed)
        address, outer = _OUTER[side], router
        if kind.carrier is None:
            self._join(router, side, address)
        else:
            outer = carrier
            self._namespace(carrier)
            upper, lower = _SHARED[side]
            _veth(carrier, "link", router, "out")
            for name, device, own in ((carrier, "link", upper), (router, "out", lower)):
                _up(name, device, f"{own}/24")
            _ip(router, "route", "add", "default", "via", upper)
            self._join(carrier, side, address)
            _route(carrier, kind.carrier)
        _route(router, kind)
        return Home(side, kind, _place(host, inner), router, outer, address if kind.translates else inner)

    def use(self, control: str) -> None:
        """Set the congestion control of every TCP socket made from now on. It must be allowed."""
        for name in self._names:
            _set(name, f"ipv4/tcp_congestion_control={control}")

    def traffic(self) -> dict[str, int]:
        """Bytes that have entered each node so far, by its address."""
        devices = json.loads(_run("ip", "-n", self._net, "-s", "-j", "link", "show"))
        return {
            f"11.{device['ifname'][4:]}.0.1": device["stats64"]["tx"]["bytes"]
            for device in devices
            if device["ifname"].startswith("node")
        }

    def _lead(self, host: str, inner: str, router: str, lan: str, link: Link, seed: int) -> None:
        """Join a host and its router, by the link if there is one."""
        if link is CLEAN:
            _veth(host, "link", router, "link")
        else:
            assert self._emulator is not None
            self._stack.enter_context(self._emulator.joined(host, router, link, seed))
        for name, own in ((host, inner), (router, lan)):
            _up(name, "link", f"{own}/24")
        _ip(host, "route", "add", "default", "via", lan, "dev", "link")

    def _join(self, name: str, device: str, address: str) -> None:
        """Join a namespace to the internet."""
        _veth(self._net, device, name, "out")
        _ip(self._net, "link", "set", "dev", device, "master", "net", "up")
        _up(name, "out", f"{address}/{_PUBLIC}")

    def _namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._stack.callback(_run, "ip", "netns", "delete", name)
        self._names.append(name)
        _ip(name, "link", "set", "lo", "up")


def lacking() -> str:
    """What this machine lacks for a rig, in words; "" if nothing."""
    if os.geteuid() != 0:
        return "root, to make network namespaces"
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        return f"the programs {', '.join(missing)}"
    name = f"toxproxy-nats-{os.getpid()}-try"
    try:
        _run("ip", "netns", "add", name)
    except RigError:
        return "a kernel with network namespaces"
    try:
        _route(name, KINDS["cone"])
    except RigError:
        return "a kernel with nftables and NAT"
    finally:
        _run("ip", "netns", "delete", name)
    return ""


def _route(name: str, kind: Kind) -> None:
    """Make a namespace a router of that kind."""
    _nft(name, kind.ruleset())  # loads connection tracking, and with it the timeouts
    _set(name, "ipv4/ip_forward=1")
    _set(name, *(f"netfilter/nf_conntrack_udp_timeout{which}={kind.idle}" for which in ("", "_stream")))
    if not kind.translates:
        # So that the internet finds the public address, and at once.
        _set(name, "ipv4/conf/out/proxy_arp=1", "ipv4/neigh/out/proxy_delay=0")


def _veth(one: str, device: str, other: str, peer: str) -> None:
    # Segments as small as between real hosts. One of 64 KiB can fill the receive buffer of a TCP relay
    # that waits for the rest of a packet: then both ends wait for ever.
    ends = ("name", device, "gso_max_segs", "1", "type", "veth", "peer", "name", peer, "gso_max_segs", "1")
    _ip(one, "link", "add", *ends, "netns", other)


def _up(name: str, device: str, address: str) -> None:
    _ip(name, "address", "add", address, "dev", device)
    _ip(name, "link", "set", "dev", device, "up", "txqueuelen", "4000")  # only links shall lose packets


def _set(name: str, *words: str) -> None:
    """Set FILE=VALUE, of /proc/sys/net."""
    script = 'for word; do echo "${word#*=}" >"/proc/sys/net/${word%%=*}" || exit; done'
    _run("ip", "netns", "exec", name, "sh", "-c", script, "sh", *words)


def _nft(name: str, ruleset: str) -> None:
    _run("ip", "netns", "exec", name, "nft", "-f", "-", text=ruleset)


def _ip(name: str, *words: str) -> None:
    _run("ip", "-n", name, *words)


def _place(name: str, address: str) -> Place:
    return Place(("ip", "netns", "exec", name), address)


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
