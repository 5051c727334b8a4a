"""`toxproxy speedtest`."""

from __future__ import annotations

import argparse

from toxproxy.cli.asking import asked, read, say, say_json
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.control.speeds import SpeedPhase, SpeedSnapshot
from toxproxy.errors import ToxproxyError
from toxproxy.program import speed
from toxproxy.program.logs import Console


def speedtest_command(args: argparse.Namespace, console: Console) -> int:
    """Measure the path to a server in both directions."""
    if args.role is None and args.state is None:
        args.role = "client"
    try:
        for result in asked(args, "speedtest", peer=args.peer, seconds=args.seconds):
            shot = read(SpeedSnapshot, result)
            if console.live:
                console.show("" if shot.phase is SpeedPhase.FINISHED else speed.bar(shot))
            if args.json:
                say_json(result)
            elif shot.phase is SpeedPhase.FINISHED:
                for line in speed.lines(shot):
                    say(line)
    except ControlError as error:
        if error.code is ErrorCode.UNKNOWN_METHOD:
            raise ToxproxyError("a speed test is started at the client: this is the server") from None
        raise
    finally:
        console.show("")
    return 0
