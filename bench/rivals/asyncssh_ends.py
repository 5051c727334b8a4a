"""The two ends of an SSH tunnel made with asyncssh: `server PORT` and `client HOST PORT FORWARD TARGET`.

The client forwards the port FORWARD to the port TARGET on the server's loopback, and has a SOCKS proxy
on the port FORWARD + 1. There is no authentication: nobody else can reach the server.
"""

from __future__ import annotations

import asyncio
import sys

import asyncssh  # type: ignore[import-not-found,unused-ignore]

_ATTEMPTS = 50


class _Open(asyncssh.SSHServer):  # type: ignore[misc,unused-ignore]
    """Lets everybody in and permits every forward."""

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


async def serve(port: int) -> None:
    """Run the far end."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    await asyncssh.listen("", port, server_factory=_Open, server_host_keys=[key])
    await asyncio.get_running_loop().create_future()


async def connect(host: str, port: int, forward: int, target: int) -> None:
    """Run the near end. It waits until the far end listens."""
    for _ in range(_ATTEMPTS):
        try:
            connection = await asyncssh.connect(host, port, known_hosts=None, config=None, client_keys=None)
            break
        except OSError:
            await asyncio.sleep(0.2)
    else:
        raise SystemExit(f"nobody answers at {host}:{port}")
    async with connection:
        await connection.forward_local_port("127.0.0.1", forward, "127.0.0.1", target)
        await connection.forward_socks("127.0.0.1", forward + 1)
        await connection.wait_closed()


def main() -> None:
    """Run the end that the command line names."""
    role, *words = sys.argv[1:]
    if role == "server":
        asyncio.run(serve(int(words[0])))
    else:
        host, *ports = words
        asyncio.run(connect(host, *map(int, ports)))


if __name__ == "__main__":
    main()
