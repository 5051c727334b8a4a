"""Changes of addresses are reported, in a namespace."""

from __future__ import annotations

import subprocess
import sys

from tests.isolated import needs_namespaces

_WATCH = """
import select, subprocess
from toxproxy.system.changes import watch
sock = watch()
before = select.select([sock], [], [], 0.2)[0]
subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
after = select.select([sock], [], [], 10)[0]
print(len(before), len(after))
"""


@needs_namespaces
def test_a_new_address_is_reported() -> None:
    command = ["unshare", "--net", sys.executable, "-c", _WATCH]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "0 1\n"
