"""Rights that this process gives up for good. On macOS only the core dump goes, on Windows nothing.

- Its memory is closed to the user's other programs: no core dump, no debugger, no /proc/PID/mem
  (prctl(2), PR_SET_DUMPABLE). Root can still look.
- The capabilities of root that it does not need, here and in programs that it starts
  (capabilities(7), PR_SET_NO_NEW_PRIVS).
- The right to lock memory, which only slows libtoxcore down.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Collection

if sys.platform != "win32":
    import resource

CAP_NET_BIND_SERVICE = 10  # linux/capability.h: ports below 1024
CAP_IPC_LOCK = 14  # locking memory in spite of RLIMIT_MEMLOCK

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def close_memory() -> None:
    """Keep the user's other programs out of this process's memory, which holds keys and secrets."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def keep_capabilities(kept: Collection[int]) -> None:
    """Give up all capabilities except `kept`, here and in programs that this process starts."""
    mask = sum(1 << number for number in kept)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _mask_capabilities(mask)


def forbid_memory_locking() -> None:
    """Give up the right to lock memory, here and in programs that this process starts.

    libtoxcore 0.2.18 locks two buffers with mlock(2) for each packet (`crypto_malloc`), which takes a
    third of the time of a transfer. The buffers hold nothing that is not in ordinary memory too, and
    no key. Where mlock(2) fails, libtoxcore goes on without it.
    """
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, most))
        _mask_capabilities(~(1 << CAP_IPC_LOCK))  # with this capability the limit has no effect


def _mask_capabilities(mask: int) -> None:
    """Give up the capabilities that are not in `mask` (capset(2)), for this thread and those it starts."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: the low 32 bits, the high
    if libc.capget(header, data) == 0:
        halves = mask & 0xFFFFFFFF, mask >> 32 & 0xFFFFFFFF
        sets = [bits & halves[number // 3] for number, bits in enumerate(struct.unpack("6I", data.raw))]
        libc.capset(header, struct.pack("6I", *sets))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)
