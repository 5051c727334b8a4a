"""What a process gives up before strangers can speak to it. All of it has an effect on Linux only.

- Its memory is not for others: no core dump, no debugger and no /proc/PID/mem for another program
  of the same user (prctl(2), PR_SET_DUMPABLE). Root can look all the same.
- Rights of root that it does not need, and those that a program it starts could get (capabilities(7),
  PR_SET_NO_NEW_PRIVS).

Nothing of this can be taken back.
"""

from __future__ import annotations

import ctypes
import resource
import struct
import sys
from collections.abc import Collection

CAP_NET_BIND_SERVICE = 10  # linux/capability.h: ports below 1024
CAP_IPC_LOCK = 14  # locking memory in spite of the limit

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def close_memory() -> None:
    """Keep other programs of this user out of this process's memory, which holds keys and secrets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def keep_capabilities(kept: Collection[int]) -> None:
    """Give up every capability but these, here and in what this process starts."""
    mask = sum(1 << number for number in kept)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _mask_capabilities(mask)


def drop_capability(number: int) -> None:
    """Give up one capability."""
    _mask_capabilities(~(1 << number))


def _mask_capabilities(mask: int) -> None:
    """Keep what is in the mask and is there (capset(2)); for this thread and those it starts."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: the low 32 bits, the high
    if libc.capget(header, data) == 0:
        halves = mask & 0xFFFFFFFF, mask >> 32 & 0xFFFFFFFF
        sets = [bits & halves[number // 3] for number, bits in enumerate(struct.unpack("6I", data.raw))]
        libc.capset(header, struct.pack("6I", *sets))


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)
