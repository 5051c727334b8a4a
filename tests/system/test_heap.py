"""Free memory that the C library has kept goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from toxproxy.system import heap

HOLES = """
import os
from pathlib import Path
from toxproxy.system import heap

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

heap.trim()
before = memory()
blocks = [bytes(10_000) for _ in range(10_000)]
few = blocks[::100] + blocks[-1:]  # the last one keeps the top of the heap
del blocks
full = memory()
heap.trim()
print(full - before, memory() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_free_memory_of_the_heap_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    full, trimmed = map(int, done.stdout.split())
    assert full > 50_000_000
    assert trimmed < 10_000_000


def test_a_c_library_that_keeps_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of Alpine, musl, has no malloc_trim."""
    heap._library.cache_clear()
    monkeypatch.setattr(heap._ffi, "dlopen", lambda _: object())
    try:
        heap.trim()
        assert heap._library() is None
    finally:
        heap._library.cache_clear()
