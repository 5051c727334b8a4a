"""HTTP/3 by aioquic through SOCKS5's UDP ASSOCIATE.

    serve FOLDER                    in the far place: answers each request with 30 KB; prints its port
    fetch HOST PORT PROXY COUNT     in the near place: so many requests on one connection; prints the times

aioquic is not needed for anything else; without it the row is left out.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib
import importlib.util
import ipaddress
import json
import ssl
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.calls import calling
from bench.figures import Bound, Figure, percentile
from bench.links import WAN, Link
from bench.program import python, running
from bench.run import Outcome, Row, Run
from bench.tunnels import LOOPBACK
from toxproxy.address import UdpTarget
from toxproxy.inbound.socks_header import decoded, encoded

_COUNT, _SIZE, _SECONDS = 100, 30_000, 60.0
_BODY = bytes(range(256)) * (_SIZE // 256 + 1)


def _load(name: str) -> Any:
    return importlib.import_module(f"aioquic.{name}")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """One for this measurement only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "http3.pem", folder / "http3.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return pem, secret


async def _serve(folder: Path) -> None:
    asyncio_, events, h3 = _load("asyncio"), _load("h3.events"), _load("h3.connection")
    configuration = _load("quic.configuration").QuicConfiguration(is_client=False, alpn_protocols=h3.H3_ALPN)
    configuration.load_cert_chain(*_certificate(folder))

    class Server(asyncio_.QuicConnectionProtocol):  # type: ignore[misc, name-defined]
        http: Any = None

        def quic_event_received(self, event: Any) -> None:
            if self.http is None:
                self.http = h3.H3Connection(self._quic)
            for each in self.http.handle_event(event):
                if isinstance(each, events.HeadersReceived):
                    self.http.send_headers(each.stream_id, [(b":status", b"200")])
                    self.http.send_data(each.stream_id, _BODY[:_SIZE], end_stream=True)
            self.transmit()

    made: list[Any] = []
    loop = asyncio.get_running_loop()
    server_class = _load("asyncio.server").QuicServer
    transport, _ = await loop.create_datagram_endpoint(
        lambda: made.append(server_class(configuration=configuration, create_protocol=Server)) or made[0],
        local_addr=(LOOPBACK, 0),
    )
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def _associate(proxy: tuple[str, int]) -> tuple[tuple[str, int], asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
    answer = await reader.readexactly(12)
    return (".".join(map(str, answer[6:10])), int.from_bytes(answer[10:])), writer


class _Socks(asyncio.DatagramProtocol):
    """Stands between aioquic's protocol and a UDP socket: adds the header of SOCKS, and takes it away."""

    def __init__(self, inner: Any, target: UdpTarget) -> None:
        self._inner, self._target = inner, target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._inner.connection_made(self)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if (said := decoded(data)) is not None:
            self._inner.datagram_received(said.payload, (said.target.host, said.target.port))

    def sendto(self, data: bytes, addr: Any = None) -> None:
        self._transport.sendto(encoded(self._target) + data)

    def close(self) -> None:
        self._transport.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


async def _fetch(target: UdpTarget, proxy: tuple[str, int], count: int) -> None:
    asyncio_, events, h3 = _load("asyncio"), _load("h3.events"), _load("h3.connection")
    configuration = _load("quic.configuration").QuicConfiguration(
        is_client=True, alpn_protocols=h3.H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=target.host
    )
    relay, control = await _associate(proxy)

    class Client(asyncio_.QuicConnectionProtocol):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.http = h3.H3Connection(self._quic)
            self.bodies: dict[int, bytes] = {}
            self.waiting: dict[int, asyncio.Future[bytes]] = {}

        def get(self) -> Awaitable[bytes]:
            stream = self._quic.get_next_available_stream_id()
            self.bodies[stream] = b""
            self.waiting[stream] = asyncio.get_running_loop().create_future()
            head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"bench"), (b":path", b"/")]
            self.http.send_headers(stream, head, end_stream=True)
            self.transmit()
            return self.waiting[stream]

        def quic_event_received(self, event: Any) -> None:
            for each in self.http.handle_event(event):
                if isinstance(each, events.DataReceived):
                    self.bodies[each.stream_id] += each.data
                    if each.stream_ended:
                        self.waiting[each.stream_id].set_result(self.bodies[each.stream_id])

    connection = _load("quic.connection").QuicConnection(configuration=configuration)
    client = Client(connection)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Socks(client, target), remote_addr=relay)
    client.connect((target.host, target.port))
    times = []
    async with asyncio.timeout(_SECONDS):
        await client.wait_connected()
        for _ in range(count):
            began = time.perf_counter()
            body = await client.get()
            if body != _BODY[:_SIZE]:
                sys.exit("another body than was sent")
            times.append(1000 * (time.perf_counter() - began))
    print(json.dumps({"times": times}))
    client.close()
    transport.close()
    control.close()


async def _requests(run: Run, link: Link) -> Outcome:
    if importlib.util.find_spec("aioquic") is None:
        run.say("left out: aioquic is not installed")
        return Outcome()
    came, p50, p95 = [], [], []
    async for number in run.times():
        async with run.course(link, seed=number) as across, calling(across) as tunnel:
            serve = python("bench.http3", "serve", str(across.folder))
            async with running(across.network.far, across.folder, "http3-server", *serve) as server:
                assert tunnel.socks is not None
                port, proxy = (await server.line()).strip(), f"{tunnel.socks[0]}:{tunnel.socks[1]}"
                fetch = python("bench.http3", "fetch", LOOPBACK, port, proxy, str(_COUNT))
                async with running(across.network.near, across.folder, "http3", *fetch) as client:
                    times = (await client.result())["times"]
            came.append(float(len(times)))
            p50.append(percentile(times, 0.5))
            p95.append(percentile(times, 0.95))
    return Outcome(
        [
            Figure("requests of HTTP/3 answered whole", f"of {_COUNT}", tuple(came), Bound(_COUNT)),
            Figure("a request of 30 KB, p50", "ms", tuple(p50)),
            Figure("a request of 30 KB, p95", "ms", tuple(p95)),
        ]
    )


ROWS = (Row("http3", "HTTP/3 through SOCKS5's UDP ASSOCIATE", WAN, lambda run: _requests(run, WAN)),)


def main() -> None:
    """Run in a place of the network."""
    if sys.argv[1] == "serve":
        asyncio.run(_serve(Path(sys.argv[2])))
    else:
        host, port, proxy, count = sys.argv[2:]
        at, _, number = proxy.rpartition(":")
        asyncio.run(_fetch(UdpTarget(host, int(port)), (at, int(number)), int(count)))


if __name__ == "__main__":
    main()
