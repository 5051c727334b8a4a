"""The command line.

Exit status: 0 for success, also after a signal to stop; 1 for a failure; 2 for a command line or a
configuration that cannot be used. `toxproxy connect` has more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. argparse exits itself: with 2, or with 0 after --help."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] == "connect":  # ssh waits for it: nothing else is imported where it works
        from toxproxy.cli.connect import quick

        if (status := quick(arguments[1:])) is not None:
            return status
    from toxproxy.cli import dispatch

    return dispatch.main(arguments)
