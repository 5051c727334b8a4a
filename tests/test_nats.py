"""The rig of NATs: whether each kind behaves as it is called, and a short run of pairs."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench.links import Direction, Link
from bench.program import python
from faults.nats import matrix
from faults.nats.helpers import help_out
from faults.nats.kinds import KINDS, Helper, Kind
from faults.nats.ladder import Step
from faults.nats.matrix import Result
from faults.nats.nodes import PROGRAM
from faults.nats.pair import Setting, Way
from faults.nats.probe import Address, Probe, socket_in
from faults.nats.rig import LAN_ROUTER, PROXY_PORT, Arrived, Home, Rig, lacking
from tests.emulated import emulator
from toxproxy.demo.network import Place

_LACKING = lacking()
needs_rig = pytest.mark.skipif(bool(_LACKING), reason=f"a rig of NATs needs {_LACKING}")
needs_nodes = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"needs {PROGRAM}")
needs_miniupnpd = pytest.mark.skipif(shutil.which("miniupnpd") is None, reason="needs miniupnpd")


@dataclass
class Scene:
    """A home, a probe in it, and probes at three ports of two outer hosts."""

    rig: Rig
    home: Home
    inner: Probe
    outer: Probe
    same_host: Probe
    stranger: Probe

    async def seen(self, by: Probe) -> Address | None:
        """Send from the home to an outer probe. Returns as whom that sees it."""
        self.inner.send(by.address)
        return await by.heard()

    async def reaches(self, sender: Probe, address: Address) -> bool:
        """Whether what an outer probe sends to an address gets to the home."""
        sender.send(address)
        return await self.inner.heard() is not None


@asynccontextmanager
async def scene(kind: Kind, folder: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        rig = stack.enter_context(Rig())
        home = rig.home("client", kind)
        host, other = rig.node(), rig.node()
        places = (home.place, host, host, other)
        probes = [stack.enter_context(Probe(place)) for place in places]
        await help_out(stack, home, folder)
        yield Scene(rig, home, *probes)


@needs_rig
@pytest.mark.parametrize(
    ("name", "same_host", "stranger"),
    [
        ("open", True, True),
        ("full-cone", True, True),
        ("restricted", True, False),
        ("cone", False, False),
        ("short", False, False),
        ("policed", False, False),
        ("carrier", False, False),
    ],
)
async def test_a_cone_is_one_address_for_all_and_lets_in_whom_it_should(
    name: str, same_host: bool, stranger: bool, tmp_path: Path
) -> None:
    async with scene(KINDS[name], tmp_path) as there:
        seen = await there.seen(there.outer)
        assert seen is not None
        assert seen[0] == there.home.address
        assert await there.reaches(there.outer, seen)
        assert await there.reaches(there.same_host, seen) is same_host
        assert await there.reaches(there.stranger, seen) is stranger
        assert await there.seen(there.same_host) == await there.seen(there.stranger) == seen


@needs_rig
@pytest.mark.parametrize(("name", "steps"), [("symmetric", None), ("counting", [1, 1])])
async def test_a_symmetric_nat_is_another_port_for_each_and_lets_nobody_else_in(
    name: str, steps: list[int] | None, tmp_path: Path
) -> None:
    async with scene(KINDS[name], tmp_path) as there:
        seen = await there.seen(there.outer)
        assert seen is not None
        assert await there.reaches(there.outer, seen)
        assert not await there.reaches(there.same_host, seen)
        assert not await there.reaches(there.stranger, seen)
        ports = [seen[1]]
        for probe in (there.same_host, there.stranger):
            other = await there.seen(probe)
            assert other is not None
            ports.append(other[1])
        assert len(set(ports)) == 3
        assert await there.seen(there.outer) == seen
        if steps is not None:
            assert [after - before for before, after in pairwise(ports)] == steps


@needs_rig
async def test_a_mapping_ends_when_it_was_idle(tmp_path: Path) -> None:
    async with scene(replace(KINDS["short"], idle=1), tmp_path) as there:
        seen = await there.seen(there.outer)
        assert seen is not None
        assert await there.reaches(there.outer, seen)
        await asyncio.sleep(2.5)
        assert not await there.reaches(there.outer, seen)


@needs_rig
@pytest.mark.parametrize("name", ["no-udp", "only-443", "proxy"])
async def test_no_udp_gets_out(name: str, tmp_path: Path) -> None:
    async with scene(KINDS[name], tmp_path) as there:
        assert await there.seen(there.outer) is None


@needs_rig
async def test_two_cones_let_each_other_in_although_one_sent_too_early(tmp_path: Path) -> None:
    async with scene(KINDS["cone"], tmp_path) as there:
        with Probe(there.rig.home("server", KINDS["cone"]).place) as far:
            near_seen = await there.seen(there.outer)
            far.send(there.outer.address)
            far_seen = await there.outer.heard()
            assert near_seen is not None
            assert far_seen is not None
            assert not await there.reaches(far, near_seen)  # nobody there lets it in yet
            there.inner.send(far_seen)
            assert await far.heard() == near_seen
            assert await there.reaches(far, near_seen)


@needs_rig
async def test_a_policed_home_gets_no_more_than_its_rate(tmp_path: Path) -> None:
    async with scene(KINDS["policed"], tmp_path) as there:
        came = 0
        for _ in range(200):
            there.inner.send(there.outer.address, bytes(1000))
        while await there.outer.heard():
            came += 1
        assert 50 < came < 150


@needs_rig
async def test_a_home_that_moves_has_another_address_and_no_mappings(tmp_path: Path) -> None:
    async with scene(KINDS["full-cone"], tmp_path) as there:
        before = await there.seen(there.outer)
        there.home.move()
        after = await there.seen(there.outer)
        assert before is not None
        assert after is not None
        assert after[0] == there.home.address != before[0]


@needs_rig
async def test_what_comes_directly_is_counted_and_what_comes_from_others_is_not(tmp_path: Path) -> None:
    async with scene(KINDS["full-cone"], tmp_path) as there:
        far = there.rig.home("server", KINDS["open"])
        there.home.count(far)
        seen = await there.seen(there.outer)
        assert seen is not None
        assert await there.reaches(there.outer, seen)
        with Probe(far.place) as probe:
            assert await there.reaches(probe, seen)
        assert there.home.arrived() == Arrived(direct=29, relayed=0)  # one datagram of one byte


@needs_rig
async def test_a_link_delays_what_goes_to_and_from_a_home(tmp_path: Path) -> None:
    with emulator() as links, Rig(links) as rig:
        home, host = rig.home("client", KINDS["cone"], Link.alike("", Direction(delay=200))), rig.node()
        with Probe(home.place) as inner, Probe(host) as outer:
            inner.send(outer.address)
            assert await outer.heard(0.1) is None
            assert await outer.heard(5) is not None


# Pairs


@needs_rig
@needs_nodes
async def test_two_cones_find_a_direct_path_and_without_udp_a_relay_carries_the_bytes() -> None:
    settings = [
        Setting(client, server, nodes=4, size=1_000_000, lead=2)
        for client, server in (("cone", "cone"), ("no-udp", "cone"))
    ]
    async with asyncio.timeout(110):  # two rigs at once
        direct, relayed = await asyncio.gather(
            *(matrix.measure(setting, seconds=0, typing=1) for setting in settings)
        )
    assert (direct.whole, direct.why) == (relayed.whole, relayed.why) == (True, "")
    assert direct.later is Way.UDP
    assert direct.share > 0.9
    assert relayed.later is Way.TCP
    assert relayed.share == 0


@needs_rig
@needs_nodes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_leaves_nothing_behind(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *python("faults.nats", "cone-cone", "--runs", "1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        while not any(name.endswith("-server") for name in _within(process.pid)):
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)  # the programs are being started now
        started = _within(process.pid)
        process.send_signal(number)
        _, said = await process.communicate()
    assert (process.returncode, said) == (130, b"")
    assert sum(map(len, started.values())) > 10
    assert not [pid for pids in started.values() for pid in pids if _runs(pid)]
    assert not _within(process.pid)


def _runs(pid: str) -> bool:
    return Path("/proc", pid).exists()


def _within(pid: int) -> dict[str, list[str]]:
    """The namespaces of the rigs of a process, and the ids of the processes in each."""
    names = [path.name for path in Path("/run/netns").glob(f"toxproxy-nats-{pid}-*")]
    command = ("ip", "netns", "pids")
    return {
        name: subprocess.run([*command, name], capture_output=True, text=True, check=False).stdout.split()
        for name in names
    }


GOOD = Result(connected=9, first=Way.TCP, direct=11, later=Way.UDP, whole=True, rate=20)
CONE = Setting("cone", "cone")


@pytest.mark.parametrize(
    ("setting", "results", "said"),
    [
        (CONE, [GOOD], ""),
        (CONE, [GOOD, replace(GOOD, connected=40), replace(GOOD, connected=50)], "after 40.0 s (median)"),
        (CONE, [GOOD, GOOD, replace(GOOD, connected=61)], "after 61.0 s once"),
        (CONE, [GOOD, GOOD, replace(GOOD, connected=None)], "after 120.0 s once"),
        (CONE, [GOOD, replace(GOOD, whole=False)], "1 of 2 downloads"),
        (CONE, [GOOD, replace(GOOD, direct=None)], "direct within 30 s in 1 of 2"),
        (CONE, [GOOD] * 9 + [replace(GOOD, direct=31)], ""),
        (Setting("symmetric", "cone"), [replace(GOOD, direct=None)], ""),
        (Setting("symmetric", "igd"), [replace(GOOD, direct=None)], "direct within"),
        (Setting("no-udp", "open"), [replace(GOOD, direct=None)], ""),
    ],
)
def test_a_bound_that_is_not_kept_is_named(setting: Setting, results: list[Result], said: str) -> None:
    found = matrix.faults(setting, results)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_what_did_not_happen_in_most_runs_has_no_median() -> None:
    never = Result(first=Way.NONE, later=Way.TCP)
    assert matrix.middle([GOOD, replace(GOOD, connected=13), replace(GOOD, connected=10)]) == replace(
        GOOD, connected=10
    )
    assert matrix.middle([GOOD, never, never]).connected is None
    assert matrix.middle([GOOD, GOOD, never]) == replace(GOOD, whole=False)


@pytest.mark.parametrize("text", ["cone-cone", "no-udp-full-cone", "only-443-no-udp", "full-cone-only-443"])
def test_a_pair_is_two_kinds(text: str) -> None:
    assert "-".join(matrix.pair_of(text)) == text


@pytest.mark.parametrize("text", ["cone", "cone-", "cone-oval", "", "cone-cone-cone"])
def test_what_is_not_a_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected CLIENT-SERVER"):
        matrix.pair_of(text)


def test_every_pair_that_is_measured_exists() -> None:
    assert all(matrix.pair_of(pair) for pair in matrix.PAIRS)
    assert {kind for pair in matrix.PAIRS for kind in matrix.pair_of(pair)} == set(KINDS)


def test_the_longest_silence_of_a_download() -> None:
    assert matrix.longest_silence([(0, 0), (1, 10), (1.5, 10), (4, 20), (4.5, 20)]) == 3


def test_a_step_of_the_ladder_has_its_own_silence_and_bytes() -> None:
    course = [(0.0, 0), (1.0, 10), (4.0, 30), (5.0, 30), (7.0, 40)]
    first, second = Step("", 0.0, 2.0), Step("", 2.0, 7.0)
    assert (first.silence(course), first.bytes(course)) == (1, 10)
    assert (second.silence(course), second.bytes(course)) == (3, 30)


# What a router does for its home


@needs_rig
@needs_miniupnpd
async def test_a_port_mapped_by_nat_pmp_lets_in_strangers(tmp_path: Path) -> None:
    async with scene(KINDS["pcp"], tmp_path) as there:
        _, port = there.inner.address
        request = struct.pack("!BBHHHI", 0, 1, 0, port, 40000, 600)  # RFC 6886, section 3.3: map UDP

        async def ask(by: Probe) -> tuple[bytes, Address] | None:
            by.send((LAN_ROUTER, 5351), request)
            return await by.receive(0.5)

        with Probe(there.home.place) as asking:
            answer, _ = await until(lambda: ask(asking))
            assert struct.unpack("!BBH", answer[:4]) == (0, 129, 0)  # the answer to a mapping: success
        seen = (there.home.address, struct.unpack("!HH", answer[8:12])[1])
        assert await there.reaches(there.stranger, seen)


@needs_rig
@needs_miniupnpd
async def test_a_port_mapped_by_upnp_lets_in_strangers(tmp_path: Path) -> None:
    search = (
        'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    service = "urn:schemas-upnp-org:service:WANIPConnection:1"
    async with scene(KINDS["igd"], tmp_path) as there:
        host, port = there.inner.address

        async def ask(by: Probe) -> tuple[bytes, Address] | None:
            by.send(("239.255.255.250", 1900), search.encode())
            return await by.receive(0.5)

        with Probe(there.home.place) as asking:
            answer, _ = await until(lambda: ask(asking))
        found = re.search(rb"LOCATION: http://([\d.]+):(\d+)/", answer)
        assert found is not None
        fields = {
            "RemoteHost": "",
            "ExternalPort": 40000,
            "Protocol": "UDP",
            "InternalPort": port,
            "InternalClient": host,
            "Enabled": 1,
            "PortMappingDescription": "test",
            "LeaseDuration": 600,
        }
        body = "".join(f"<New{key}>{value}</New{key}>" for key, value in fields.items())
        body = (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
            f'<u:AddPortMapping xmlns:u="{service}">{body}</u:AddPortMapping></s:Body></s:Envelope>'
        )
        head = (
            f"POST /ctl/IPConn HTTP/1.1\r\nHost: {LAN_ROUTER}\r\nConnection: close\r\n"
            f'SOAPAction: "{service}#AddPortMapping"\r\nContent-Type: text/xml\r\n'
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        with socket_in(there.home.place) as sock:
            await loop.sock_connect(sock, (found[1].decode(), int(found[2])))
            await loop.sock_sendall(sock, (head + body).encode())
            assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 200")
        assert await there.reaches(there.stranger, (there.home.address, 40000))


async def until(ask: Callable[[], Awaitable[tuple[bytes, Address] | None]]) -> tuple[bytes, Address]:
    """Ask a program that has just been started, until it answers."""
    async with asyncio.timeout(10):
        while (answer := await ask()) is None:
            await asyncio.sleep(0.05)
    return answer


# Over TCP


async def _greeted(place: Place, address: Address, by: Address | None = None) -> bool:
    """Whether a TCP connection from there, perhaps by an HTTP proxy, reaches a service that greets."""
    loop = asyncio.get_running_loop()
    with socket_in(place) as sock, suppress(OSError):
        async with asyncio.timeout(2):
            await loop.sock_connect(sock, by or address)
            if by is not None:
                host, port = address
                await loop.sock_sendall(sock, f"CONNECT {host}:{port} HTTP/1.1\nHost: x\r\n\r\n".encode())
            said = b""
            while data := await loop.sock_recv(sock, 1000):  # the proxy's answer may come with the greeting
                said += data
            assert by is None or b" 200 " in said
            return said.endswith(b"hello")
    return False


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await writer.drain()
    writer.close()


@needs_rig
@pytest.mark.parametrize(
    ("name", "to_443", "to_444"),
    [
        *((name, True, True) for name in ("open", "cone", "symmetric", "counting", "carrier", "no-udp")),
        ("only-443", True, False),
        ("proxy", False, False),
    ],
)
async def test_tcp_gets_out_where_it_should(name: str, to_443: bool, to_444: bool, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = stack.enter_context(Rig())
        home, host = rig.home("client", KINDS[name]), rig.node()
        await help_out(stack, home, tmp_path)
        for port, wanted in ((443, to_443), (444, to_444)):
            listener = socket_in(host)
            listener.bind((host.address, port))
            await stack.enter_async_context(await asyncio.start_server(_greet, sock=listener))
            address = (host.address, port)
            assert await _greeted(home.place, address) is wanted
            if home.kind.helper is Helper.PROXY:
                assert await _greeted(home.place, address, by=(LAN_ROUTER, PROXY_PORT))
