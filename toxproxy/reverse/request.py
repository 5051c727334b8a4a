"""What the two ends write to each other so that a server listens for a client. Pure; SPEC.md, section 14.

A client asks by opening a stream to `listen:tcp:127.0.0.1:8080`. The stream lasts as long as the server
listens; on it the server tells its addresses. For each connection there the server opens a stream to
`listener:7`, where 7 is the id of the stream that asked: it never learns where the client leads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from toxproxy.address import (
    LISTEN,
    Bind,
    Target,
    UdpTarget,
    UnixBind,
    is_unix,
    parse_bind_host,
    parse_port,
    parse_unix_path,
    plain_address,
    shown,
    split_fields,
)

PORT = 1  # of the targets of these streams; it means nothing
LISTENER = "listener:"
MOST_TOLD = 1024  # bytes with which a server tells its addresses

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_ADDRESS = re.compile(r"[!-~]{1,128}")
_MOST_ADDRESSES = 16


@dataclass(frozen=True, slots=True)
class Request:
    """Where a client wants the server to listen, and whether for datagrams. A Unix socket has mode 0600."""

    bind: Bind | UnixBind
    udp: bool = False

    def __str__(self) -> str:
        return f"{self.bind}{'/udp' if self.udp else ''}"

    @property
    def target(self) -> Target:
        """What the stream that asks is opened to. Raises `ValueError` for an address that is too long."""
        return Target(f"{LISTEN}{'udp' if self.udp else 'tcp'}:{self.bind}", PORT)


def parse_request(host: str) -> Request:
    """The request in the host of a stream's target. Raises `ValueError`."""
    kind, _, where = host.removeprefix(LISTEN).partition(":")
    if kind not in ("tcp", "udp"):
        raise ValueError(f"expected tcp or udp, found {shown(kind)}")
    if is_unix(where) and kind == "tcp":
        return Request(UnixBind(parse_unix_path(where)))
    fields = split_fields(where)
    if len(fields) != 2:
        raise ValueError(f"expected an address and a port, found {shown(where)}")
    bind = Bind(parse_bind_host(fields[0]), parse_port(fields[1], lowest=0))
    if bind.host:
        plain_address(bind.host)  # no name is looked up for a client
    return Request(bind, udp=kind == "udp")


def told(addresses: tuple[str, ...]) -> bytes:
    """How a server tells where it listens."""
    return " ".join(addresses).encode() + b"\n"


def parse_told(line: bytes) -> tuple[str, ...]:
    """Where the server says that it listens, one address at least; without the line's end.

    Raises `ValueError`.
    """
    addresses = line.decode("ascii").split(" ")
    if len(addresses) > _MOST_ADDRESSES or not all(map(_ADDRESS.fullmatch, addresses)):
        raise ValueError("expected the addresses that are listened on, found something else")
    return tuple(addresses)


def parse_listener(host: str) -> int | None:
    """The id in the host of a stream that a server opens; None: it is of no listener."""
    number = host.removeprefix(LISTENER) if host.startswith(LISTENER) else ""
    return int(number) if _NUMBER.fullmatch(number) else None


@dataclass(frozen=True, slots=True)
class Listener(Target):
    """What the server opens a stream to for a connection. In text it is `at`, where that came in."""

    at: str = ""

    def __str__(self) -> str:
        return self.at


@dataclass(frozen=True, slots=True)
class UdpListener(UdpTarget):
    """The same for a flow of datagrams."""

    at: str = ""

    def __str__(self) -> str:
        return self.at


def listener(number: int, request: Request) -> Listener | UdpListener:
    """The target of what comes in where the stream `number` had asked for it by `request`."""
    kind = UdpListener if request.udp else Listener
    return kind(f"{LISTENER}{number}", PORT, str(request))
