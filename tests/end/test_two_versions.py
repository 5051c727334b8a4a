"""The two ends have different versions of libtoxcore. tools/toxcores runs this with each pair."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.end.kills import AGAIN, Ends, killed_and_back
from tests.end.world import ask
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import Place, Process
from toxproxy.tox.library import OVERRIDE

OTHER = os.environ.get("TOXPROXY_OTHER_LIBTOXCORE")

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(3 * AGAIN),
    pytest.mark.skipif(OTHER is None, reason="needs TOXPROXY_OTHER_LIBTOXCORE: see tools/toxcores"),
]


def version(process: Process) -> str:
    """The version of libtoxcore with which a process says that it started."""
    found = re.search(r"\(libtoxcore ([0-9.]+)\)", process.log.read_text())
    assert found is not None
    return found[1]


async def test_either_end_is_killed_and_found_again(tmp_path: Path, network: PrivateNetwork) -> None:
    other = Place(("env", f"{OVERRIDE}={OTHER}"))

    async def killed(side: str) -> None:
        folder = tmp_path / side
        folder.mkdir()
        async with Ends(folder, network, other).running() as ends:
            assert version(ends.server) != version(ends.client)
            text = os.urandom(1_000_000)
            assert await ask(ends.listener("echo"), text) == text
            _, seconds = await killed_and_back(ends, side)
            print(f"{side} killed: answered after {seconds:.1f} s")

    await asyncio.gather(killed("server"), killed("client"))
