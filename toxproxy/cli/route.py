"""`toxproxy route` and `toxproxy pac`: the rules of [route], for people and for browsers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from toxproxy import config
from toxproxy.address import Bind, join_host_port
from toxproxy.cli.asking import ask, read, say, say_json
from toxproxy.config.exits import own_ports
from toxproxy.control.snapshots import RouteSnapshot, WayKind, WaySnapshot
from toxproxy.program.logs import Console
from toxproxy.routing.pac import script


def route_command(args: argparse.Namespace, console: Console) -> int:
    """Say which rule decides about a target."""
    result = ask(args, "route", host=args.host, port=args.port)
    if args.json:
        say_json(result)
        return 0
    for line in lines(read(RouteSnapshot, result)):
        say(line)
    return 0


def lines(route: RouteSnapshot) -> Iterator[str]:
    """What a snapshot says, in sentences."""
    if route.rule is None:
        yield f"{route.target}: no rule of [route] is about it, so each proxy port goes its own way."
    else:
        what = {WayKind.DIRECT: "leaves from this machine", WayKind.REJECT: "is rejected"}
        yield f"{route.target}: {what.get(route.kind, 'leaves')} by [route] {route.rule} (line {route.line})."
    for way in route.ways:
        yield f"  {'every other port' if way.port is None else way.port}: {_way(way)}"


def _way(way: WaySnapshot) -> str:
    text = f"through {way.servers[0]}" if len(way.servers) == 1 else f"in order {', '.join(way.servers)}"
    if way.chosen is None:
        return f"{text}; none is there now"
    return text if len(way.servers) == 1 else f"{text}; now {way.chosen}"


def pac_command(args: argparse.Namespace, console: Console) -> int:
    """Print the script for a browser."""
    settings = config.load(args.config)
    own = own_ports(settings)
    binds = [port.bind for port in settings.proxies if port.name not in own]
    places = [
        join_host_port(bind.host or "127.0.0.1", bind.port)
        for bind in binds
        if isinstance(bind, Bind) and bind.port
    ]
    sys.stdout.write(script(places, settings.routes))
    return 0
