"""A friend request from an impossible key: libtoxcore reports it, but refuses the key as a friend."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.tox.pair import PRIVATE, Diary
from toxproxy.address import is_possible_key
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node
from toxproxy.tox.pytox import ToxError

# A node that sets the last bit of its public key everywhere in its memory. Curve25519 ignores that bit.
_ATTACKER = """
import re, sys, time
from toxproxy.tox.pytox import Tox, ToxOptions
port, dht_key, address = sys.argv[1:]
tox = Tox(ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=41000, end_port=41999))
key = bytes.fromhex(tox.self_get_public_key())
begin, end = key[:-1], key[-1]  # apart: what is whole in memory is changed, this object's bytes too
with open("/proc/self/maps") as maps, open("/proc/self/mem", "r+b", 0) as memory:
    for line in maps:
        first, last, flags = re.match(r"(\\w+)-(\\w+) (\\S+)", line).groups()
        start, size = int(first, 16), int(last, 16) - int(first, 16)
        if flags.startswith("rw") and "[v" not in line and size < 1 << 28:
            memory.seek(start)
            content = memory.read(size)
            places = [start + match.start() for match in re.finditer(re.escape(begin), content)]
            del content  # copies in what was read are gone before anything is written
            for place in places:
                memory.seek(place)
                if memory.read(32) == begin + bytes([end]):
                    memory.seek(place + 31)
                    memory.write(bytes([end | 0x80]))
tox.bootstrap("127.0.0.1", int(port), dht_key)
tox.friend_add(address, "toxproxy")
while True:
    tox.iterate()
    time.sleep(tox.iteration_interval() / 1000)
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
async def test_tox_passes_on_a_request_from_an_impossible_key_and_refuses_it_as_a_friend(
    tmp_path: Path,
) -> None:
    diary = Diary()
    async with Node(PRIVATE, StateFolder(tmp_path), "server", diary) as node:
        arguments = [str(node.udp_port), node.dht_key.hex(), str(node.tox_id)]
        attacker = await asyncio.create_subprocess_exec(sys.executable, "-c", _ATTACKER, *arguments)
        try:
            await diary.until(lambda: bool(diary.requests))
        finally:
            attacker.kill()
            await attacker.wait()
        key, message = diary.requests[0]
        assert message == b"toxproxy"
        assert not is_possible_key(key)
        with pytest.raises(ToxError, match="BAD_CHECKSUM"):
            node.admit_friend(key)
        assert node.friends == {}
