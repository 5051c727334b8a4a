"""UDP from end to end: real nodes, real programs."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.datagrams import Service, client, service
from tests.inbound.peers import until
from tests.joined import connected, node_of
from tests.machine import Hosts
from tests.tunnel.ends import echo
from tests.tunnel.ends import service as tcp_service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.web.metrics import exposition

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 30\n"
PERMIT = "permit = 127.0.0.0/8:*/tcp+udp, *.test:*/udp, 127.0.0.1:*/udp+any"
ADDRESS = bytes((192, 0, 2, 7))


def answer(question: bytes, _: object) -> bytes | None:
    """A name server (RFC 1035) for which every name has the address 192.0.2.7."""
    if len(question) < 12:
        return None
    end = question.index(b"\0", 12) + 5
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + ADDRESS
    return question[:2] + b"\x84\x00" + struct.pack("!HHHH", 1, 1, 0, 0) + question[12:end] + record


def clock(question: bytes, _: object) -> bytes | None:
    """A time server as SNTP clients need it (RFC 4330)."""
    if len(question) != 48:
        return None
    now = struct.pack("!II", int(time.time()) + 2_208_988_800, 0)
    return b"\x24\x01" + bytes(14) + now + question[40:48] + now + now


@dataclass
class Ends:
    folder: Path
    server: Server
    client: Client
    names: Service
    tcp: int

    async def listening(self, name: str, kind: str) -> tuple[str, int]:
        (address,) = {
            each.address for each in self.client.listening() if (each.name, each.kind) == (name, kind)
        }
        host, _, port = address.rpartition(":")
        return host, int(port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("udp")
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(service(answer))
        tcp = await stack.enter_async_context(tcp_service(echo))
        text = TOX.format(node="none") + f"[access]\nallow = *\n{PERMIT}\n"
        text += f"[log]\naudit_format = json\naudit = {folder / 'audit.log'}\n"
        server = await stack.enter_async_context(Server(config.parse(text, "server"), folder / "server"))
        node = node_of(server)
        own_id = server.node.tox_id
        (folder / "client.ini").write_text(
            TOX.format(node=node)
            + f"[client]\ndns = 0:127.0.0.1:{names.target.port}/udp:{own_id}\n"
            + f"any = 0:127.0.0.1:{names.target.port}/udp+any:{own_id}\n"
            + f"both = 0:127.0.0.1:{tcp}/tcp+udp:{own_id}\n[socks]\nbrowser = 0:{own_id}\n"
        )
        settings = config.load(folder / "client.ini")
        near = await stack.enter_async_context(Client(settings, folder / "client"))
        near.reloader.source = lambda: config.load(folder / "client.ini")
        await connected(near)
        yield Ends(folder, server, near, names, tcp)


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (bind9-dnsutils)")
async def test_dig_through_a_forward(ends: Ends) -> None:
    host, port = await ends.listening("dns", "udp")
    for name in ("example.org", "a.very.long.name.example.net"):
        assert (await run("dig", f"@{host}", "-p", str(port), "+short", name)).strip() == "192.0.2.7"


async def test_answers_come_from_anywhere_if_the_forward_says_so(ends: Ends) -> None:
    question = b"\xab\xcd\x01\x00\x00\x01" + bytes(6) + b"\x07example\x03org\x00\x00\x01\x00\x01"
    for name, more in (("any", True), ("dns", False)):
        async with client() as asking, client() as stranger:
            asking.send(question, await ends.listening(name, "udp"))
            assert (await asking.receive()).endswith(ADDRESS)
            _, (host, port) = ends.names.seen[-1]
            stranger.send(b"from elsewhere", (host, port))
            assert more is not await asking.nothing(0.5)


async def test_a_line_for_both_makes_a_port_for_each(ends: Ends) -> None:
    reader, writer = await asyncio.open_connection(*await ends.listening("both", "forward"))
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    assert await ends.listening("both", "udp")


async def test_names_and_the_time_by_somebody_elses_client_of_socks(ends: Ends, hosts: Hosts) -> None:
    socks: Any = pytest.importorskip("socks", reason="PySocks is not installed")
    hosts["names.test"] = ["127.0.0.1"]
    proxy = await ends.listening("browser", "socks")

    def ask(host: str, port: int, question: bytes) -> tuple[bytes, Any]:
        with socks.socksocket(type=socks.socket.SOCK_DGRAM) as sock:
            sock.set_proxy(socks.SOCKS5, *proxy)
            sock.settimeout(10)
            sock.sendto(question, (host, port))
            return sock.recvfrom(4096)  # type: ignore[no-any-return]

    question = b"\xab\xcd\x01\x00\x00\x01" + bytes(6) + b"\x07example\x03org\x00\x00\x01\x00\x01"
    for host in ("127.0.0.1", "names.test"):
        said, source = await asyncio.to_thread(ask, host, ends.names.target.port, question)
        assert said[:2] == b"\xab\xcd"
        assert said.endswith(ADDRESS)
        assert source in ((host, ends.names.target.port), (host.encode(), ends.names.target.port))
    async with service(clock) as ntp:
        said, _ = await asyncio.to_thread(ask, "127.0.0.1", ntp.target.port, b"\x23" + bytes(47))
    assert abs(struct.unpack("!I", said[40:44])[0] - 2_208_988_800 - time.time()) < 5


DANTE = """\
resolveprotocol: fake
route {{ from: 0.0.0.0/0 to: 0.0.0.0/0 via: {host} port = {port}
  protocol: udp
  proxyprotocol: socks_v5
  command: udpassociate
  method: none }}
"""
ASK_THE_TIME = """\
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.sendto(bytes((0x23,)) + bytes(47), ("clock.test", int(sys.argv[1])))
    print(int.from_bytes(sock.recv(99)[40:44]))
"""


@pytest.mark.skipif(shutil.which("socksify") is None, reason="socksify is not installed (dante-client)")
async def test_programs_that_know_of_no_proxy_in_dante_s_client(
    ends: Ends, hosts: Hosts, tmp_path: Path
) -> None:
    hosts["names.test"] = hosts["clock.test"] = ["127.0.0.1"]
    host, port = await ends.listening("browser", "socks")
    (tmp_path / "socks.conf").write_text(DANTE.format(host=host, port=port))
    socksify = ("env", f"SOCKS_CONF={tmp_path / 'socks.conf'}", "socksify")
    if shutil.which("busybox") is not None:
        names = f"names.test:{ends.names.target.port}"
        assert "192.0.2.7" in await run(*socksify, "busybox", "nslookup", "example.org", names)
    async with service(clock) as ntp:
        said = await run(*socksify, sys.executable, "-c", ASK_THE_TIME, str(ntp.target.port))
    assert abs(int(said) - 2_208_988_800 - time.time()) < 5


async def test_a_program_sends_datagrams_with_the_library(ends: Ends) -> None:
    async with service() as far, await ends.client.open_datagram("127.0.0.1", far.target.port) as endpoint:
        endpoint.send(b"hello")
        assert await endpoint.receive() == b"olleh"
    with pytest.raises(StreamRefused) as refused:
        await ends.client.open_datagram("192.0.2.1", 53)
    assert refused.value.code is Refusal.NOT_PERMITTED
    with pytest.raises(ValueError, match="port"):
        await ends.client.open_datagram("127.0.0.1", 0)


async def test_status_streams_metrics_and_the_audit_count_datagrams(ends: Ends) -> None:
    audit = ends.folder / "audit.log"
    before = len(audit.read_text().splitlines())
    async with client() as near:
        question = b"\xab\xcd\x01\x00\x00\x01" + bytes(6) + b"\x01x\x00\x00\x01\x00\x01"
        near.send(question, await ends.listening("dns", "udp"))
        await near.receive()
    (peer,) = ends.client.peers()
    assert peer.flows >= 1
    assert peer.link is not None
    assert peer.link.sent_datagrams
    assert peer.link.received_datagrams
    (there,) = ends.server.peers()
    assert there.flows == peer.flows
    listed = await request(ends.folder / "client", "streams")
    target = f"127.0.0.1:{ends.names.target.port}/udp"
    found = [each for each in listed["streams"] if each["target"] == target]
    assert found
    assert found[-1]["sent_bytes"] == 19
    text = exposition(ends.client.status()).decode()
    assert f"}} {float(peer.flows)}" in next(line for line in text.splitlines() if "peer_flows{" in line)
    assert "toxproxy_peer_sent_datagrams_total{" in text
    assert "toxproxy_peer_dropped_datagrams_total{" in text
    (snapshot,) = [each for each in ends.client.status().listeners if each.name == "dns"]
    assert (snapshot.target, snapshot.connections >= 1) == (target, True)
    await request(ends.folder / "client", "close", id=found[-1]["id"])
    await until(lambda: len(audit.read_text().splitlines()) > before)
    line = json.loads(audit.read_text().splitlines()[-1])
    assert (line["target"], line["rule"], line["end"]) == (target, "127.0.0.0/8:*/tcp+udp", "client_reset")
    assert line["to_target_bytes"] == 19


async def test_a_doctor_asks_for_the_targets_of_udp_too(ends: Ends) -> None:
    checks = (await request(ends.folder / "client", "checkup"))["checks"]
    found = {each["about"]: each["outcome"] for each in checks if each["kind"] == "targets"}
    assert found[f"127.0.0.1:{ends.names.target.port}/udp"] == "fine"


async def test_a_reload_adds_and_removes_forwards_of_udp(ends: Ends) -> None:
    file = ends.folder / "client.ini"
    before = file.read_text()
    async with service() as far:
        new = f"[client]\nnew = 0:127.0.0.1:{far.target.port}/udp:{ends.server.node.tox_id}\n"
        file.write_text(before.replace("[client]\n", new))
        did = await request(ends.folder / "client", "reload")
        assert did["added"] == ["[client] new/udp"]
        async with client() as near:
            near.send(b"ab", await ends.listening("new", "udp"))
            assert await near.receive() == b"ba"
            file.write_text(before)
            did = await request(ends.folder / "client", "reload")
            assert did["removed"] == ["[client] new/udp"]
            assert not [each for each in ends.client.listening() if each.name == "new"]
