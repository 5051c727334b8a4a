"""libtoxcore is told where a friend's node was."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.tox.pair import PRIVATE, Diary, private_pair
from toxproxy.address import Address
from toxproxy.system.state import StateFolder
from toxproxy.tox import library
from toxproxy.tox import recall as module
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.identity import save_identity
from toxproxy.tox.known_nodes import FILE, KnownNode, KnownNodes
from toxproxy.tox.library import ffi
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tox.pytox import Tox, ToxOptions
from toxproxy.tox.recall import GIVEN_UP, Recall
from toxproxy.tox.relay_list import Relay
from toxproxy.tox.whereabouts import Whereabouts

OPTIONS = ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=40900, end_port=40999)
OWN = frozenset({ip_address("192.168.1.2"), ip_address("11.1.1.1")})
HEARD = (ip_address("192.168.7.7"), 7)
PUBLIC, NEAR, FAR = ((ip_address(host), 33445) for host in ("11.2.2.2", "192.168.1.9", "10.0.0.9"))
NODE = bytes(range(32))
OURS, THEIRS, HIDDEN = (
    Relay(ip_address(host), 443, NODE) for host in ("192.168.7.8", "11.3.3.3", "192.168.7.9")
)


def public_key() -> bytes:
    """A new key that somebody may have."""
    public, secret = ffi.new("uint8_t[]", 32), ffi.new("uint8_t[]", 32)
    library.load().crypto_box_keypair(public, secret)
    return bytes(public)


class Recorder(Tox):
    """A node with friends. What it would be told is recorded."""

    def __init__(self, friends: int) -> None:
        super().__init__(OPTIONS)
        self.told: list[tuple[int, bytes | None, int, Sequence[tuple[Address, int]]]] = []
        self.told_relays: list[Sequence[Relay]] = []
        self.keys = [public_key() for _ in range(friends)]
        for key in self.keys:
            self.friend_add_norequest(key.hex())

    def friend_dht_packet(
        self,
        friend_number: int,
        key: bytes | None,
        number: int,
        places: Sequence[tuple[Address, int]] = (),
        relays: Sequence[Relay] = (),
    ) -> bytes | None:
        self.told.append((friend_number, key, number, places))
        self.told_relays.append(relays)
        return super().friend_dht_packet(friend_number, key, number, places, relays)


@pytest.fixture
def tox() -> Iterator[Recorder]:
    tox = Recorder(1)
    yield tox
    tox.kill()


def recalling(
    tox: Tox,
    folder: Path,
    *,
    local: bool = False,
    send: Callable[[bytes, Address, int], None] = lambda *_: None,
    ahead: Ahead | None = None,
) -> Recall:
    return Recall(
        tox,
        tox.self_get_udp_port(),
        StateFolder(folder),
        place=lambda _: HEARD,
        send=send,
        ahead=ahead,
        own=lambda: OWN,
        relays={(str(OURS.address), OURS.port): OURS},
        local=local,
    )


def remember(folder: Path, *friends: bytes) -> None:
    known = KnownNodes(StateFolder(folder))
    for friend in friends:
        known.put(friend, KnownNode(NODE, (PUBLIC,)))
    known.write()


def saved(folder: Path) -> list[str]:
    (entry,) = (each for each in json.loads((folder / FILE).read_bytes()).values() if isinstance(each, dict))
    return [str(place[0]) for place in entry["places"]]


async def test_what_was_saved_is_told_at_the_start_and_again(
    tox: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    remember(tmp_path, *tox.keys)
    recall = recalling(tox, tmp_path)
    recall.start()
    async with asyncio.timeout(30):
        while len(tox.told) < 5:
            await asyncio.sleep(0.01)
    recall.close()
    assert tox.told[:5] == [(0, NODE, number, (PUBLIC,)) for number in range(1, 6)]
    tox.iterate()  # it takes them


async def test_a_friend_is_told_this_nodes_key_where_it_was(tox: Recorder, tmp_path: Path) -> None:
    known = KnownNodes(StateFolder(tmp_path))
    known.put(tox.keys[0], KnownNode(NODE, (PUBLIC, NEAR)))
    known.write()
    sent: list[tuple[bytes, Address, int]] = []
    for _ in range(2):  # the first time this node has another port than it had, as far as is known
        assert not sent
        recall = recalling(tox, tmp_path, send=lambda *each: sent.append(each))
        recall.start()
        await asyncio.sleep(0.05)
        recall.close()
    (packet, *first), (again, *second) = sent
    assert (tuple(first), tuple(second), again) == (PUBLIC, NEAR, packet)
    assert packet[1:33] == NODE
    assert packet[33:65].hex().upper() == tox.self_get_dht_id()


async def test_a_friend_of_whom_nothing_is_known_is_not_looked_for(tox: Recorder, tmp_path: Path) -> None:
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.woke(1000)
    await asyncio.sleep(0.05)
    recall.close()
    assert not tox.told
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("local", [False, True])
async def test_a_direct_friend_is_kept_where_it_is_heard_and_then_where_it_says(
    tox: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    monkeypatch.setattr(module, "_SETTLED", 0.0)
    recall = recalling(tox, tmp_path, local=local)
    recall.start()
    recall.friend_changed(0, connected=True, relayed=False)
    recall.told(0, Whereabouts(NODE, (PUBLIC, NEAR, FAR, (ip_address("11.1.1.1"), 1))))
    await asyncio.sleep(0.05)
    recall.close()
    places = [HEARD, PUBLIC, NEAR] if local else [HEARD, PUBLIC]
    assert saved(tmp_path) == [str(address) for address, _ in places]


async def test_a_relayed_friend_is_kept_where_it_says(tox: Recorder, tmp_path: Path) -> None:
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.friend_changed(0, connected=True, relayed=True)
    recall.told(0, Whereabouts(NODE, (PUBLIC, NEAR)))
    recall.close()
    assert saved(tmp_path) == [str(PUBLIC[0])]


async def test_relays_of_a_friend_are_kept_and_told_to_libtoxcore_at_the_start(
    tox: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of private networks only if this node uses them, too."""
    monkeypatch.setattr(module, "_SETTLED", 0.0)
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.friend_changed(0, connected=True, relayed=True)
    recall.told(0, Whereabouts(NODE, ()))
    false = OURS._replace(key=bytes(32))
    recall.told_relays(0, (OURS, THEIRS, HIDDEN, false))
    await asyncio.sleep(0.05)
    recall.close()
    for _ in range(2):  # the second time the friend has told none
        recall = recalling(tox, tmp_path)
        recall.start()
        await asyncio.sleep(0.05)
        assert tox.told_relays.pop() == (OURS, THEIRS)
        recall.friend_changed(0, connected=True, relayed=True)
        recall.told(0, Whereabouts(NODE, (PUBLIC,)))
        recall.close()


async def test_a_friend_that_was_lost_is_not_looked_for_while_libtoxcore_does(
    tox: Recorder, tmp_path: Path
) -> None:
    """It may have said that it has another node now."""
    remember(tmp_path, *tox.keys)
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.friend_changed(0, connected=True, relayed=True)
    recall.friend_changed(0, connected=False, relayed=False)
    await asyncio.sleep(0.05)
    assert not tox.told
    recall.woke(5)
    await asyncio.sleep(0.05)
    recall.close()
    assert len(tox.told) == 1


async def test_a_connection_that_the_friend_gave_up_during_sleep_is_ended_first(
    tox: Recorder, tmp_path: Path
) -> None:
    remember(tmp_path, *tox.keys)
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.friend_changed(0, connected=True, relayed=True)
    recall.woke(GIVEN_UP - 1)
    assert not tox.told
    recall.woke(GIVEN_UP)
    recall.close()
    assert [key for _, key, *_ in tox.told] == [None, NODE]
    assert tox.told[1][2] < tox.told[0][2]


async def test_many_friends_are_looked_for_one_after_the_other(tmp_path: Path) -> None:
    tox = Recorder(100)
    remember(tmp_path, *tox.keys)
    recall = recalling(tox, tmp_path)
    recall.start()
    await asyncio.sleep(0.2)
    recall.close()
    tox.kill()
    assert 64 <= len(tox.told) < 70


async def test_a_friend_that_was_removed_is_forgotten(tox: Recorder, tmp_path: Path) -> None:
    remember(tmp_path, *tox.keys)
    recall = recalling(tox, tmp_path)
    recall.start()
    recall.removed(0)
    recall.forget(tox.keys[0])
    await asyncio.sleep(0.05)
    recall.close()
    assert not tox.told
    assert json.loads((tmp_path / FILE).read_bytes()) == {}


async def test_a_friend_that_was_started_again_is_heard_where_it_was(
    tox: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So was this node: the friend's packets are for the key that it had before."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.1)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node,
    ):
        own.bind(("127.0.0.1", 0))
        node.bind(("127.0.0.1", 0))
        node.connect(own.getsockname())
        place = ip_address("127.0.0.1"), node.getsockname()[1]
        known = KnownNodes(StateFolder(tmp_path))
        known.put(tox.keys[0], KnownNode(NODE, (place,)))
        known.write()
        ahead = Ahead(own.fileno())
        recall = recalling(tox, tmp_path, ahead=ahead)
        recall.start()
        await asyncio.sleep(0.05)
        tox.told.clear()

        def heard(key: bytes, kind: int = 0x18) -> list[bytes | None]:
            node.send(bytes([kind]) + key + bytes(80))
            recall.listen()
            recall.listen()  # the same one: it is still there
            own.recv(200)
            keys = [key for _, key, *_ in tox.told]
            tox.told.clear()
            return keys

        other = public_key()
        assert heard(other) == [other]
        assert heard(other) == [], "it is said once"
        assert heard(NODE) == [], "that is the one that is known"
        await asyncio.sleep(0.5)
        assert not tox.told, "the key of before would end what has begun"
        assert heard(public_key(), 0x1B) == [], "that is no request"
        recall.friend_changed(0, connected=True, relayed=False)
        assert heard(public_key()) == [], "it is not away any more"
        recall.close()
        ahead.close()


async def test_a_node_that_slept_connects_anew_and_a_killed_one_needs_nobody_but_the_file(
    tmp_path: Path,
) -> None:
    """The first takes its friend for connected. The second has no bootstrap node, and knows no other node."""
    async with private_pair(tmp_path) as pair:
        file = tmp_path / "client" / FILE
        async with asyncio.timeout(60):
            while not file.exists():
                await asyncio.sleep(0.1)
        diary = pair.client_diary
        diary.friends.clear()
        pair.client._woke(GIVEN_UP)
        await diary.until(lambda: diary.friends[-1:] == [(pair.server_number, ConnectionStatus.UDP)])
        assert diary.friends[0] == (pair.server_number, ConnectionStatus.NONE)

        killed = StateFolder(tmp_path / "killed")
        killed.write(FILE, file.read_bytes())
        write_identity(killed, pair.client, pair.server.public_key)
        await pair.client.close()
        diary = Diary()
        async with Node(PRIVATE, killed, "client", diary) as client:
            number = client.friends[pair.server.public_key]
            await diary.until(lambda: client.friend_connection(number) is ConnectionStatus.UDP)


def write_identity(state: StateFolder, of: Node, friend: bytes) -> None:
    """Write the identity of a node with one friend, and nothing else."""
    secret = ffi.new("uint8_t[]", 32)
    library.load().tox_self_get_secret_key(of._tox._alive("the secret key"), secret)
    alone = Tox(
        ToxOptions(
            savedata_data=bytes(secret),
            savedata_type=Tox.SAVEDATA_TYPE_SECRET_KEY,
            udp_enabled=False,
            local_discovery_enabled=False,
        )
    )
    alone.friend_add_norequest(friend.hex())
    save_identity(alone, state)
    alone.kill()
