"""A UDP port that says how it is seen, and that sends where it is told. Run in a namespace of the rig.

    python -m faults.nats.probe

It binds a port, prints it, and reads commands, a line each, as JSON:

    ["send", HOST, PORT]   sends a datagram there
    ["heard", SECONDS]     waits so long, then prints from where datagrams came since: [[HOST, PORT], …]
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from bench.program import Program, python, running
from toxproxy.demo.network import Place

Address = tuple[str, int]


class Probe:
    """The port of such a process. `address` is the one that it has itself."""

    def __init__(self, program: Program, address: Address) -> None:
        self._program = program
        self.address = address

    @classmethod
    async def at(cls, stack: AsyncExitStack, place: Place, folder: Path, name: str) -> Probe:
        """Start one."""
        program = await stack.enter_async_context(
            running(place, folder, name, *python("faults.nats.probe"))
        )
        return cls(program, (place.address, int(await program.line())))

    def send(self, to: Address) -> None:
        """Send a datagram."""
        self._program.tell(json.dumps(["send", *to]))

    async def heard(self, seconds: float = 0.3) -> list[Address]:
        """From where datagrams came since the last time, after waiting for `seconds`."""
        self._program.tell(json.dumps(["heard", seconds]))
        return [(host, port) for host, port in json.loads(await self._program.line())]


async def main() -> None:
    """Obey the commands until the input ends."""
    loop = asyncio.get_running_loop()
    came: list[Address] = []

    class Port(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: Address) -> None:
            came.append(address)

    port, _ = await loop.create_datagram_endpoint(Port, ("0.0.0.0", 0), family=socket.AF_INET)
    print(port.get_extra_info("sockname")[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *words = json.loads(line)
        if verb == "send":
            port.sendto(b"?", tuple(words))
        else:
            await asyncio.sleep(words[0])
            print(json.dumps(came), flush=True)
            came.clear()


if __name__ == "__main__":
    asyncio.run(main())
