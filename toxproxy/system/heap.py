"""Memory that the C library keeps for later, given back to the system.

glibc keeps what was freed for later. After 3,000 connections a process held 110 MB, 60 MB of it free
memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cffi

_ffi = cffi.FFI()
_ffi.cdef("int malloc_trim(size_t pad);")


def trim() -> None:
    """Give back what can be (malloc_trim(3), glibc only); takes some milliseconds."""
    if (library := _library()) is not None:
        library.malloc_trim(0)


@cache
def _library() -> Any:
    try:
        library: Any = _ffi.dlopen(None)
        library.malloc_trim  # noqa: B018
    except (OSError, AttributeError):  # another C library
        return None
    return library
