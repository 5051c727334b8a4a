"""A process that has given up locking memory, as root or not."""

from __future__ import annotations

import subprocess
import sys

import pytest

_TRY = """
import ctypes
from toxproxy.system.privileges import forbid_memory_locking
libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(4096)
before = libc.mlock(buffer, 4096)
libc.munlock(buffer, 4096)
forbid_memory_locking()
forbid_memory_locking()
print(before, libc.mlock(buffer, 4096))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and capabilities of Linux")
def test_memory_cannot_be_locked_afterwards() -> None:
    tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, check=True)
    before, after = tried.stdout.split()
    assert after == "-1"
    assert before in ("0", "-1")  # 0: this machine forbids it anyway
