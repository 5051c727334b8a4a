"""Keeps libtoxcore from pinning the memory of every packet.

libtoxcore (0.2.18, `crypto_malloc`) locks two buffers with mlock(2) for each packet that it
encrypts or decrypts and unlocks them again, which takes a third of the time of a transfer. The
buffers hold what the process keeps elsewhere in ordinary memory anyway; no key is locked so. A
process that may not lock memory is told so at once, and libtoxcore goes on without.
"""

from __future__ import annotations

import ctypes
import resource
import struct
import sys

_CAP_IPC_LOCK = 14  # linux/capability.h: locking memory in spite of the limit
_CAPABILITY_VERSION_3 = 0x20080522


def forbid_locking() -> None:
    """Give up the right to lock memory, for this process and what it starts. Has no effect beyond Linux."""
    if not sys.platform.startswith("linux"):
        return
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, most))
    _drop_capability()


def _drop_capability() -> None:
    """Root may lock whatever the limit says, until it gives up the capability (capset(2))."""
    libc = ctypes.CDLL(None)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: twice 32 bits each
    if libc.capget(header, data) == 0:
        sets = list(struct.unpack("6I", data.raw))
        sets[0] &= ~(1 << _CAP_IPC_LOCK)
        libc.capset(header, struct.pack("6I", *sets))
