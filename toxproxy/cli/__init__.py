"""The command line.

Exit status: 0 for success, also after a signal to stop; 1 for a failure; 2 for a command line or a
configuration that cannot be used.
"""

from toxproxy.cli.dispatch import main

__all__ = ["main"]
