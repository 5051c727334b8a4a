"""Keeps libtoxcore from pinning the memory of every packet.

libtoxcore (0.2.18, `crypto_malloc`) locks two buffers with mlock(2) for each packet that it
encrypts or decrypts and unlocks them again, which takes a third of the time of a transfer. The
buffers hold what the process keeps elsewhere in ordinary memory anyway; no key is locked so. A
process that may not lock memory is told so at once, and libtoxcore goes on without.
"""

from __future__ import annotations

import resource
import sys

from toxproxy.system.privileges import CAP_IPC_LOCK, drop_capability


def forbid_locking() -> None:
    """Give up the right to lock memory, for this process and what it starts. Has no effect beyond Linux."""
    if not sys.platform.startswith("linux"):
        return
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, most))
    drop_capability(CAP_IPC_LOCK)  # with it the limit says nothing
