"""What there is in a home: web pages, a name server, a game, and Docker's socket.

`python -m tests.household FOLDER PORTS ADDRESS...` serves it on this machine until it is ended: the folder's
`web` on these ports, on 443 with the certificate and key of `cert.pem`, and at each address what is asked by
datagrams. Then the first line that it prints says that everything is listened on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

DOCKER = "/var/run/docker.sock"
GAME = 27015
#: What Docker's daemon answers, by the end of the path.
_DOCKER = {"/_ping": b"OK", "/version": b'{"Version": "27.0", "ApiVersion": "1.47"}', "/json": b"[]"}


class Pages(SimpleHTTPRequestHandler):
    """The files of a folder."""

    def log_message(self, *_: object) -> None:
        pass


class Docker(SimpleHTTPRequestHandler):
    """As much of Docker's API as `docker ps` asks for."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = next((body for end, body in _DOCKER.items() if path.endswith(end)), None)
        self.send_response(404 if answer is None else 200)
        self.send_header("Api-Version", "1.47")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer or b"")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Unix(ThreadingMixIn, UnixStreamServer):
    """HTTP on a Unix socket."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return super().get_request()[0], ("docker", 0)


def main(folder: Path, ports: list[int], addresses: list[str]) -> None:
    """Serve until the end of the process."""
    pages = partial(Pages, directory=str(folder / "web"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem")
    for port in ports:
        web = ThreadingHTTPServer(("", port), pages)
        if port == 443:
            web.socket = tls.wrap_socket(web.socket, server_side=True)
        threading.Thread(target=web.serve_forever, daemon=True).start()
    os.makedirs(os.path.dirname(DOCKER), exist_ok=True)
    threading.Thread(target=Unix(DOCKER, Docker).serve_forever, daemon=True).start()
    asyncio.run(_others(addresses))


async def _others(addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for address in addresses:  # one socket for all would answer from another address than it was asked at
        await loop.create_datagram_endpoint(lambda: _Answers(_address), local_addr=(address, 53))
        await loop.create_datagram_endpoint(lambda: _Answers(bytes), local_addr=(address, GAME))
    await asyncio.start_server(_echo, "", GAME)
    print("ready", flush=True)
    await loop.create_future()


class _Answers(asyncio.DatagramProtocol):
    """Answers each datagram."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._answer(data), addr)


def _address(question: bytes) -> bytes:
    """The answer of a name server (RFC 1035, section 4): 192.0.2.80, whatever is asked for."""
    end = question.index(0, 12) + 5  # header, name, type and class
    header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("192.0.2.80")
    return header + question[12:end] + record


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")], sys.argv[3:])
