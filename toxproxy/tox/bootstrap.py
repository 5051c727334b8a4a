"""Connects a node to the Tox network: which bootstrap nodes to ask, at which addresses, how often."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Self

from toxproxy.address import join_host_port, parse_host, parse_key
from toxproxy.config.settings import BootstrapNode, ToxSettings
from toxproxy.pace import Notice
from toxproxy.system.resolver import Resolver
from toxproxy.tox.hearing import Hearing
from toxproxy.tox.neighbours import Neighbours
from toxproxy.tox.pytox import Tox, ToxError
from toxproxy.tox.relays import Peer, Relays

_AT_A_TIME = 4  # nodes that are asked at once
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries, doubling
_LONGEST_ONLINE = 300.0  # the same if only a relay is missing

_LOCAL = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
         "::1/128", "fe80::/10"),
    )
)  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Introducer:
    """A bootstrap node: its UDP port, and the `tcp_ports` at which it is a TCP relay."""

    host: str
    port: int
    key: bytes
    tcp_ports: tuple[int, ...]

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def introducers(settings: ToxSettings) -> tuple[Introducer, ...]:
    """The configured bootstrap nodes, or the built-in public ones.

    A configured node is tried as a UDP node and as a TCP relay, on one port. Without UDP it has to be
    both: libtoxcore looks for friends through the UDP side of the node that is its relay.
    """
    if settings.bootstrap is not None:
        return tuple(Introducer(node.host, node.port, node.key, (node.port,)) for node in settings.bootstrap)
    public = public_nodes()
    if settings.proxy is not None:
        # A lookup of their names would not go through the proxy, and would show that this is Tox.
        return tuple(node for node in public if _is_literal(node.host))
    return public


def public_nodes() -> tuple[Introducer, ...]:
    """The built-in list, from https://nodes.tox.chat."""
    text = resources.files(__package__).joinpath("nodes.json").read_text("ascii")
    return tuple(
        Introducer(
            parse_host(node["host"]), int(node["port"]), parse_key(node["key"]), tuple(node["tcp_ports"])
        )
        for node in json.loads(text)
    )


class Bootstrap:
    """Keeps a node in the network: while it is offline, asks some bootstrap nodes, again and again.

    It also asks while the node is connected to no TCP relay. libtoxcore drops a relay for good that it did
    not reach within 10 seconds (`kill_tcp_relay_connection` in TCP_connection.c), while a friend may have
    no other way to this node.

    A failure of any kind only means that this bootstrap node is skipped once.

    With `relays` of the user's own they are not used as TCP relays, unless those fail. `proxied` is whether
    there is a proxy in front of all of them.
    """

    def __init__(
        self,
        tox: Tox,
        nodes: Sequence[Introducer],
        resolver: Resolver,
        *,
        ipv6: bool,
        relays: Sequence[BootstrapNode] = (),
        proxied: bool = False,
    ) -> None:
        self._tox = tox
        self._resolver = resolver
        self._nodes = nodes
        self._family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
        self._changed = asyncio.Event()
        self._online = False
        self.asked = 0  # times that a node was asked at one of its addresses
        self.asked_public = False  # one of them was not of a local network
        self.hearing: Hearing | None = None  # is told of each question by UDP
        self.neighbours: Neighbours | None = None  # are told where this node is while it is offline
        self._doubts_udp = False
        self._relayed = True  # there is a relay, or nobody knows
        self._failed = Notice(_log, logging.WARNING)
        self._relays: Relays | None = None
        if relays:
            self._relays = Relays(tox, relays, self._resolve, self._add_relays, measures=not proxied)

    @classmethod
    def configured(cls, tox: Tox, settings: ToxSettings, resolver: Resolver, *, ipv6: bool) -> Self:
        """With the nodes and relays of `[tox]`."""
        proxied = settings.proxy is not None
        return cls(tox, introducers(settings), resolver, ipv6=ipv6, relays=settings.relays, proxied=proxied)

    def relays_changed(self, peers: frozenset[Peer] | None) -> None:
        """libtoxcore is connected to these relays now; None if that is not known."""
        relayed = peers is None or bool(peers) or self._relays is not None
        if relayed is not self._relayed:
            self._relayed = relayed
            self._changed.set()
        if self._relays is not None and peers is not None:
            self._relays.connected(peers)

    def connection_changed(self, online: bool) -> None:
        """The node has joined the network, or lost it."""
        if online is not self._online:
            self._online = online
            self._changed.set()

    def ask_by_udp(self) -> None:
        """Ask some nodes once more, to know whether UDP works."""
        self._doubts_udp = True
        self._changed.set()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_online())
            if self._relays is not None:
                group.create_task(self._relays.run())

    async def _stay_online(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._changed.clear()
            if self._online and self._relayed:
                pause = _FIRST_PAUSE
                if self._doubts_udp:
                    self._doubts_udp = False
                    await self._ask(relayed=False)
                await self._changed.wait()
                continue
            if self.neighbours is not None and not self._online:
                self.neighbours.call()
            await self._ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    pause * random.uniform(0.75, 1.25)
                ):  # `wait_for` can lose a cancel
                    await self._changed.wait()
            pause = min(2 * pause, _LONGEST_ONLINE if self._online else _LONGEST_PAUSE)

    async def _resolve(self, host: str) -> list[str]:
        return await resolve(self._resolver, host, self._family)

    async def _add_relays(self) -> None:
        """Use some of the nodes as TCP relays."""
        await self._ask(relayed=True)

    async def _ask(self, *, relayed: bool | None = None) -> None:
        if relayed is None:
            relayed = self._relays is None
        async with asyncio.TaskGroup() as group:
            for node in random.sample(self._nodes, min(_AT_A_TIME, len(self._nodes))):
                group.create_task(self._ask_one(node, relayed=relayed))

    async def _ask_one(self, node: Introducer, *, relayed: bool) -> None:
        key = node.key.hex()
        try:
            for address in await self._resolve(node.host):
                self.asked += 1
                self.asked_public |= not is_local(address)
                if self.hearing is not None:
                    self.hearing.asked(address, asyncio.get_running_loop().time())
                try:
                    self._tox.bootstrap(address, node.port, key)
                except ToxError as error:  # no UDP packet may leave this machine: a relay will do
                    _log.debug("bootstrap node %s is not asked by UDP: %s", node, error)
                if relayed and node.tcp_ports:
                    self._tox.add_tcp_relay(address, random.choice(node.tcp_ports), key)
        except (OSError, ToxError) as error:
            _log.debug("bootstrap node %s failed: %s", node, error)
        except Exception as error:  # no more threads, for example; without this, bootstrapping would end
            self._failed("bootstrap node %s failed: %r; it will be asked again", node, error)


async def resolve(resolver: Resolver, host: str, family: socket.AddressFamily) -> list[str]:
    """The first address of each family, as literals. Raises `OSError`."""
    first: dict[bool, str] = {}
    for address in await resolver.look_up(host, family):
        first.setdefault(":" in address, address)
    return list(first.values())


def is_local(address: str) -> bool:
    """Whether libtoxcore takes the address for one of a local network (`ip_is_lan`)."""
    ip = ipaddress.ip_address(address)
    return any(ip.version == network.version and ip in network for network in _LOCAL)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
