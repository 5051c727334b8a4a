"""The rules of [route]: which way a proxy's connection leaves. The first that matches decides.

A rule is a host, with a port or without: `*.lan`, `10.0.0.0/8`, `[2001:db8::/32]:443`, `*:25`. Hosts are
those of `permit` (see `rules`). Names are never looked up for it: a rule for a name matches names only, one
for a network literal addresses only. `private` and `self` mean what they do on every machine. The word
`default` is for what no rule matches, wherever it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from toxproxy.address import Target, ToxId, is_unix, shown
from toxproxy.rules import Rule, parse_rule

DEFAULT = "default"

_PORTS = re.compile(r":(\*|[0-9]+(-[0-9]+)?)")


class Way(Enum):
    """A way that leads through no server."""

    DIRECT = "direct"  # from this machine
    REJECT = "reject"  # nowhere


@dataclass(frozen=True, slots=True)
class Route:
    """A line of [route]. `rule` is None for `default`. `way` may be servers, in order."""

    name: str  # as in the file
    rule: Rule | None
    way: Way | tuple[ToxId, ...]
    line: int = 0

    def matches(self, target: Target) -> bool:
        """Whether this decides about `target` where nothing before it does."""
        return self.rule is None or self.rule.matches(target)


@dataclass(frozen=True, slots=True)
class Routes:
    """All rules, in the file's order."""

    lines: tuple[Route, ...] = ()

    @property
    def in_turn(self) -> tuple[Route, ...]:
        """The rules in the order in which they decide: `default` is the last."""
        return tuple(sorted(self.lines, key=lambda route: route.rule is None))

    def decide(self, target: Target) -> Route | None:
        """The rule for `target`; None: no rule is about it."""
        return next((route for route in self.in_turn if route.matches(target)), None)

    @property
    def servers(self) -> tuple[ToxId, ...]:
        """Every server that a rule names, perhaps more than once."""
        return tuple(server for route in self.lines if isinstance(route.way, tuple) for server in route.way)


def parse_pattern(text: str) -> Rule | None:
    """The left side of a line. Raises `ValueError`."""
    if text == DEFAULT:
        return None
    if is_unix(text):
        raise ValueError(f"expected a host, a network or default, found {shown(text)}")
    bare = "" if text.endswith("]") else text.rpartition("]")[2]
    return parse_rule(text if _PORTS.search(bare) else f"{text}:*")
