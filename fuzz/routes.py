"""Target: the rules of [route], one a line, and a target on the last line."""

from __future__ import annotations

import re
from contextlib import suppress

from toxproxy.address import Target, parse_target
from toxproxy.routing.pac import script
from toxproxy.routing.routes import Route, Routes, Way, parse_pattern

_MOST = 50  # rules
# A line of the script for one rule: nothing in it ends a text or a comment of JavaScript's.
_LINE = re.compile(r'  if \(([ -!#-~]|"[^"\\]*")+\) return "(DIRECT|SOCKS5 x; PROXY x)";')
_HEAD, _TAIL = 6, 3  # lines of the script that are not of a rule


def routes(data: bytes) -> None:
    """A rule is parsed, or is an error; written, it means the same. The first that matches decides."""
    *lines, asked = data.decode(errors="replace").split("\n")
    found = []
    for line in lines[:_MOST]:
        with suppress(ValueError):
            rule = parse_pattern(line)
            found.append(Route(line, rule, Way.DIRECT if len(found) % 2 else Way.REJECT))
    for route in found:
        assert route.rule is None or parse_pattern(str(route.rule)) == route.rule
    known = Routes(tuple(found))
    if found:
        for line in script(["x"], known).splitlines()[_HEAD:-_TAIL]:
            assert _LINE.fullmatch(line), line
    with suppress(ValueError):
        _decide(known, parse_target(asked))


def _decide(known: Routes, target: Target) -> None:
    matching = [route for route in known.lines if route.rule is not None and route.rule.matches(target)]
    rest = [route for route in known.lines if route.rule is None]
    assert known.decide(target) == next(iter(matching + rest), None)
