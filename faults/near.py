"""The near end of every stream: a client of the tunnel's ports.

Run as `python -m faults.near ARGUMENTS`. The arguments are a JSON object: the plan, the first stream's
number, the last one's plus one, and the addresses of the ports. It prints an account of each stream.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable

from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

from faults.conversation import converse
from faults.far import NUMBER, allow_descriptors, show
from faults.ledger import Account, End
from faults.plan import Plan, Side, Stream, Way
from toxproxy.errors import StreamRefused

Address = tuple[str, int]
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[Stream], Awaitable[Opened]]


async def carry_out(
    plan: Plan, streams: Iterable[Stream], open: Open, told: Callable[[Account], None]
) -> None:
    """Run these streams, as many at once as the plan says, and give `told` the account of each."""
    left = iter(streams)

    async def work() -> None:
        for stream in left:
            told(await _play(plan, stream, open))

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.shape.at_once):
            group.create_task(work())


async def _play(plan: Plan, stream: Stream, open: Open) -> Account:
    try:
        async with asyncio.timeout(plan.bound(stream)):
            reader, writer = await open(stream)
    except (OSError, ProxyError, StreamRefused) as error:  # a timeout is an OSError
        return Account(stream.number, Side.NEAR, End.REFUSED, why=str(error) or "no answer in time")
    writer.write(NUMBER.pack(stream.number))
    return await converse(plan, stream, Side.NEAR, reader, writer)


def through(plan: Plan, ports: dict[Way, Address], target: Address) -> Open:
    """A function that opens streams to `target` through the forward or the proxy port."""

    async def open(stream: Stream) -> Opened:
        host, port = ports[stream.way]
        if stream.way is Way.FORWARD:
            return await asyncio.open_connection(host, port)
        proxy = Proxy.from_url(f"socks5://{host}:{port}")
        return await asyncio.open_connection(sock=await proxy.connect(*target, timeout=plan.bound(stream)))

    return open


async def main() -> None:
    """Run the streams that the command line names."""
    allow_descriptors()
    arguments = json.loads(sys.argv[1])
    plan = Plan.from_json(arguments["plan"])
    ports = {Way(name): tuple(address) for name, address in arguments["ports"].items()}
    streams = plan.streams[arguments["first"] : arguments["beyond"]]
    await carry_out(plan, streams, through(plan, ports, tuple(arguments["target"])), show)


if __name__ == "__main__":
    asyncio.run(main())
