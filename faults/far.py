"""The far end of every stream: a service that does its part of the plan.

Run as `python -m faults.far PLAN`. It prints the port on which it listens, then an account of each
stream. The client begins a connection with the number of its stream.
"""

from __future__ import annotations

import asyncio
import json
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from faults.conversation import converse
from faults.ledger import Account
from faults.plan import Plan, Side
from toxproxy import relay

NUMBER = struct.Struct("!I")


async def attend(
    plan: Plan, told: Callable[[Account], None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection and give `told` its account. A connection without a stream's number is reset."""
    try:
        async with asyncio.timeout(plan.shape.patience):
            (number,) = NUMBER.unpack(await reader.readexactly(NUMBER.size))
            stream = plan.streams[number]
    except (OSError, asyncio.IncompleteReadError, IndexError):  # a timeout is an OSError
        relay.abort(cast(asyncio.Transport, writer.transport))
    else:
        told(await converse(plan, stream, Side.FAR, reader, writer))


def show(account: Account) -> None:
    """Print an account, for the program that started this one."""
    print(json.dumps(account.to_json()), flush=True)


def allow_descriptors() -> None:
    """Raise the limit of open files to the most that the system permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main() -> None:
    """Serve on a free port until cancelled."""
    allow_descriptors()
    plan = Plan.from_json(sys.argv[1])
    server = await asyncio.start_server(
        lambda reader, writer: attend(plan, show, reader, writer), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
