"""Runs the command that a command line names, and tells how it went."""

from __future__ import annotations

import argparse
import io
import logging
import sys
import traceback
from collections.abc import Callable, Sequence

from toxproxy.cli.parser import make_parser
from toxproxy.errors import ConfigError, ToxproxyError
from toxproxy.program.logs import Console, escaped, logging_to

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. argparse exits itself: with 2, or with 0 after --help."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack a character, as on a pipe of Windows
        sys.stdout.reconfigure(errors="backslashreplace")
    with logging_to(sys.stderr, debug=args.verbose > 0, as_json=args.log_format == "json") as console:
        try:
            run: Callable[[argparse.Namespace, Console], int] = args.run
            return run(args, console)
        except KeyboardInterrupt:  # before the event loop handles signals
            return 1
        except (ToxproxyError, OSError) as error:
            if args.verbose > 1:
                traceback.print_exc()
            _complain(error, as_json=args.log_format == "json")
            return 2 if isinstance(error, ConfigError) else 1


def _complain(error: Exception, *, as_json: bool) -> None:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if as_json:
        log.error("%s", text)
    else:
        print(f"toxproxy: {escaped(text)}", file=sys.stderr)
