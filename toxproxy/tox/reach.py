"""Whether bootstrap nodes can be reached at all, by UDP and by TCP. Nothing of Tox is said to them."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from toxproxy.system.resolver import Resolver
from toxproxy.system.sockets import os_errors
from toxproxy.tox.bootstrap import Introducer, is_local, resolve

_NODES = 8  # that are asked
_SECONDS = 4.0
_HEARD = 0.5  # seconds that an ICMP answer may take


class Reach(Enum):
    """What became of an attempt."""

    OPEN = "open"  # TCP: connected. UDP: the packet left
    FORBIDDEN = "forbidden"  # this machine does not let it out
    REFUSED = "refused"  # the other machine answers that nothing is there
    SILENT = "silent"
    UNREACHABLE = "unreachable"  # there is no way to it, or no address for its name


@dataclass(frozen=True, slots=True)
class Reached:
    """One node. `public`: its address is not of a local network."""

    node: Introducer
    udp: Reach
    tcp: Reach
    public: bool


async def reach(nodes: Sequence[Introducer], *, ipv6: bool) -> list[Reached]:
    """Ask at most 8 of the nodes, by chance, all at once, within some seconds."""
    resolver = Resolver()
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    some = random.sample(list(nodes), min(_NODES, len(nodes)))
    return await asyncio.gather(*(_one(node, resolver, family) for node in some))


async def _one(node: Introducer, resolver: Resolver, family: socket.AddressFamily) -> Reached:
    try:
        async with asyncio.timeout(_SECONDS):
            addresses = await resolve(resolver, node.host, family)
    except (OSError, TimeoutError):
        return Reached(node, Reach.UNREACHABLE, Reach.UNREACHABLE, public=True)
    found = await asyncio.gather(*(_address(node, address) for address in addresses))
    best = list(Reach)
    return Reached(
        node,
        min((udp for udp, _ in found), key=best.index, default=Reach.UNREACHABLE),
        min((tcp for _, tcp in found), key=best.index, default=Reach.UNREACHABLE),
        any(not is_local(address) for address in addresses),
    )


async def _address(node: Introducer, address: str) -> tuple[Reach, Reach]:
    udp, *tcp = await asyncio.gather(
        _udp(address, node.port), *(_tcp(address, port) for port in node.tcp_ports[:2])
    )
    return udp, min(tcp, key=list(Reach).index, default=Reach.SILENT)


async def _udp(address: str, port: int) -> Reach:
    """Whether a packet leaves. It is one byte that means nothing to a node, which does not answer it."""
    loop = asyncio.get_running_loop()
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect((address, port))
            sock.send(b"\0")
            async with asyncio.timeout(_HEARD):
                with os_errors():
                    await loop.sock_recv(sock, 1)
        except TimeoutError:
            return Reach.OPEN
        except OSError as error:
            return _met(error)
    return Reach.OPEN


async def _tcp(address: str, port: int) -> Reach:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(address), socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(_SECONDS):
                with os_errors():
                    await loop.sock_connect(sock, (address, port))
        except TimeoutError:
            return Reach.SILENT
        except OSError as error:
            return _met(error)
    return Reach.OPEN


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _met(error: OSError) -> Reach:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return Reach.FORBIDDEN
        case errno.ECONNREFUSED:
            return Reach.REFUSED
    return Reach.UNREACHABLE
