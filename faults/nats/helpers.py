"""Programs that a router runs for its home: miniupnpd, which maps ports, and an HTTP proxy.

python -m faults.nats.helpers PORT      the proxy: it knows CONNECT only (RFC 9110, section 9.3.6)
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from bench.program import python, running
from faults.nats.kinds import Helper
from faults.nats.rig import LAN_ROUTER, PROXY_PORT, Home, RigError
from toxproxy.demo.network import Place

_PIECE = 1 << 16
_LONGEST_REQUEST = 1 << 14
_START_SECONDS = 10.0

# miniupnpd adds its rules to chains of its own, which are jumped to from `_CHAINS`.
_MINIUPNPD = """\
ext_ifname=out
listening_ip=link
port=5000
enable_upnp={igd}
secure_mode=yes
ipv6_disable=yes
lease_file=
upnp_table_name=filter
upnp_nat_table_name=filter
uuid=51fd5af8-eeb0-4355-8f26-5fad4b925b51
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
_CHAINS = """\
table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority -1; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority srcnat - 1; jump postrouting_miniupnpd; }
}
"""


async def help_out(stack: AsyncExitStack, home: Home, folder: Path) -> None:
    """Start what the home's router runs, until the end of the stack. Raises `RigError`."""
    place = Place(("ip", "netns", "exec", home.router))
    name = f"{home.side}-router"
    match home.kind.helper:
        case None:
            return
        case Helper.PROXY:
            command = python("faults.nats.helpers", str(PROXY_PORT))
            program = await stack.enter_async_context(running(place, folder, name, *command))
            await program.line()
        case helper:
            if (path := shutil.which("miniupnpd")) is None:
                raise RigError("expected the program miniupnpd (Debian: miniupnpd-nftables), found none")
            home.add_rules(_CHAINS)
            config = folder / f"{name}.conf"
            config.write_text(_MINIUPNPD.format(igd="yes" if helper is Helper.IGD else "no"))
            command = (path, "-d", "-f", str(config), "-P", str(folder / f"{name}.pid"))
            if helper is Helper.PCP:
                command += ("-N",)  # the key for it has another name in later versions
            await stack.enter_async_context(running(place, folder, name, *command))


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_attend, LAN_ROUTER, port, limit=_LONGEST_REQUEST)
    print(port, flush=True)
    await server.serve_forever()


async def _attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            # libtoxcore ends the first line with a line feed alone.
            verb, target, _ = head.decode("ascii").splitlines()[0].split(" ")
            if verb != "CONNECT":
                writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass(reader, far_writer))
                    group.create_task(_pass(far_reader, writer))
            finally:
                far_writer.close()
        finally:
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
