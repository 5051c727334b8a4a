"""`toxproxy invite` and `toxproxy join`."""

from __future__ import annotations

import argparse

from toxproxy.program.logs import Console
from toxproxy.system.state import default_path


def invite_command(args: argparse.Namespace, console: Console) -> int:
    """Let another machine in by six words."""
    from toxproxy.program import pairing  # what it needs is loaded for these two commands only

    folder = args.state or default_path("server")
    return 0 if pairing.invite(folder, args.config, console) else 1


def join_command(args: argparse.Namespace, console: Console) -> int:
    """Be let in by the words of an invitation."""
    from toxproxy.program import pairing

    folder, words = args.state or default_path("client"), " ".join(args.words)
    joined = pairing.join(folder, words, console, output=args.output, port=args.port, tox=args.tox)
    return 0 if joined else 1
