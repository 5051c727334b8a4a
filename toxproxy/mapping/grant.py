"""What a router grants, or why it does not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from toxproxy.errors import ToxproxyError

LONGEST = 86_400  # seconds of a lifetime that are believed


class By(Enum):
    """The protocol by which a router was asked. The values are for people."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


class Failure(Enum):
    """Why there is no mapping. The first ones tell most."""

    REFUSED = "refused"
    TAKEN = "taken"  # the external port is another host's
    NONSENSE = "nonsense"  # an answer that makes no sense
    UNSUPPORTED = "unsupported"
    UNREACHABLE = "unreachable"  # the protocol is not spoken there
    SILENT = "silent"


class Progress(Enum):
    """How far the asking for a mapping is."""

    ASKING = "asking"
    MAPPED = "mapped"
    NO_ROUTER = "no_router"  # that could be asked: there is no IPv4 gateway
    NOT_NEEDED = "not_needed"  # this machine has a public address itself
    FAILED = "failed"


class MappingError(ToxproxyError):
    """A router grants no mapping. `code` is its own number for the reason, where it gave one.

    `by` is the protocol, where one was asked.
    """

    def __init__(self, failure: Failure, code: int | None = None) -> None:
        super().__init__(failure.value if code is None else f"{failure.value} ({code})")
        self.failure = failure
        self.code = code
        self.by: By | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """An external address and UDP port that lead here, for `lifetime` seconds.

    `epoch` is the router's clock in seconds: it begins anew when the router forgets its mappings. None
    where the protocol has none.
    """

    address: IPv4Address
    port: int
    lifetime: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """An external address and UDP port that lead to the node's port.

    `expires` is in seconds of `time.monotonic`; before that the mapping is renewed, so a later value may
    follow.
    """

    address: IPv4Address
    port: int
    by: By
    expires: float

    @property
    def public(self) -> bool:
        """Whether the address is of the internet. If not, another NAT is in front of the router."""
        return self.address.is_global


def checked(address: IPv4Address, port: int, lifetime: int, epoch: int | None = None) -> Grant:
    """A grant of plausible values. Raises `MappingError` for an address or port that can be nobody's."""
    useless = (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_reserved
        or address.is_link_local
    )
    if useless or not 0 < port < 65536 or lifetime <= 0:
        raise MappingError(Failure.NONSENSE)
    return Grant(address, port, min(lifetime, LONGEST), epoch)
