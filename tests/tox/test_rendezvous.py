"""Friends that tell one another where their nodes are, and ask there."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.isolated import needs_namespaces
from tests.tox.pair import private_pair
from toxproxy.address import Address
from toxproxy.tox import rendezvous
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.pytox import Tox, ToxOptions
from toxproxy.tox.relay_list import LAYOUT, Relay, parse_relays
from toxproxy.tox.rendezvous import Rendezvous
from toxproxy.tox.whereabouts import MOST, Whereabouts, parse

OPTIONS = ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=40900, end_port=40999)
HERE = frozenset(ip_address(host) for host in ("127.0.0.1", "11.1.1.1", "192.168.1.2", "fe80::1"))
VICTIM = (ip_address("11.2.2.2"), 53)
LIE = Whereabouts(bytes(32), (VICTIM,) * MOST)
LOOPBACK = 'ip link set lo up && ip address add 11.0.0.1/32 dev lo && exec "$@"'


class Recorder(Tox):
    """A node whose requests and lossless packets are recorded, and go nowhere."""

    def __init__(self) -> None:
        super().__init__(OPTIONS)
        self.asked: list[tuple[str, int]] = []
        self.told: list[tuple[int, Whereabouts]] = []
        self.told_relays: list[tuple[int, tuple[Relay, ...]]] = []

    def bootstrap(self, address: str, port: int, public_key: str) -> bool:
        self.asked.append((address, port))
        return True

    def friend_send_lossless_packet(self, friend_number: int, data: bytes | bytearray | memoryview) -> bool:
        packet = bytes(data)
        if packet[1] == LAYOUT:
            self.told_relays.append((friend_number, parse_relays(packet)))
        else:
            self.told.append((friend_number, parse(packet)))
        return True


class Machine:
    """The addresses of this machine, which a test changes."""

    addresses = HERE
    sources: frozenset[Address] = frozenset()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(rendezvous, "own_addresses", lambda: machine.addresses)
    monkeypatch.setattr(rendezvous.interfaces, "sources", lambda: machine.sources)
    return machine


@pytest.fixture
def tox(machine: Machine) -> Iterator[Recorder]:
    tox = Recorder()
    yield tox
    tox.kill()


def meeting(
    tox: Tox, *, local: bool = False, port: int | None = 33445, deaf: Callable[[], bool] = lambda: False
) -> Rendezvous:
    return Rendezvous(tox, bytes(32), port, local=local, deaf=deaf)


def relayed(meet: Rendezvous, *friends: int) -> None:
    for friend in friends:
        meet.friend_changed(friend, connected=True, relayed=True)


def places(*hosts: str, port: int = 33445) -> tuple[tuple[Address, int], ...]:
    return tuple((ip_address(host), port) for host in hosts)


async def test_a_friend_is_told_once_and_private_addresses_only_where_discovery_is_on(tox: Recorder) -> None:
    for local, told in ((False, places("11.1.1.1")), (True, places("11.1.1.1", "192.168.1.2"))):
        meet = meeting(tox, local=local)
        tox.told.clear()
        relayed(meet, 3)
        meet.friend_changed(3, connected=True, relayed=False)
        assert tox.told == [(3, Whereabouts(bytes(32), told))]
        meet.friend_changed(3, connected=False, relayed=False)
        relayed(meet, 3)
        assert len(tox.told) == 2
        meet.close()


async def test_a_friend_is_told_the_relays_once_and_again_when_there_are_others(tox: Recorder) -> None:
    one, two = (Relay(ip_address("11.3.3.3"), port, bytes(32)) for port in (443, 3389))
    meet = meeting(tox)
    meet.relays_changed(())
    relayed(meet, 0)
    assert tox.told_relays == []
    meet.relays_changed((one,))
    meet.relays_changed((one,))
    meet.relays_changed(())
    assert tox.told_relays == [(0, (one,))], "those of before may come back"
    relayed(meet, 1)
    meet.relays_changed((one, two))
    assert tox.told_relays[1:] == [(1, (one,)), (0, (one, two)), (1, (one, two))]
    meet.friend_changed(1, connected=False, relayed=False)
    relayed(meet, 1)
    assert tox.told_relays[4:] == [(1, (one, two))]
    meet.close()


async def test_what_a_router_maps_is_told_first(tox: Recorder) -> None:
    meet = meeting(tox)
    meet.friend_changed(0, connected=True, relayed=False)
    meet.map(places("11.9.9.9", port=40000))
    assert tox.told[-1][1].places == (*places("11.9.9.9", port=40000), *places("11.1.1.1"))
    meet.close()


async def test_a_relayed_friend_is_asked_where_it_says_and_a_direct_one_is_not(tox: Recorder) -> None:
    meet = meeting(tox)
    meet.friend_changed(0, connected=True, relayed=False)
    meet.told(0, LIE.packet())
    assert tox.asked == []
    relayed(meet, 0)
    assert tox.asked == [("11.2.2.2", 53)] * MOST
    meet.close()


async def test_addresses_of_this_machine_and_of_other_networks_are_not_asked(
    tox: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_PUBLIC_FIRST", -1.0)
    own, others = ("127.0.0.1", "11.1.1.1", "192.168.1.2", "::1"), ("10.0.0.1", "169.254.1.1", "224.0.0.1")
    told = places(*own, *others, "192.168.1.9")
    for local, asked in ((False, []), (True, [("192.168.1.9", 33445)])):
        meet = meeting(tox, local=local)
        relayed(meet, 0)
        meet.told(0, Whereabouts(bytes(32), told).packet())
        assert tox.asked == asked
        meet.close()


@pytest.mark.parametrize(
    ("request_id", "family", "own_host"),
    [(0, socket.AF_INET, "127.0.0.1"), (2, socket.AF_INET6, "::ffff:127.0.0.1")],
)
async def test_a_relayed_friends_node_that_is_heard_is_asked_where_it_is(
    tox: Recorder,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    request_id: int,
    family: socket.AddressFamily,
    own_host: str,
) -> None:
    monkeypatch.setattr(rendezvous, "is_public", lambda address: True)
    machine.addresses = frozenset()
    key, other = bytes(range(32)), bytes(reversed(range(32)))
    with (
        socket.socket(family, socket.SOCK_DGRAM) as own,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node,
    ):
        own.bind((own_host, 0))
        node.connect(("127.0.0.1", own.getsockname()[1]))

        def heard(datagram: bytes) -> list[tuple[str, int]]:
            node.send(datagram)
            tox.asked.clear()
            meet.listen()
            meet.listen()  # the same one: it is still there
            assert own.recv(200) == datagram
            return tox.asked

        ahead = Ahead(own.fileno())
        meet = Rendezvous(tox, bytes(32), 33445, local=False, deaf=lambda: False, ahead=ahead)
        request = bytes([request_id]) + key + bytes(80)
        relayed(meet, 0)
        assert heard(request) == []  # nobody said that this is a friend's node
        meet.told(0, Whereabouts(key, ()).packet())
        assert heard(bytes([request_id]) + other + bytes(80)) == []
        assert heard(b"\x1b" + key + bytes(80)) == heard(request[:32]) == []
        assert heard(request) == [node.getsockname()]
        assert heard(request) == []  # soon again
        monkeypatch.setattr(rendezvous, "_HEARD_AGAIN", 0.0)
        meet.friend_changed(0, connected=True, relayed=False)
        assert heard(request) == []
        relayed(meet, 0)
        assert len(heard(request)) == 2
        meet.listen()  # there is nothing
        meet.close()
        ahead.close()


async def test_private_addresses_are_asked_last(tox: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(rendezvous, "_PUBLIC_FIRST", 0.25)
    meet = meeting(tox, local=True)
    relayed(meet, 0)
    meet.told(0, Whereabouts(bytes(32), places("192.168.1.9", "11.2.2.2")).packet())
    async with asyncio.timeout(5):
        while ("192.168.1.9", 33445) not in tox.asked:
            await asyncio.sleep(0.01)
    assert tox.asked[:2] == [("11.2.2.2", 33445)] * 2
    meet.close()


async def test_a_node_that_moved_says_so_and_begins_again(
    tox: Recorder, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_FIRST_PAUSE", 0.01)
    meet = meeting(tox)
    relayed(meet, 0, 1)
    meet.told(0, LIE.packet())
    machine.addresses = frozenset({ip_address("11.5.5.5")})
    tox.told.clear()
    async with asyncio.timeout(5):
        while len(tox.told) < 2:
            await asyncio.sleep(0.01)
    moved = Whereabouts(bytes(32), places("11.5.5.5"))
    assert sorted(tox.told, key=lambda told: told[0]) == [(0, moved), (1, moved)]
    meet.close()


@pytest.mark.parametrize("what", ["addresses", "sources"])
async def test_a_direct_friend_is_asked_a_few_times_after_the_system_reports_another_address_or_route(
    tox: Recorder, machine: Machine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its libtoxcore takes nothing from the new address until its node has heard this one there."""
    system, ours = socket.socketpair()
    ours.setblocking(False)
    monkeypatch.setattr(rendezvous, "watch", lambda: ours)
    monkeypatch.setattr(rendezvous, "_FIRST_PAUSE", 0.01)
    meet = meeting(tox)
    meet.friend_changed(0, connected=True, relayed=False)
    meet.told(0, Whereabouts(bytes(32), (VICTIM,)).packet())
    system.send(b"the same addresses as before")
    await asyncio.sleep(0.4)
    assert tox.asked == []
    setattr(machine, what, frozenset({ip_address("192.168.9.9")}))
    system.send(b"another one")
    await asyncio.sleep(0.6)
    assert tox.asked == [("11.2.2.2", 53)] * 4
    assert (tox.told[-1] == (0, Whereabouts(bytes(32), ()))) is (what == "addresses")
    meet.close()
    system.close()


async def test_a_friend_is_told_that_no_udp_comes_here_and_when_it_does_again(
    tox: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_FIRST_PAUSE", 0.01)
    deaf = False
    meet = meeting(tox, deaf=lambda: deaf)
    relayed(meet, 0)
    assert tox.told[-1][1].udp
    for deaf in (True, False):
        async with asyncio.timeout(5):
            while tox.told[-1][1].udp is deaf:
                await asyncio.sleep(0.01)
    assert [told.udp for _, told in tox.told] == [True, False, True]
    meet.close()


async def test_a_node_without_udp_says_so_and_asks_nobody(tox: Recorder) -> None:
    meet = meeting(tox, port=None)
    relayed(meet, 0)
    meet.told(0, LIE.packet())
    assert tox.told == [(0, Whereabouts(bytes(32), (), udp=False))]
    assert tox.asked == []
    meet.close()


async def test_what_a_friend_says_of_udp_there_is_known(tox: Recorder) -> None:
    meet = meeting(tox)
    assert meet.udp_there(0) is None
    for udp in (True, False):
        meet.told(0, Whereabouts(bytes(32), (VICTIM,), udp).packet())
        assert meet.udp_there(0) is udp
    meet.forget(0)
    assert meet.udp_there(0) is None
    meet.close()


async def test_pauses_grow_and_a_removed_friend_is_forgotten(
    tox: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_FIRST_PAUSE", 0.02)
    meet = meeting(tox)
    relayed(meet, 0)
    meet.told(0, LIE.packet())
    await asyncio.sleep(0.7)
    assert 3 * MOST <= len(tox.asked) <= 7 * MOST  # at 0, 0.02, 0.06, 0.14, 0.3, 0.62
    meet.forget(0)
    before = len(tox.asked)
    await asyncio.sleep(1)
    assert len(tox.asked) == before
    meet.close()


async def test_a_liar_makes_a_node_send_little_to_its_victim(tox: Recorder) -> None:
    """It comes and goes, and says each time that its node is elsewhere."""
    meet = meeting(tox)
    for number in range(1000):
        relayed(meet, 0)
        meet.told(0, Whereabouts(bytes([number % 2]) * 32, (VICTIM,) * (1 + number % MOST)).packet())
        meet.friend_changed(0, connected=False, relayed=False)
    assert len(tox.asked) <= 17 * MOST
    meet.close()


async def test_many_liars_make_a_node_send_little_more(tox: Recorder) -> None:
    meet = meeting(tox)
    for friend in range(1000):
        relayed(meet, friend)
        meet.told(friend, LIE.packet())
    assert len(tox.asked) <= 80 * MOST
    meet.close()


async def test_what_a_friend_tells_is_refused_with_few_lines(
    tox: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    meet = meeting(tox)
    relayed(meet, 0, 1)
    for length in range(1, 100):
        meet.told(0, b"\xba" * length)
        meet.told(0, b"\xba\x02" * length)
    for number in range(100):
        meet.told(1, Whereabouts(bytes([number]) * 32, (VICTIM,)).packet())
    meet.told(1, b"\xa0 of another program")
    assert len(caplog.records) == 1
    assert len(tox.asked) <= 5
    meet.close()


async def _tell(folder: Path) -> dict[str, bool]:
    """What a pair of nodes know of one another. This runs where an address is public."""
    async with private_pair(folder) as pair:
        ends = (
            (pair.server, pair.client_number, pair.client),
            (pair.client, pair.server_number, pair.server),
        )
        known = {}
        async with asyncio.timeout(30):
            for node, friend, other in ends:
                assert node._rendezvous is not None
                while (where := node._rendezvous._friends[friend].where) is None:
                    await asyncio.sleep(0.05)
                told = Whereabouts(other.dht_key, ((ip_address("11.0.0.1"), other.udp_port or 0),))
                known[node.name] = where == told
        return known


@needs_namespaces
def test_two_friends_know_where_the_other_is(tmp_path: Path) -> None:
    inside = [sys.executable, "-m", "tests.tox.test_rendezvous", str(tmp_path)]
    run = subprocess.run(
        ["unshare", "--net", "sh", "-c", LOOPBACK, "sh", *inside], capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"server": True, "client": True}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_tell(Path(sys.argv[1])))))
