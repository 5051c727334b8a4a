"""`toxproxy status`, `ping`, `streams` and `close`."""

from __future__ import annotations

import argparse
import sys

from toxproxy.cli.asking import ask, asked, fields, read, say, say_json
from toxproxy.cli.guide import more_about
from toxproxy.control.findings import findings
from toxproxy.control.snapshots import PathKind, PongSnapshot, Snapshot, StreamSnapshot
from toxproxy.program import report
from toxproxy.program.amounts import counted, duration, size
from toxproxy.program.logs import Console
from toxproxy.system.terminal import controllable

_CLEAR = "\x1b[H\x1b[2J"  # to the top, and erase the display (ECMA-48, CUP and ED)
_PINGS, _PINGS_UNTIL_DIRECT = 4, 60


def status_command(args: argparse.Namespace, console: Console) -> int:
    """Say what is connected and how, or why not."""
    if not args.watch:
        _show(args, ask(args, "status"))
        return 0
    clear = not args.json and controllable(sys.stdout)
    try:
        for number, result in enumerate(asked(args, "watch")):
            if clear:
                print(_CLEAR, end="")
            elif number and not args.json:
                say()
            _show(args, result)
    except KeyboardInterrupt:
        pass
    return 0


def _show(args: argparse.Namespace, result: object) -> None:
    if args.json:
        say_json(result)
        return
    snapshot = read(Snapshot, result)
    for line in report.lines(snapshot, verbose=args.verbose > 0):
        say(line)
    found = findings(snapshot)
    if found and (more := more_about(found[0].kind.value)) is not None:
        say(f"\n{more}")


def ping_command(args: argparse.Namespace, console: Console) -> int:
    """Measure the round trip to the other end."""
    count = args.count
    if count is None:
        count = _PINGS_UNTIL_DIRECT if args.until_direct else _PINGS
    reached = False
    for result in asked(args, "ping", peer=args.peer, count=count, until_direct=args.until_direct):
        pong = read(PongSnapshot, result)
        answered = pong.rtt_ms is not None
        reached = reached or (answered and (pong.path is PathKind.DIRECT or not args.until_direct))
        if args.json:
            say_json(result)
        else:
            say(report.pong_line(pong))
    return 0 if reached else 1


def streams_command(args: argparse.Namespace, console: Console) -> int:
    """List the connections through the tunnel."""
    result = fields(ask(args, "streams"))
    if args.json:
        say_json(result)
        return 0
    streams = [read(StreamSnapshot, each) for each in result["streams"]]
    for stream in streams:
        say(
            f"{stream.id}  {stream.target}  {stream.state.value} for {duration(stream.age_s)}, "
            f"sent {size(stream.sent_bytes)}, received {size(stream.received_bytes)}"
        )
    if not streams:
        say("no connections")
    elif (left := result["count"] - len(streams)) > 0:
        say(f"and {counted(left, 'more connection')}")
    return 0


def close_command(args: argparse.Namespace, console: Console) -> int:
    """Reset a connection through the tunnel."""
    result = fields(ask(args, "close", id=args.id))
    if args.json:
        say_json(result)
    else:
        say(f"the connection to {result['target']} is closed")
    return 0
