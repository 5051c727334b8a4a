"""This machine's own addresses and broadcast addresses.

They are from getifaddrs(3), which Linux and macOS have; on Windows from GetAdaptersAddresses, by ifaddr.

Behind a NAT, the router's public address is not among them: this machine does not know it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6
from typing import Any

from cffi import FFI

from toxproxy.address import Address, plain_address
from toxproxy.rules import Machine

_FRESH = 2.0  # seconds that an answer is used again
_EVERYBODY = IPv4Address("255.255.255.255")  # on the network of the default route (RFC 919, section 7)
_GLOBAL = IPv6Network("2000::/3")  # global unicast (RFC 4291, section 2.4)
_IFF_BROADCAST = 0x2  # a flag of an interface: `destination` is the broadcast address
_LONGEST_WITH_BROADCAST = 30  # bits of a prefix (RFC 3021)
_SITE = 64  # the usual length of a network's prefix, in bits (RFC 4291, section 2.5.4)

_ffi = FFI()
# The same on Linux and macOS. `addr` points to a sockaddr. An IPv4 address is in its bytes 4 to 7, an
# IPv6 address in its bytes 8 to 23.
_ffi.cdef(
    """
    struct ifaddrs {
        struct ifaddrs *next; char *name; unsigned int flags;
        uint8_t *addr; uint8_t *netmask; uint8_t *destination; void *data;
    };
    int getifaddrs(struct ifaddrs **first);
    void freeifaddrs(struct ifaddrs *first);
    """
)
# On Linux a sockaddr begins with the family, 2 bytes. On macOS a length byte comes first, then 1 byte.
_FAMILY = slice(0, 2) if sys.platform == "linux" else slice(1, 2)


class Interfaces:
    """The machine's addresses, kept for `fresh` seconds: many connections then cost few system calls."""

    def __init__(self, fresh: float = _FRESH) -> None:
        self._fresh = fresh
        self._machine = Machine()
        self._stale = 0.0

    def machine(self) -> Machine:
        """This machine, as it was at most `fresh` seconds ago. Raises `OSError`."""
        now = time.monotonic()
        if now >= self._stale:
            self._machine = look()
            self._stale = now + self._fresh
        return self._machine


def look() -> Machine:
    """Ask the system for the addresses of all interfaces. Raises `OSError`."""
    addresses = frozenset(_addresses())
    sites = {
        IPv6Network((address, _SITE), strict=False)
        for address in addresses
        if isinstance(address, IPv6Address) and address in _GLOBAL
    }
    return Machine(addresses, tuple(sites))


def broadcasts() -> frozenset[Address]:
    """The broadcast addresses of the local IPv4 networks, and that of "this network". Raises `OSError`."""
    if sys.platform == "win32":
        return frozenset(map(_broadcast, _adapters())) | {_EVERYBODY}
    return frozenset(
        address
        for entry in _entries()
        if entry.flags & _IFF_BROADCAST and entry.addr and entry.destination
        for address in _address(entry.destination)
        if address.version == 4 and int(address)
    ) | {_EVERYBODY}


def sources() -> frozenset[Address]:
    """The addresses from which packets to the internet leave now: those of the default routes."""
    found = set()
    for family, nobody in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # RFC 5737, 3849
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((nobody, 9))  # sends nothing
            found.add(plain_address(sock.getsockname()[0]))
    return frozenset(found)


def _addresses() -> Iterator[Address]:
    if sys.platform == "win32":
        yield from (plain_address(host) for host, _ in _adapters())
        return
    for entry in _entries():
        if entry.addr:
            yield from _address(entry.addr)


def _entries() -> Iterator[Any]:
    first = _ffi.new("struct ifaddrs **")
    libc = _libc()
    if libc.getifaddrs(first):
        raise OSError(_ffi.errno, os.strerror(_ffi.errno))
    try:
        entry = first[0]
        while entry:
            yield entry
            entry = entry.next
    finally:
        libc.freeifaddrs(first[0])


@cache
def _libc() -> Any:
    if sys.platform != "win32":
        return _ffi.dlopen(None)


def _adapters() -> Iterator[tuple[str, int]]:
    """Each address of an interface of Windows, and the length of its network's prefix."""
    import ifaddr  # installed only there

    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            yield str(each.ip if each.is_IPv4 else each.ip[0]), each.network_prefix


def _broadcast(adapter: tuple[str, int]) -> Address:
    """The broadcast address of an IPv4 network; for one that has none, and for IPv6, that of this network."""
    host, prefix = adapter
    if ":" in host or prefix > _LONGEST_WITH_BROADCAST or IPv4Address(host).is_loopback:
        return _EVERYBODY
    return IPv4Interface(f"{host}/{prefix}").network.broadcast_address


def _address(raw: Any) -> Iterator[Address]:
    family = int.from_bytes(bytes(_ffi.buffer(raw, 2))[_FAMILY], sys.byteorder)
    if family == AF_INET:
        yield IPv4Address(bytes(_ffi.buffer(raw, 8))[4:])
    elif family == AF_INET6:
        address = IPv6Address(bytes(_ffi.buffer(raw, 24))[8:])
        if address.is_link_local:  # macOS keeps the interface's number in bytes 2 and 3
            address = IPv6Address(address.packed[:2] + bytes(2) + address.packed[4:])
        yield address
