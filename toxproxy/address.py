"""Addresses as people write them: where to listen, where to connect, which server.

Each is parsed once, where it comes in, into a frozen value that is valid. Parsers raise `ValueError`
with what was expected and what was found. The caller adds the place, such as file and line.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import idna

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix:"  # before the path of a Unix socket, wherever an address may stand
UNIX_PORT = 1  # of a target that is a Unix socket; it means nothing
LISTEN = "listen:"  # before what a client asks its server to listen on; see `reverse.request`

KEY_BYTES = 32
TOX_ID_BYTES = 38  # public key 32, nospam 4, checksum 2 (Tox protocol, "Tox ID")

MAX_WORDS = 80  # characters of a peer's text that a log line repeats
_MAX_SHOWN = 60  # characters of a bad input that an error repeats

_MAX_UNIX_PATH = 107  # bytes (unix(7), sun_path)
_UNIX_PATH = re.compile(r"(?:/[!-+.0-9;-~-]+)+")  # no colon and no comma, which divide fields and items
_MODE = re.compile(r"0?[0-7]{3}")

_FIELD = re.compile(r"(?:\[(?=[^\[\]:]*:)(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^:\[\]]*))(?P<colon>:|\Z)")
_LITERAL = re.compile(r"[0-9A-Fa-f.:]+(%[A-Za-z0-9._~-]{1,15})?")  # with a zone (RFC 6874)
# Hyphens and underscores may be anywhere: DNS allows them (RFC 2181, section 11), and hosts with labels
# such as `user-` exist.
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_JOINERS = "\u200c\u200d"
_VISIBLE = re.compile(r"[!-~]{1,255}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_TOX_ID = re.compile(r"[0-9A-Fa-f]{76}")
_COMMENT = re.compile(r"\s#")
_TOX_URI = re.compile(r"tox:(?://)?(?=[0-9A-Fa-f])", re.IGNORECASE)  # other Tox programs copy an ID so


@dataclass(frozen=True, slots=True)
class Target:
    """Where the far end connects: a name or a literal address, without brackets, and a port.

    Or a Unix socket: then `host` is "unix:" and its path, and `port` is `UNIX_PORT`.

    `host` is 1 to 255 visible ASCII characters (RFC 1928's limit for a name); a name in another script
    is IDNA-encoded. `port` is 1 to 65535. An OPEN frame carries exactly this.

    Raises `ValueError` for anything else.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not _VISIBLE.fullmatch(self.host):
            raise ValueError(
                f"expected a host of 1 to 255 visible ASCII characters, found {shown(self.host)}"
            )
        if not isinstance(self.port, int) or not 1 <= self.port <= 65535:
            raise ValueError(f"expected a port from 1 to 65535, found {shown(str(self.port))}")

    def __str__(self) -> str:
        return join_host_port(self.host, self.port) if self.path is None else self.host

    @property
    def path(self) -> str | None:
        """The path of the Unix socket that this is, as the peer wrote it; None for a host."""
        return self.host.removeprefix(UNIX) if self.host.startswith(f"{UNIX}/") else None

    @property
    def asks_to_listen(self) -> bool:
        """Whether this is a client's request to listen, and no target."""
        return self.host.startswith(LISTEN)


@dataclass(frozen=True, slots=True)
class UdpTarget(Target):
    """The same for datagrams (UDP)."""

    def __str__(self) -> str:
        return f"{join_host_port(self.host, self.port)}/udp"


@dataclass(frozen=True, slots=True)
class OpenUdpTarget(UdpTarget):
    """A target of datagrams whose answers may come from another address or port than its own."""

    def __str__(self) -> str:
        return f"{join_host_port(self.host, self.port)}/udp+any"


def plain_address(text: str) -> Address:
    """An address without its zone; an IPv4-mapped one (`::ffff:a.b.c.d`) as IPv4. Raises `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: an address, or "" for every address of this machine. Port 0 takes a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host or "*", self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect to it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def clashes(self, other: Bind | UnixBind) -> bool:
        """Whether this and `other`, which has the same port, cannot both be bound."""
        if not isinstance(other, Bind):
            return False
        return self.host == other.host or self._covers(other) or other._covers(self)

    def _covers(self, other: Bind) -> bool:
        """Whether this is every address of `other`'s family."""
        return self.host == "" or self.host == ("::" if ":" in other.host else "0.0.0.0")


@dataclass(frozen=True, slots=True)
class UnixBind:
    """Where to listen: a Unix socket, and the mode of its file."""

    path: str
    mode: int = 0o600

    @property
    def is_loopback(self) -> bool:
        """Always true: only programs on this machine can connect to it."""
        return True

    def clashes(self, other: Bind | UnixBind) -> bool:
        """Whether this and `other` cannot both be bound."""
        return isinstance(other, UnixBind) and self.path == other.path

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class ToxId:
    """A Tox ID, 38 bytes. A client needs the server's to send it a friend request."""

    raw: bytes

    @property
    def public_key(self) -> bytes:
        """The first 32 bytes. They identify the node for good; the rest of the ID may change."""
        return self.raw[:KEY_BYTES]

    def __str__(self) -> str:
        return self.raw.hex().upper()


def shown(text: str, most: int = _MAX_SHOWN) -> str:
    """Somebody else's text, for a message: quoted, and cut after `most` characters."""
    return repr(text) if len(text) <= most else repr(text[:most]) + "…"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_fields(text: str) -> list[str]:
    """Split at the colons that are not inside brackets, as in `[::1]:80:host:22`.

    The brackets are dropped. Raises `ValueError` for brackets that are not around a whole field, or that
    have no colon inside.
    """
    fields: list[str] = []
    position = 0
    while field := _FIELD.match(text, position):
        fields.append(field["plain"] if field["bracketed"] is None else field["bracketed"])
        if not field["colon"]:
            return fields
        position = field.end()
    raise ValueError(f"expected brackets only around a whole IPv6 address, found {shown(text)}")


def parse_port(text: str, *, lowest: int = 1) -> int:
    """A decimal port number from `lowest` to 65535. Leading zeros are accepted. Raises `ValueError`."""
    match = re.fullmatch(r"0*([0-9]{1,5})", text)
    if match is None or not lowest <= int(match[1]) <= 65535:
        raise ValueError(f"expected a port from {lowest} to 65535, found {shown(text)}")
    return int(match[1])


def parse_port_range(text: str) -> tuple[int, int]:
    """The first and the last port of `8000-8100`; of `8000` both are the same. Raises `ValueError`."""
    first, dash, last = text.partition("-")
    ports = parse_port(first), parse_port(last if dash else first)
    if ports[0] > ports[1]:
        raise ValueError(f"expected the lower port first, found {shown(text)}")
    return ports


def parse_host(text: str) -> str:
    """A host name (any script) or a literal address without brackets, as ASCII.

    An address becomes its canonical spelling (RFC 5952). A name in another script is encoded as browsers
    encode it (UTS 46, non-transitional). A name whose last label is a number is refused, since resolvers
    take `127.1`, `0x7f.1` and `2130706433` for addresses. No top-level domain is a number (the "ends in a
    number" rule of the WHATWG URL standard).

    Raises `ValueError`.
    """
    if _LITERAL.fullmatch(text):
        with suppress(ValueError):
            return str(ipaddress.ip_address(text))
    name = _ascii(text)
    labels = name.removesuffix(".").split(".")
    if not 0 < len(name) <= 255 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"expected a host name or an IP address, found {shown(text)}")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError(f"expected an IPv4 address as four decimal numbers, found {shown(text)}")
    return name


def _ascii(name: str) -> str:
    """`name` itself if it is ASCII, else its encoding by UTS 46, non-transitional; "" if it has none.

    Python's `idna` codec is not used: by its older rules (RFC 3490) straße.de becomes strasse.de, another
    domain. Emoji are encoded, as in browsers, although IDNA 2008 does not allow them.
    """
    if name.isascii():
        return name
    try:
        mapped = idna.uts46_remap(name[:256], std3_rules=False, transitional=False)
        return ".".join(label if label.isascii() else _a_label(label) for label in mapped.split("."))
    except UnicodeError:
        return ""


def _a_label(label: str) -> str:
    """The label in Punycode. Raises `UnicodeError` if it breaks a rule about bidi, marks or joiners."""
    idna.check_bidi(label)
    idna.check_initial_combiner(label)
    for position, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, position):
            raise idna.InvalidCodepointContext("a joiner that joins nothing")
    return "xn--" + label.encode("punycode").decode("ascii")


def join_unix(fields: list[str]) -> list[str]:
    """The fields, with `unix` and the path behind it as one."""
    joined: list[str] = []
    for field in fields:
        if joined and joined[-1].lower() == UNIX[:-1] and field.startswith("/"):
            joined[-1] = UNIX + field
        else:
            joined.append(field)
    return joined


def is_unix(text: str) -> bool:
    """Whether a text is `unix:` and a path."""
    return text.startswith(f"{UNIX}/")


def parse_unix_path(text: str) -> str:
    """The absolute path in `unix:/path`. Raises `ValueError`, also for `.` and `..` in it."""
    path = text.removeprefix(UNIX)
    if not _UNIX_PATH.fullmatch(path) or len(path) > _MAX_UNIX_PATH or {".", ".."} & set(path.split("/")):
        raise ValueError(
            f"expected unix: and an absolute path of at most {_MAX_UNIX_PATH} visible ASCII characters, "
            f"without a colon, a comma, and parts that are `.` or `..`, found {shown(text)}"
        )
    return path


def parse_unix_target(text: str) -> Target:
    """The Unix socket `unix:/path` at the far end. Raises `ValueError`."""
    return Target(UNIX + parse_unix_path(text), UNIX_PORT)


def parse_unix_bind(text: str) -> UnixBind:
    """`unix:/path` or `unix:/path,mode=660`, the mode in octal. Raises `ValueError`."""
    path, comma, option = text.partition(",")
    if not comma:
        return UnixBind(parse_unix_path(path))
    key, _, mode = option.partition("=")
    if key != "mode" or not _MODE.fullmatch(mode):
        raise ValueError(
            f"expected mode=600, or another mode in octal, behind the comma, found {shown(option)}"
        )
    return UnixBind(parse_unix_path(path), int(mode, 8))


def parse_bind_host(text: str) -> str:
    """The local address of a listener. `*`, every address, becomes "". Raises `ValueError`."""
    return "" if text == "*" else parse_host(text)


def parse_target(text: str) -> Target:
    """`host:port`, an IPv6 address in brackets. Raises `ValueError`."""
    fields = split_fields(text)
    if len(fields) != 2:
        raise ValueError(f"expected host:port (an IPv6 address in brackets), found {shown(text)}")
    return Target(parse_host(fields[0]), parse_port(fields[1]))


def parse_proxy_url(text: str, *schemes: str) -> SplitResult:
    """`scheme://[user:password@]host:port` with one of the schemes, a port from 1 to 65535 and no path.

    Raises `ValueError`. The error does not repeat the text, which may hold a password.
    """
    with suppress(ValueError):
        url = urlsplit(text)
        parse_host(url.hostname or "")
        if url.scheme in schemes and url.port and url.path in ("", "/") and not url.query + url.fragment:
            return url
    expected = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    raise ValueError(f"expected {expected}, found something else")


def parse_public_key(text: str) -> bytes:
    """A public key: 64 hexadecimal digits. Raises `ValueError`."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"expected a public key of 64 hexadecimal digits, found {shown(text)}")
    return _possible(bytes.fromhex(text))


def _bare(text: str) -> str:
    """A key or an ID without the `tox:` of a URI."""
    scheme = _TOX_URI.match(text)
    return text[scheme.end() :] if scheme else text


def split_listener(text: str) -> list[str]:
    """As `split_fields`; the last field is a Tox ID and may be a URI, with `tox:` before it."""
    *fields, last = split_fields(text)
    if fields and fields[-1].lower() == "tox":
        *fields, last = *fields[:-1], last.removeprefix("//")
    return [*fields, last]


def is_possible_key(key: bytes) -> bool:
    """Whether libtoxcore accepts the key (`public_key_valid`): 32 bytes, the highest bit of the last 0.

    Curve25519 ignores that bit. With the bit set, a second key would stand for the same node; no node
    uses it.
    """
    return len(key) == KEY_BYTES and not key[-1] & 0x80


def _possible(key: bytes) -> bytes:
    if not is_possible_key(key):
        raise ValueError("this cannot be a Tox key: the 63rd digit of one is 0 to 7; is it from an example?")
    return key


def parse_key(text: str) -> bytes:
    """A public key of 64 hexadecimal digits, or the key of a whole Tox ID.

    Either may be a URI, with `tox:` before it. Raises `ValueError`.
    """
    text = _bare(text)
    if _KEY.fullmatch(text):
        return _possible(bytes.fromhex(text))
    if _TOX_ID.fullmatch(text):
        return parse_tox_id(text).public_key
    raise ValueError(f"expected a public key of 64 hexadecimal digits or a Tox ID of 76, found {shown(text)}")


def parse_tox_id(text: str) -> ToxId:
    """A Tox ID: 76 hexadecimal digits whose checksum is right.

    The checksum, the last two bytes, is the exclusive or of all byte pairs before it (toxcore's
    `address_checksum`). The ID may be a URI, with `tox:` before it. Raises `ValueError`.
    """
    text = _bare(text)
    if _COMMENT.search(text):
        raise ValueError("expected a Tox ID, found one with `#` behind it: begin a comment with `;`")
    if _KEY.fullmatch(text):
        raise ValueError("expected a whole Tox ID of 76 hexadecimal digits, found a public key of 64")
    if not _TOX_ID.fullmatch(text):
        raise ValueError(f"expected a Tox ID of 76 hexadecimal digits, found {len(text)} characters")
    raw = bytes.fromhex(text)
    checksum = bytearray(2)
    for i, byte in enumerate(raw):
        checksum[i % 2] ^= byte
    if any(checksum):
        raise ValueError("expected a Tox ID whose checksum is right, found one with a digit mistyped or lost")
    _possible(raw[:KEY_BYTES])
    return ToxId(raw)
