"""`toxproxy top`."""

from __future__ import annotations

import argparse
import sys
import time

from toxproxy.cli.asking import ask, fields, read, say_json
from toxproxy.control.encoding import encoded
from toxproxy.control.snapshots import Snapshot, StreamSnapshot
from toxproxy.errors import ToxproxyError
from toxproxy.program.live import LiveList
from toxproxy.program.logs import Console

INTERVAL = 1.0  # seconds


def top_command(args: argparse.Namespace, console: Console) -> int:
    """Show the connections and their rates, until it is ended. A key closes the chosen one."""
    try:
        if args.json:
            _print(args)
        elif sys.stdin.isatty() and sys.stdout.isatty():
            look(args)  # an end that does not run is told of before the screen is cleared
            _screen(args)
        else:
            raise ToxproxyError("top needs a terminal; without one: toxproxy streams, or top --json")
    except KeyboardInterrupt:
        pass
    return 0


def _screen(args: argparse.Namespace) -> None:
    try:
        from toxproxy.cli import screen  # loaded only here: not every Python has curses
    except ImportError:
        raise ToxproxyError("this Python has no curses: toxproxy streams, or top --json") from None
    screen.show(args)


def _print(args: argparse.Namespace) -> None:
    live = LiveList()
    while True:
        count = update(args, live)
        say_json({"streams": [_flat(each) for each in encoded(live.streams)], "count": count})
        time.sleep(INTERVAL)


def _flat(live: dict[str, object]) -> dict[str, object]:
    stream = live.pop("stream")
    assert isinstance(stream, dict)
    return {**stream, **live}


def look(args: argparse.Namespace) -> Snapshot:
    """The end that runs here."""
    return read(Snapshot, ask(args, "status"))


def update(args: argparse.Namespace, live: LiveList) -> int:
    """Look at the connections. Returns how many there are; 10,000 at most are in the list."""
    result = fields(ask(args, "streams"))
    live.update([read(StreamSnapshot, each) for each in result["streams"]], time.monotonic())
    return int(result["count"])
