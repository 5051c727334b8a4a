"""Two friends tell each other where their nodes are, and look for a direct path there.

Tox's network tells each node where it sees the other; that is enough for most. It does not tell what only
the ends know: addresses in a network that both are in, an IPv6 address where no node between them has one,
a port that the router maps. libtoxcore takes a path as soon as the friend's node answers a request from it
(friend_connection.c, `dht_ip_callback`). Both ends send theirs at about the same moment, so that a firewall
or NAT in front of either has seen a packet leave before one comes.

A NAT that has another port for everyone hides one end. Its request shows the other end that port, but
libtoxcore answers it and asks nothing back, unless its list of nodes has room for one more of that distance
(ping.c, `ping_add`; DHT.c, `node_addable_to_close_list`): in a large network it never has. So a friend's
node that is heard is asked from here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from toxproxy.address import Address
from toxproxy.pace import Notice, TokenBucket
from toxproxy.system import interfaces
from toxproxy.system.changes import drain, watch
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.pytox import Tox, ToxError
from toxproxy.tox.recall import Recall
from toxproxy.tox.relay_list import LAYOUT, Relay, parse_relays, relay_packet
from toxproxy.tox.whereabouts import MOST, PACKET_ID, Whereabouts, is_near, is_private, is_public, parse

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries, doubling
_BRIEF = 4  # tries with a friend that is not relayed, after this machine's addresses have changed
_SETTLED = 0.2  # seconds after a change of an address, in which others and the routes follow
# Seconds in which a path between public addresses may be found before private ones are tried. libtoxcore
# never leaves one of those (net_crypto.c, `add_ip_port_connection`), and it may lead through a VPN.
_PUBLIC_FIRST = 2.5
_HEARD_AGAIN = 1.0  # seconds until a friend's node that was heard is asked once more
_TRIES, _TRIES_RATE = 16, 0.1  # with one friend at once, and more of them each second
_ALL_TRIES, _ALL_TRIES_RATE = 64, 4.0  # with all friends together
_KEYS, _KEYS_RATE = 4, 1 / 600  # of a friend's nodes; libtoxcore keeps 32 that it asked as a reserve

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Friend:
    """What is known of one friend."""

    connected: bool = False
    relayed: bool = False
    since: float = 0.0  # when it became so
    where: Whereabouts | None = None  # what it told last
    told: Whereabouts | None = None  # what it was told last
    told_relays: tuple[Relay, ...] = ()  # the same
    pause: float = _FIRST_PAUSE
    tried: int = 0  # since the pauses began
    heard: float = -_HEARD_AGAIN  # when its node was last asked because it was heard
    timer: asyncio.TimerHandle | None = None
    tries: TokenBucket = field(default_factory=lambda: TokenBucket(_TRIES, _TRIES_RATE))
    keys: TokenBucket = field(default_factory=lambda: TokenBucket(_KEYS, _KEYS_RATE))

    def rest(self) -> None:
        """Try no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Rendezvous:
    """The friends of one node. `key` is its DHT key, `port` its UDP port, None without UDP.

    `ahead` is of its UDP socket; without it no friend's node is heard. Unless `local`, addresses of
    private networks are neither told nor tried. `deaf` says whether no UDP packet reaches this node.
    `recall` is told what is heard of friends.
    """

    def __init__(
        self,
        tox: Tox,
        key: bytes,
        port: int | None,
        *,
        local: bool,
        deaf: Callable[[], bool],
        ahead: Ahead | None = None,
        recall: Recall | None = None,
    ) -> None:
        self._tox = tox
        self._key = key
        self._port = port
        self._local = local
        self._deaf = deaf
        self._recall = recall
        self._loop = asyncio.get_running_loop()
        self._changes = watch()
        if self._changes is not None:
            self._loop.add_reader(self._changes, self._changed)
        self._settling: asyncio.TimerHandle | None = None
        self._mapped: tuple[tuple[Address, int], ...] = ()
        self._relays: tuple[Relay, ...] = ()
        self._friends: dict[int, _Friend] = {}
        self._ahead = ahead
        self._awaited: dict[bytes, _Friend] = {}  # relayed friends, by the DHT keys of their nodes
        self._tries = TokenBucket(_ALL_TRIES, _ALL_TRIES_RATE)
        self._refused = Notice(_log)
        self._own, self._sources = own_addresses(), interfaces.sources()
        self._here = self._look()

    def close(self) -> None:
        """Stop."""
        if self._changes is not None:
            self._loop.remove_reader(self._changes)
            self._changes.close()
        if self._settling is not None:
            self._settling.cancel()
        for friend in self._friends.values():
            friend.rest()

    def map(self, places: Sequence[tuple[Address, int]]) -> None:
        """Public addresses and UDP ports at which a router now passes packets to this node."""
        self._mapped = tuple(places)
        self._tell_all()

    def relays_changed(self, relays: tuple[Relay, ...]) -> None:
        """This node is connected to these relays now. Tells friends, unless there are none."""
        if relays and relays != self._relays:
            self._relays = relays
            for number, friend in self._friends.items():
                self._tell(number, friend)

    def udp_there(self, number: int) -> bool | None:
        """Whether UDP packets reach the friend's node; None if it has not told."""
        friend = self._friends.get(number)
        return None if friend is None or friend.where is None else friend.where.udp

    def friend_changed(self, number: int, *, connected: bool, relayed: bool) -> None:
        """Tox has connected a friend, directly or through a relay, or lost it."""
        friend = self._friends.setdefault(number, _Friend())
        if self._recall is not None:
            self._recall.friend_changed(number, connected=connected, relayed=relayed)
        if not connected:
            friend.told, friend.told_relays = None, ()
        friend.connected, friend.relayed = connected, relayed
        friend.since = self._loop.time()
        friend.rest()
        self._look_again()
        self._tell(number, friend)
        if relayed and friend.timer is None:
            self._begin(number, friend)
        self._await()

    def forget(self, number: int) -> None:
        """The friend was removed."""
        if self._recall is not None:
            self._recall.removed(number)
        if (friend := self._friends.pop(number, None)) is not None:
            friend.rest()
        self._await()

    def told(self, number: int, packet: bytes) -> None:
        """A friend's lossless packet came."""
        if packet[0] != PACKET_ID:
            return
        try:
            if packet[1:2] == bytes([LAYOUT]):
                self._told_relays(number, parse_relays(packet))
                return
            where = parse(packet)
        except ValueError as error:
            self._refused("friend %d does not say where its node is: %s", number, error)
            return
        friend = self._friends.setdefault(number, _Friend())
        known, friend.where = friend.where, where
        if (known is None or known.key != where.key) and not friend.keys.take():
            self._refused("friend %d says too often that it has another node", number)
            friend.where = known
            return
        if self._recall is not None:
            self._recall.told(number, where)
        if friend.relayed and known != where:
            self._begin(number, friend)
        self._await()

    def _told_relays(self, number: int, relays: tuple[Relay, ...]) -> None:
        if self._recall is not None:
            self._recall.told_relays(number, relays)

    def _await(self) -> None:
        friends = self._friends.values()
        self._awaited = {each.where.key: each for each in friends if each.relayed and each.where}

    def listen(self) -> None:
        """Ask the node of a relayed friend that is heard. Call this before libtoxcore reads."""
        if not self._awaited or self._ahead is None or (datagram := self._ahead.next()) is None:
            return
        friend = self._awaited.get(datagram.caller or b"")
        if friend is not None and (now := self._loop.time()) >= friend.heard + _HEARD_AGAIN:
            friend.heard = now
            self._ask(friend, ((datagram.address, datagram.port),))

    def _begin(self, number: int, friend: _Friend) -> None:
        friend.rest()
        friend.pause, friend.tried = _FIRST_PAUSE, 0
        self._try(number, friend)

    def _try(self, number: int, friend: _Friend) -> None:
        """Ask the friend's node at all of its addresses; try again after a pause."""
        friend.tried += 1
        if friend.relayed or friend.tried < _BRIEF:
            friend.timer = self._loop.call_later(friend.pause, self._try_again, number, friend)
            friend.pause = min(2 * friend.pause, _LONGEST_PAUSE)
        if friend.where is not None:
            self._ask(friend, friend.where.places)

    def _ask(self, friend: _Friend, places: Sequence[tuple[Address, int]]) -> None:
        """Ask the friend's node at these addresses, where that is allowed."""
        if self._port is None or friend.where is None:
            return
        if not (friend.tries.take() and self._tries.take()):
            return
        waited = friend.relayed and self._loop.time() - friend.since > _PUBLIC_FIRST
        near = self._local and waited
        for address, port in places:
            if address not in self._own and (is_public(address) or (near and is_near(address, self._own))):
                with suppress(ToxError):  # there is no way there now
                    self._tox.bootstrap(str(address), port, friend.where.key.hex())

    def _try_again(self, number: int, friend: _Friend) -> None:
        self._look_again()
        self._tell(number, friend)
        self._try(number, friend)

    def woke(self) -> None:
        """This machine was asleep: it may be in another network."""
        self._notice_move()

    def _changed(self) -> None:
        """The system reports changes of addresses; several come together."""
        assert self._changes is not None
        drain(self._changes)
        if self._settling is None:
            self._settling = self._loop.call_later(_SETTLED, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self._notice_move()

    def _look_again(self) -> None:
        self._notice_move()
        if self._here.udp is self._deaf():
            self._tell_all()

    def _notice_move(self) -> None:
        """If this machine's packets may have another sender now, tell the friends, and ask them all.

        A friend that is not relayed does not hear this node any more, until its own node knows where it is.
        """
        now = own_addresses(), interfaces.sources()
        if now == (self._own, self._sources):
            return
        self._own, self._sources = now
        self._tell_all()
        for number, friend in self._friends.items():
            if friend.connected:
                self._begin(number, friend)

    def _tell_all(self) -> None:
        self._here = self._look()
        for number, friend in self._friends.items():
            self._tell(number, friend)

    def _tell(self, number: int, friend: _Friend) -> None:
        """Tell a friend where this node is, and which relays it uses, unless it knows."""
        if not friend.connected:
            return
        send = self._tox.friend_send_lossless_packet
        with suppress(ToxError):  # it is no friend any more
            if friend.told != self._here and send(number, self._here.packet()):
                friend.told = self._here
            if friend.told_relays != self._relays and send(number, relay_packet(self._relays)):
                friend.told_relays = self._relays

    def _look(self) -> Whereabouts:
        if self._port is None:
            return Whereabouts(self._key, (), udp=False)
        own = sorted(self._own, key=str)
        places = [*self._mapped, *((address, self._port) for address in own if is_public(address))]
        if self._local:
            places += ((address, self._port) for address in own if is_private(address))
        return Whereabouts(self._key, tuple(places[:MOST]), udp=not self._deaf())


def own_addresses() -> frozenset[Address]:
    """The addresses of this machine."""
    try:
        return interfaces.look().addresses
    except OSError:
        return frozenset()
