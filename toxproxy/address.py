"""Addresses as people write them: where to listen, where to connect, who the server is.

Everything here is parsed once, at the edge, into a frozen value that cannot be wrong.
Parsers raise `ValueError` with a text that says what was expected; the caller adds where.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

KEY_BYTES = 32
TOX_ID_BYTES = 38  # public key 32, nospam 4, checksum 2 (Tox protocol, "Tox ID")

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the far end should connect: a name or a literal address, without brackets, and a port.

    `host` is at most 255 ASCII characters (RFC 1928's limit for a name), IDNA-encoded where
    it was written in another script. `port` is 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: an address, or "" for every address of the machine; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host or "*", self.port)


@dataclass(frozen=True, slots=True)
class ToxId:
    """A Tox ID: what a client needs to ask a server to be let in."""

    raw: bytes

    @property
    def public_key(self) -> bytes:
        """The first 32 bytes, which name the node for good; the rest may change."""
        return self.raw[:KEY_BYTES]

    def __str__(self) -> str:
        return self.raw.hex().upper()


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_fields(text: str) -> list[str]:
    """Split at the colons that are not inside brackets, as in `[::1]:80:host:22`.

    The brackets themselves are dropped. Raises `ValueError` for a bracket that is not a
    whole field's.
    """
    fields: list[str] = []
    rest = text
    while True:
        if rest.startswith("["):
            inside, closed, after = rest[1:].partition("]")
            if not closed or (after and not after.startswith(":")):
                raise ValueError(f"expected [IPv6 address] followed by a colon in {text!r}")
            fields.append(str(ipaddress.IPv6Address(inside.partition("%")[0]) and inside))
            colon, rest = after[:1], after[1:]
        else:
            field, colon, rest = rest.partition(":")
            fields.append(field)
        if not colon:
            return fields


def parse_port(text: str, *, lowest: int = 1) -> int:
    """A decimal port number. Raises `ValueError` outside `lowest` to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ValueError(f"expected a port from {lowest} to 65535, found {text!r}")
    return int(text)


def parse_host(text: str) -> str:
    """A host name (any script) or a literal address without brackets, as ASCII.

    Raises `ValueError` for what is neither.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        name = text.encode("idna").decode("ascii") if not text.isascii() else text
    except UnicodeError:
        name = ""
    bare = name.removesuffix(".")
    if not 0 < len(name) <= 255 or not all(_NAME.fullmatch(label) for label in bare.split(".")):
        raise ValueError(f"expected a host name or an IP address, found {text!r}")
    return name


def parse_bind_host(text: str) -> str:
    """The local address of a listener; `*` is every address and becomes ""."""
    return "" if text == "*" else parse_host(text)


def parse_target(text: str) -> Target:
    """`host:port`, an IPv6 address in brackets. Raises `ValueError`."""
    fields = split_fields(text)
    if len(fields) != 2:
        raise ValueError(f"expected host:port, found {text!r}")
    return Target(parse_host(fields[0]), parse_port(fields[1]))


def parse_key(text: str) -> bytes:
    """A public key: 64 hexadecimal digits, or a whole Tox ID, of which the key is kept."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    return parse_tox_id(text).public_key


def parse_tox_id(text: str) -> ToxId:
    """A Tox ID: 76 hexadecimal digits whose checksum is right.

    The last two bytes are the exclusive or of all byte pairs before them (toxcore's
    `address_checksum`). Raises `ValueError`.
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{76}", text):
        raise ValueError(f"expected a Tox ID of 76 hexadecimal digits, found {len(text)} characters")
    raw = bytes.fromhex(text)
    checksum = bytearray(2)
    for i, byte in enumerate(raw):
        checksum[i % 2] ^= byte
    if any(checksum):
        raise ValueError("the Tox ID's checksum is wrong: a digit was mistyped or lost")
    return ToxId(raw)
