"""Targets: a client's request to listen beside the patterns that permit it, and what a server answers."""

from __future__ import annotations

from contextlib import suppress

from toxproxy.address import LISTEN, Bind, UnixBind
from toxproxy.config.listen import parse_listen, permitted
from toxproxy.reverse.request import parse_listener, parse_request, parse_told, told
from toxproxy.rules import Rule

_MOST = 20  # patterns


def listen(data: bytes) -> None:
    """Patterns, one a line, and a request on the last line. What `*` alone permits, no other need permit."""
    *lines, asked = data.decode(errors="replace").split("\n")
    patterns: list[Rule] = []
    for line in lines[:_MOST]:
        with suppress(ValueError):
            patterns.append(parse_listen(line))
    assert [parse_listen(str(each)) for each in patterns] == patterns
    with suppress(ValueError):
        request = parse_request(asked)
        assert parse_request(request.target.host) == request
        rule = permitted(patterns, request.bind, udp=request.udp)
        assert rule is None or permitted((rule,), request.bind, udp=request.udp) is rule
        if isinstance(request.bind, UnixBind):
            assert rule is None or str(rule) == str(request.bind)
        elif request.bind == Bind("", request.bind.port):
            assert rule is None or rule.host == "*"
        assert request.target.asks_to_listen
        assert permitted((), request.bind, udp=request.udp) is None
    number = parse_listener(asked)
    assert number is None or 0 < number < 10**10
    assert number is None or not asked.startswith(LISTEN)


def told_addresses(data: bytes) -> None:
    """What a server tells is addresses without a space, or an error."""
    with suppress(ValueError):
        assert told(parse_told(data)) == data + b"\n"
