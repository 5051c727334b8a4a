"""Tells libtoxcore where the nodes of friends are, when it has forgotten.

libtoxcore forgets a friend's DHT key at its end, and two minutes after it lost the friend (FRIEND_DHT_TIMEOUT
in friend_connection.c). A machine that was asleep for half a minute or more has a connection that the friend
has given up; libtoxcore notices that after 32 silent seconds of its own. In both cases the friend is mostly
where it was. So its DHT key and its addresses are kept (`known_nodes`), and libtoxcore is told (`dht_key`).
It then connects as after any search.

The friend may still take the old connection for good. Then it ignores a handshake from the address of that
connection (`udp_handle_packet` in net_crypto.c), which is that of a node with the port of before. So such a
node first says that it has another DHT key, by a packet that libtoxcore sends only through other nodes: here
it goes to the friend's node itself. (After that, libtoxcore 0.2.22 takes no handshake from another address of
a private network than before, so a node with another port says nothing.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from toxproxy.address import Address
from toxproxy.pace import TokenBucket
from toxproxy.system.state import StateFolder
from toxproxy.timer import Seldom, Timer
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.dht_key import deliver
from toxproxy.tox.known_nodes import MOST, KnownNode, KnownNodes
from toxproxy.tox.pytox import Tox, ToxError
from toxproxy.tox.relay_list import Relay
from toxproxy.tox.whereabouts import Whereabouts, is_near, is_public

# Seconds of sleep after which a friend may have given this node up: FRIEND_CONNECTION_TIMEOUT less
# FRIEND_PING_INTERVAL in friend_connection.h.
GIVEN_UP = 24.0

_FORGOTTEN = 125.0  # seconds after losing a friend, FRIEND_DHT_TIMEOUT and some
# Seconds between two times that libtoxcore is told, doubling. 0.2.22 takes relays the second time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 600.0
_AT_ONCE, _RATE = 64, 4.0  # times, for all friends together, and more of them each second
_MEETING = 5.0  # seconds for a connection with a friend whose new key was heard
_SETTLED, _AGAIN = 2.0, 600.0  # seconds from a direct path until its address is looked at, and once more
_SAVE_AFTER, _SAVE_EVERY = 3.0, 10.0  # seconds from a change until it is written, and between two times
_AHEAD = 300  # seconds by which a friend's clock may be ahead


@dataclass(slots=True)
class _Friend:
    """What is known of one friend. `number` is that of the last packet for libtoxcore."""

    key: bytes
    timer: Timer
    connected: bool = False
    direct: bool = False
    pause: float = _FIRST_PAUSE
    number: int = 0
    said: bytes | None = None  # the DHT key with which it was last heard, while it was away
    where: Whereabouts | None = None
    relays: tuple[Relay, ...] = ()


class Recall:
    """The friends of a node. `port` is its UDP port.

    `place` says where libtoxcore sends the packets for a friend, None if that is not known. `send` sends a
    packet from the node's UDP socket, of which `ahead` is. `own` are this machine's addresses, `relays` those
    that this node was told by others than friends. Unless `local`, addresses of private networks that
    friends tell are not asked, but for these relays.
    """

    def __init__(
        self,
        tox: Tox,
        port: int,
        state: StateFolder,
        *,
        place: Callable[[int], tuple[Address, int] | None],
        send: Callable[[bytes, Address, int], None],
        ahead: Ahead | None,
        own: Callable[[], Iterable[Address]],
        relays: Mapping[tuple[str, int], Relay],
        local: bool,
    ) -> None:
        self._tox = tox
        self._port = port
        self._known = KnownNodes(state)
        self._same_port = False  # as in the last run
        self._place = place
        self._send = send
        self._ahead = ahead
        self._absent: set[int] = set()  # friends that are looked for
        self._heard: dict[tuple[Address, int], int] = {}  # friends, by the best address of their nodes
        self._own = own
        self._relays = relays
        self._local = local
        self._friends: dict[int, _Friend] = {}
        self._bucket = TokenBucket(_AT_ONCE, _RATE)
        self._saving = Seldom(self._known.write, _SAVE_AFTER, _SAVE_EVERY)

    def start(self) -> None:
        """Look for all friends where they were last."""
        self._known.read()
        self._same_port = self._known.port == self._port
        if self._known.move(self._port):
            self._saving.soon()
        for number in self._tox.self_get_friend_list():
            self.added(number)

    def close(self) -> None:
        """Stop. What is new is written down."""
        for friend in self._friends.values():
            friend.timer.stop()
        if self._saving.stop():
            self._known.write()

    def added(self, number: int) -> None:
        """There is a friend with this number. Look for it where it was last."""
        self._begin(number, self._friend(number))

    def friend_changed(self, number: int, *, connected: bool, relayed: bool) -> None:
        """Tox has connected a friend, directly or through a relay, or lost it."""
        friend = self._friend(number)
        if friend.connected and not connected:
            friend.number = 0  # libtoxcore forgets the last one (`onion_set_friend_online`)
        friend.connected, friend.direct = connected, connected and not relayed
        friend.timer.stop()
        self._absent.discard(number)
        if friend.direct:
            friend.timer.set(_SETTLED)
        elif not connected and self._known.get(friend.key) is not None:
            # Not before: a friend that was started again has said its new key, and is connected in a moment.
            friend.pause = _FIRST_PAUSE
            friend.timer.set(_FORGOTTEN)
            self._absent.add(number)

    def told(self, number: int, where: Whereabouts) -> None:
        """A friend has told where its node is."""
        friend = self._friend(number)
        friend.where = where
        if friend.direct:
            friend.timer.set(_SETTLED)
        elif friend.connected:
            self._remember(number, friend)

    def told_relays(self, number: int, relays: tuple[Relay, ...]) -> None:
        """A friend has told to which relays its node is connected."""
        friend = self._friend(number)
        friend.relays = relays
        if friend.connected:
            friend.timer.set(_SETTLED)

    def removed(self, number: int) -> None:
        """There is no friend with this number any more. It may be added again."""
        if (friend := self._friends.pop(number, None)) is not None:
            friend.timer.stop()
            self._absent.discard(number)
            self._heard = {place: each for place, each in self._heard.items() if each != number}

    def forget(self, key: bytes) -> None:
        """Whose key this is will be no friend any more."""
        if self._known.drop(key):
            self._saving.soon()

    def woke(self, asleep: float) -> None:
        """This process did nothing for so many seconds. Call it when libtoxcore has read what came since."""
        for number, friend in self._friends.items():
            if friend.connected and asleep >= GIVEN_UP and (node := self._known.get(friend.key)) is not None:
                # The key that nobody has ends the connection; the true one follows.
                self._tell(number, None, int(time.time()) + _AHEAD)
                friend.number = 1
                self._tell(number, node.key, friend.number, node.places, node.relays)
            elif not friend.connected:
                self._begin(number, friend)

    def listen(self) -> None:
        """See whether a friend that is away asks from where it was, with another DHT key: both ends were
        started again. Call this before libtoxcore reads. It drops what is for this node's old key.
        """
        if not self._absent or self._ahead is None:
            return
        if (datagram := self._ahead.next()) is None or (key := datagram.caller) is None:
            return
        place = datagram.address, datagram.port
        if (number := self._heard.get(place, -1)) not in self._absent:
            return
        friend = self._friends[number]
        if (node := self._known.get(friend.key)) is None or key in (node.key, friend.said):
            return
        if self._bucket.take():
            friend.said = key
            friend.number += 1
            self._tell(number, key, friend.number, (place,))
            meeting = asyncio.get_running_loop().time() + _MEETING
            friend.timer.set_at(max(friend.timer.due, meeting))  # the old key would end it

    def _friend(self, number: int) -> _Friend:
        if (friend := self._friends.get(number)) is None:
            key = bytes.fromhex(self._tox.friend_get_public_key(number))
            friend = self._friends[number] = _Friend(key, Timer(lambda: self._rang(number)))
            if (node := self._known.get(key)) is not None:
                friend.relays = node.relays  # until it tells others
        return friend

    def _begin(self, number: int, friend: _Friend) -> None:
        """Tell libtoxcore at once where the friend was, and again after pauses that grow."""
        friend.pause = _FIRST_PAUSE
        if (node := self._known.get(friend.key)) is not None:
            friend.timer.set(0)
            self._absent.add(number)
            self._heard.update(dict.fromkeys(node.places[:1], number))

    def _rang(self, number: int) -> None:
        friend = self._friends[number]
        if friend.connected:
            friend.timer.set(_AGAIN)
            self._remember(number, friend)
            return
        friend.timer.set(friend.pause)
        friend.pause = min(2 * friend.pause, _LONGEST_PAUSE)
        if friend.pause == _LONGEST_PAUSE:
            self._absent.discard(number)
        if self._bucket.take() and (node := self._known.get(friend.key)) is not None:
            friend.number += 1
            self._tell(number, node.key, friend.number, node.places, node.relays)
            self._announce(number, node)

    def _announce(self, number: int, node: KnownNode) -> None:
        """Tell the friend this node's DHT key. It is to come before libtoxcore's handshake."""
        if not self._same_port:
            return
        with suppress(ToxError, ValueError):
            if (packet := self._tox.friend_dht_announcement(number, node.key, int(time.time()))) is not None:
                for address, port in node.places:
                    self._send(packet, address, port)

    def _tell(
        self,
        number: int,
        key: bytes | None,
        count: int,
        places: tuple[tuple[Address, int], ...] = (),
        relays: tuple[Relay, ...] = (),
    ) -> None:
        with suppress(ToxError, ValueError):  # it is no friend any more; no key
            if (packet := self._tox.friend_dht_packet(number, key, count, places, relays)) is not None:
                deliver(packet, self._port)

    def _remember(self, number: int, friend: _Friend) -> None:
        """Note where the friend is: where it is heard first, then what it tells."""
        if friend.where is None:
            return
        heard = self._place(number) if friend.direct else None
        own = list(self._own())
        told = [place for place in friend.where.places if self._may_ask(place[0], own)]
        places = dict.fromkeys([heard, *told] if heard is not None else told)
        self._heard.update(dict.fromkeys(list(places)[:1], number))
        relays = tuple(each for each in friend.relays if self._may_use(each, own))
        friend.said = None
        if self._known.put(friend.key, KnownNode(friend.where.key, tuple(places)[:MOST], relays)):
            self._saving.soon()

    def _may_use(self, relay: Relay, own: list[Address]) -> bool:
        known = self._relays.get((str(relay.address), relay.port))
        return known == relay or self._may_ask(relay.address, own)

    def _may_ask(self, address: Address, own: list[Address]) -> bool:
        return address not in own and (is_public(address) or (self._local and is_near(address, own)))
