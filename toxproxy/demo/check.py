"""The demonstration: fetches a site by every way through the tunnel, and compares what arrives."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from python_socks import ProxyError, ProxyTimeoutError

from toxproxy.demo.network import PrivateNetwork, ProcessFailed
from toxproxy.demo.site import OBJECTS, Site, Way, by_forward, by_http, by_socks, fetch
from toxproxy.program.logs import Console
from toxproxy.program.progress import Waiting

_FETCH_SECONDS = 240.0

_SERVER = """\
[access]
permit = {site}
"""

_CLIENT = """\
[socks]
browser = 0:TOXID
[client]
site = 0:{site}:TOXID
"""


async def run(console: Console) -> bool:
    """Show that toxproxy works here. True if everything arrived as it was sent.

    Takes about 20 seconds, leaves no files behind and connects to loopback only.
    """
    _say("A server and a client, two processes on a Tox network of their own (loopback only).")
    with tempfile.TemporaryDirectory(prefix="toxproxy-demo-") as folder:
        async with Site() as site:
            at = f"{site.address[0]}:{site.address[1]}"
            network = PrivateNetwork(
                Path(folder), server=_SERVER.format(site=at), client=_CLIENT.format(site=at)
            )
            try:
                async with network:
                    await _connect(network, console)
                    good = await _check_all(network, site)
            except ProcessFailed as error:
                _say(f"\n{error}")
                good = False
    if good:
        _say("\nEverything arrived as it was sent: toxproxy works here.")
    else:
        print(f"\nIt does not work here. The ends of the logs:\n{network.tails()}", file=sys.stderr)
    return good


async def _connect(network: PrivateNetwork, console: Console) -> None:
    began = perf_counter()
    waiting = Waiting(console)
    waiting.show("They look for each other, which takes about 10 s")
    try:
        await network.connected()
    finally:
        waiting.close()
    _say(f"They found each other after {perf_counter() - began:.1f} s.\n")


async def _check_all(network: PrivateNetwork, site: Site) -> bool:
    proxy, forward = network.listener("browser"), network.listener("site")
    _say(f"{'through the':<14}{'fetched':<24}{'MB':>6}{'seconds':>10}{'MB/s':>8}   checked")
    results = [
        await _check(way, site, what, paths)
        for way in (by_socks(proxy, site.address), by_http(proxy), by_forward(forward))
        for what, paths in ((f"a page and {OBJECTS} objects", site.page), ("a file", [site.file]))
    ]
    return all(results)


async def _check(way: Way, site: Site, what: str, paths: Sequence[str]) -> bool:
    """Fetch `paths` at the same time and print a line of the table. True if all arrived whole."""
    row = f"{way.name:<14}{what:<24}"
    failure: Exception | None = None
    began = perf_counter()
    try:
        async with asyncio.timeout(_FETCH_SECONDS), asyncio.TaskGroup() as group:
            fetches = [group.create_task(fetch(way, site.address, path)) for path in paths]
    except* (OSError, ProxyError, ProxyTimeoutError) as errors:  # a timeout is an OSError
        failure = errors.exceptions[0]
    if failure is not None:
        _say(f"{row}failed: {str(failure) or f'not there within {_FETCH_SECONDS:g} s'}")
        return False
    seconds = perf_counter() - began
    size = sum(task.result()[0] for task in fetches) / 1e6
    good = all(site.is_whole(path, task.result()[1]) for path, task in zip(paths, fetches, strict=True))
    _say(f"{row}{size:6.1f}{seconds:10.2f}{size / seconds:8.1f}   {'identical' if good else 'DIFFERENT'}")
    return good


def _say(text: str) -> None:
    print(text, flush=True)
