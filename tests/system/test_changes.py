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


_ROUTE = """
import select, subprocess
from toxproxy.system.changes import drain, watch
from toxproxy.system.interfaces import sources
def do(*commands):
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
for name in ("one", "two"):
    do(f"link add {name} type veth peer name {name}-end", f"link set {name} up", f"link set {name}-end up")
do("address add 192.0.2.7/32 dev one", "address add 2001:db8:1::7/128 dev one nodad")
do("address add 192.0.2.8/32 dev two", "address add 2001:db8:1::8/128 dev two nodad")
do("route add default dev one src 192.0.2.7", "-6 route add default dev one src 2001:db8:1::7")
before = sources()
sock = watch()
do("route replace default dev two src 192.0.2.8")
one = select.select([sock], [], [], 10)[0]
drain(sock)
do("-6 route replace default dev two src 2001:db8:1::8")
two = select.select([sock], [], [], 10)[0]
print(*sorted(map(str, before)), len(one), len(two), *sorted(map(str, sources())))
"""


@needs_namespaces
def test_another_default_route_is_reported_and_packets_have_another_sender() -> None:
    command = ["unshare", "--net", sys.executable, "-c", _ROUTE]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert said == "192.0.2.7 2001:db8:1::7 1 1 192.0.2.8 2001:db8:1::8\n"
