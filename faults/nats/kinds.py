"""Kinds of NAT: what the router of a home does. Pure.

The names are those of RFC 3489, since people know them. RFC 4787 calls the full cone a mapping and a
filtering that are independent of the other end, the symmetric one a mapping that depends on it.

A router has two devices: `link` leads to the home, `out` to the internet. A packet from outside that
belongs to nothing is dropped before it leaves a trace. That matters: a Linux router that answers it, or
takes it for itself, keeps an entry for it. What the home then sends to the same place finds its port
taken and gets another one, so that two such routers never let each other in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Helper(Enum):
    """A program that the router runs."""

    IGD = auto()  # miniupnpd, UPnP IGD only
    PCP = auto()  # miniupnpd, PCP and NAT-PMP only
    PROXY = auto()  # an HTTP proxy that knows CONNECT, on port 3128


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a router does, in the statements of nftables.

    `mapping` is a rule for packets that leave, and names their new source; what it does not cover gets
    the router's address and, if it is free, the same port. It is "" for a router without NAT.
    `entering` is a rule for packets that arrive and belong to nothing yet, and names who gets them.
    `noted` are rules that keep what the router needs for that. `limits` are rules for what is forwarded.
    `idle`: seconds without a packet after which a UDP mapping ends. `carrier` is the kind of the second
    router that the home is behind, with 100.64.0.0/10 between the two. `only_port` is the one TCP port
    that is let out, 0 if there are more.
    """

    text: str
    mapping: str = "masquerade"
    entering: str = ""
    noted: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    idle: int = 120
    only_port: int = 0
    helper: Helper | None = None
    carrier: Kind | None = None

    @property
    def translates(self) -> bool:
        """Whether the home has private addresses."""
        return bool(self.mapping)

    def ruleset(self) -> str:
        """The whole ruleset of the router, for `nft -f`."""
        rules = [*self.noted, *self.limits]
        if self.translates:
            rules.append('iifname "out" ct state new ct status & dnat == 0 drop')
        entering = f"iifname out {self.entering}" if self.entering else ""
        mapping = f"oifname out {self.mapping}\noifname out masquerade" if self.mapping else ""
        return _RULESET.format(forward="\n".join(rules), entering=entering, mapping=mapping)


# `inside` says who in the home has an outer port, `met` whom it has sent something to. Each entry is
# renewed by every packet that leaves, and stays as long as a mapping.
_RULESET = """\
table ip home {{
    map inside {{ type inet_service : ipv4_addr . inet_service; timeout 2m; }}
    set met {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout 2m; }}
    chain forward {{
        type filter hook forward priority filter;
        {forward}
    }}
    chain input {{
        type filter hook input priority filter;
        iifname "out" ct state new drop
    }}
    chain entering {{
        type nat hook prerouting priority dstnat;
        {entering}
    }}
    chain leaving {{
        type nat hook postrouting priority srcnat;
        {mapping}
    }}
}}
"""

_LEAVES = 'iifname "link" oifname "out" meta l4proto udp'
_INSIDE = f"{_LEAVES} update @inside {{ udp sport : ip saddr . udp sport }}"
_MET = f"{_LEAVES} update @met {{ udp sport . ip daddr }}"
_TO_INSIDE = "dnat ip to udp dport map @inside"

# A map, since a plain number would be written with its bytes swapped.
_COUNTED = 2000
_PORTS = ", ".join(f"{number} : {number + 20000}" for number in range(_COUNTED))

_PORT_RESTRICTED = Kind(
    text="port-restricted cone, as Linux does: who was sent to, from that port, may answer"
)

KINDS = {
    "open": Kind(text="no NAT, a public address", mapping=""),
    "full-cone": Kind(
        text="one outer port for all; anyone may send to it", noted=(_INSIDE,), entering=_TO_INSIDE
    ),
    "restricted": Kind(
        text="one outer port for all; who was sent to may answer, from any port",
        noted=(_INSIDE, _MET),
        entering=f"udp dport . ip saddr @met {_TO_INSIDE}",
    ),
    "cone": _PORT_RESTRICTED,
    "symmetric": Kind(
        text="another outer port for each address, at random",
        mapping="masquerade random,fully-random",
    ),
    "counting": Kind(
        text="another outer port for each address, the next one",
        mapping=f"meta l4proto udp masquerade to :numgen inc mod {_COUNTED} map {{ {_PORTS} }}",
    ),
    "carrier": replace(
        _PORT_RESTRICTED,
        text="a cone behind the carrier's, 100.64.0.0/10 between the two",
        carrier=_PORT_RESTRICTED,
    ),
    "no-udp": Kind(text="a cone that drops UDP", limits=("meta l4proto udp drop",)),
    "short": Kind(text="a cone whose UDP mappings end after 30 s without a packet", idle=30),
    "policed": Kind(
        text="a cone that drops UDP above 4 Mbit/s, each way",
        limits=tuple(
            f"iifname {device} meta l4proto udp limit rate over 500 kbytes/second burst 64 kbytes drop"
            for device in ("link", "out")
        ),
    ),
    "only-443": Kind(
        text="a cone that lets out TCP to port 443 only",
        limits=('iifname "link" meta l4proto != tcp drop', 'iifname "link" tcp dport != 443 drop'),
        only_port=443,
    ),
    "proxy": Kind(
        text="nothing gets out; an HTTP proxy that knows CONNECT does",
        limits=('iifname "link" drop',),
        helper=Helper.PROXY,
    ),
    "igd": replace(_PORT_RESTRICTED, text="a cone that maps ports by UPnP IGD", helper=Helper.IGD),
    "pcp": replace(_PORT_RESTRICTED, text="a cone that maps ports by PCP and NAT-PMP", helper=Helper.PCP),
}
