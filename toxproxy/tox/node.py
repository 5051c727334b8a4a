"""A Tox node on an asyncio loop. It runs when one of its sockets is ready or its timer expires."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from toxproxy.address import Address, ToxId
from toxproxy.config.settings import ToxSettings
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.system.resolver import Resolver
from toxproxy.system.state import StateFolder
from toxproxy.timer import Seldom, Timer
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.bootstrap import Bootstrap
from toxproxy.tox.flow import Flow
from toxproxy.tox.hearing import Hearing
from toxproxy.tox.identity import open_identity, save_identity
from toxproxy.tox.inbox import ConnectionStatus, Inbox, NodeEvents, PacketSink
from toxproxy.tox.knock import Knocks
from toxproxy.tox.neighbours import Neighbours
from toxproxy.tox.pytox import MAX_NAME_LENGTH, Tox, ToxError
from toxproxy.tox.recall import Recall
from toxproxy.tox.relay_sharing import RelaySharing
from toxproxy.tox.relay_sockets import RelaySockets
from toxproxy.tox.rendezvous import Rendezvous, own_addresses
from toxproxy.tox.sleep import Sleep
from toxproxy.tox.startup import find_udp_socket, tox_options

__all__ = ["ConnectionStatus", "Node"]

_BUSY_PAUSE = 0.002  # seconds between two iterations while packets flow over sockets that are not watched
_BUSY_SPAN = 0.1  # seconds without a packet after which they do not flow any more
# Seconds from a change to saving the known nodes, and between two times.
_SAVE_AFTER, _SAVE_EVERY = 10.0, 600.0
_DOUBT_EVERY = 10.0  # seconds
_CALM = 2  # times libtoxcore's interval, if packets wake the node: libtoxcore's own timers are in seconds
_CLOCK_STEP = 0.001  # seconds by which a loop's timer may expire early, above all uvloop's

_log = logging.getLogger(__name__)


class Node:
    """A Tox node with a permanent identity. Use it as an asynchronous context manager.

    Identity and friends are saved in `state`. `start` sets `tox_id`, the keys (32 bytes each) and the
    ports; a port is None if it is not bound. Other nodes need `dht_key` and `udp_port` to bootstrap
    from this node. `dht_key` is new at every start.
    """

    tox_id: ToxId
    public_key: bytes
    dht_key: bytes
    udp_port: int | None
    tcp_port: int | None

    def __init__(self, settings: ToxSettings, state: StateFolder, name: str, events: NodeEvents) -> None:
        self.connection = ConnectionStatus.NONE
        #: Is called when nothing ran for so many seconds: this process was stopped, or the machine slept.
        self.woke: Callable[[float], None] = lambda _: None
        self.turns = 0  # how often libtoxcore was called: one that works has more every second
        self._settings = settings
        self._state = state
        self.name = name
        self._events = events
        self._running: Inbox | None = None
        self._bootstrap: Bootstrap | None = None
        self._bootstrapping: asyncio.Task[None] | None = None
        self._descriptors: list[int] = []  # that the loop watches
        self._polls = False  # sockets are in use that are not watched, so a timer is needed
        self._last_packet = 0.0
        self._timer = Timer(self._timer_rang)
        self._due = 0.0
        self._flow = Flow()
        self._saving = Seldom(self._save_nodes, _SAVE_AFTER, _SAVE_EVERY)
        self._knocks: Knocks | None = None
        self._rendezvous: Rendezvous | None = None
        self._recall: Recall | None = None
        self._sleep = Sleep()
        self._asleep: float | None = None  # seconds; nobody was told yet
        self._hearing: Hearing | None = None
        self._neighbours: Neighbours | None = None
        self._over_tcp: set[int] = set()  # friends
        self._direct = False  # one is
        self._doubt_at = 0.0  # the earliest time
        self._rest: asyncio.TimerHandle | None = None  # until it expires, no socket is watched

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the node and join the network.

        Raises `LibraryMissing`, `StateError` if the identity cannot be read or written, and
        `ToxproxyError` if the ports are in use or the proxy is not found.
        """
        self._loop = asyncio.get_running_loop()
        resolver = Resolver()  # only one, since it limits how many names are looked up at once
        options = await tox_options(self._settings, resolver, self._state)
        tox = open_identity(Inbox, options, self._state)
        try:
            self._describe(tox)
            tox.self_set_name(self.name.encode()[:MAX_NAME_LENGTH].decode(errors="ignore"))
        except BaseException:
            tox.kill()
            raise
        self._running = tox
        self._sockets, self._sharing = RelaySockets(self.tcp_port), RelaySharing(tox)
        self._udp = None
        if self.udp_port is not None:
            self._udp = find_udp_socket(self.udp_port)
        self._ahead = None if self._udp is None else Ahead(self._udp)
        if self._udp is not None:
            self._knocks = Knocks(self._udp, tox.friend_send_lossy_packet)
        self._recall = self._make_recall(tox)
        self._rendezvous = Rendezvous(
            tox,
            self.dht_key,
            self.udp_port,
            local=self._settings.local_discovery,
            deaf=lambda: self.deaf_s is not None,
            ahead=self._ahead,
            recall=self._recall,
        )
        if self._ahead is not None:
            self._hearing = Hearing(self._ahead)
        self._descriptors = [each for each in (self._udp, self._sockets.descriptor) if each is not None]
        for descriptor in self._descriptors:
            self._loop.add_reader(descriptor, self._iterate)
        if self._settings.local_discovery and self._udp is not None:
            self._neighbours = Neighbours(self._udp, self.dht_key)
        if self._settings.bootstrap != () or self._settings.relays or self._neighbours is not None:
            self._bootstrap = Bootstrap.configured(tox, self._settings, resolver, ipv6=options.ipv6_enabled)
            self._bootstrap.hearing, self._bootstrap.neighbours = self._hearing, self._neighbours
            self._bootstrapping = asyncio.create_task(self._bootstrap.run(), name="tox bootstrap")
        if self._recall is not None:
            self._recall.start()
        self._sockets.search(self._loop.time())
        self._refresh()
        self._schedule()

    async def close(self) -> None:
        """Leave the network. Friends are told. Packets sent just before may be lost."""
        if (tox := self._running) is None:
            return
        self._running = None
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)  # before the descriptor is closed and may be reused
        self._sockets.close()
        self._sharing.close()
        for each in (self._recall, self._knocks, self._ahead, self._neighbours):
            if each is not None:
                each.close()
        if self._rendezvous is not None:
            self._rendezvous.close()
        self._timer.stop()
        self._saving.stop()
        if self._rest is not None:
            self._rest.cancel()
        if self._bootstrapping is not None:
            self._bootstrapping.cancel()
        try:
            if self._bootstrapping is not None:
                await asyncio.wait([self._bootstrapping])
            save_identity(tox, self._state)  # with the known nodes, so that the next start is quick
        except StateError as error:
            _log.warning("%s", error)
        finally:
            tox.kill()

    # Friends.

    @property
    def friends(self) -> dict[bytes, int]:
        """The friends' numbers by their keys. A number is valid until the friend is removed."""
        tox = self._tox
        return {bytes.fromhex(tox.friend_get_public_key(n)): n for n in tox.self_get_friend_list()}

    def add_friend(self, server: ToxId, message: bytes) -> int:
        """Send a friend request with a message of 1 to 921 bytes, even if `server` is a friend already.

        Returns the friend's number. Raises `ToxproxyError` for this node's own ID, `ToxError` for a bad
        message, and `StateError` if the identity cannot be written; then `server` is not a friend.
        """
        if server.public_key == self.public_key:
            raise ToxproxyError(f"{server} is this node's own Tox ID: give the server's")
        self._forget(server.public_key)
        return self._keep(self._tox.friend_add(str(server), message.decode("utf-8", "surrogateescape")))

    def admit_friend(self, key: bytes) -> int:
        """Add a friend without a request, unless it is one already; returns the friend's number.

        Raises `ToxError` for a key that Tox does not accept, and `StateError` if the identity cannot be
        written; then there is no new friend.
        """
        if (friend := self.friends.get(key)) is not None:
            return friend
        return self._keep(self._tox.friend_add_norequest(key.hex()))

    def remove_friend(self, key: bytes) -> None:
        """Remove a friend and end the connection with it. Does nothing for another key.

        Raises `StateError` if the identity cannot be written; the friend is removed even then.
        """
        if self._forget(key):
            if self._recall is not None:
                self._recall.forget(key)
            self._save()

    @property
    def asked(self) -> tuple[int, bool]:
        """How many times a bootstrap node was asked, and whether one was not of a local network."""
        return (
            (0, False) if self._bootstrap is None else (self._bootstrap.asked, self._bootstrap.asked_public)
        )

    def friend_connection(self, friend: int) -> ConnectionStatus:
        """How a friend is connected now."""
        return ConnectionStatus(self._tox.friend_get_connection_status(friend))

    def friend_name(self, friend: int) -> str:
        """What a friend calls itself, in at most 128 bytes; "" where that is not known."""
        if self._running is None:
            return ""
        with suppress(ToxError):  # it was removed
            return self._running.friend_get_name(friend)
        return ""

    @property
    def deaf_s(self) -> float | None:
        """How long no UDP packet has come, in seconds, though one should; None if they do, or if unknown."""
        if self._hearing is None or self._direct:
            return None
        return self._hearing.deaf_for(self._loop.time())

    def doubt_udp(self) -> None:
        """See within seconds whether UDP packets still come. Call it when somebody wants to know.

        Only where there are relayed friends and no direct one, and at most every 10 s.
        """
        if self._bootstrap is None or self._direct or not self._over_tcp:
            return
        if (now := self._loop.time()) >= self._doubt_at:
            self._doubt_at = now + _DOUBT_EVERY
            self._bootstrap.ask_by_udp()

    def udp_there(self, friend: int) -> bool | None:
        """Whether UDP packets reach a friend's node, as it says; None if it has not told."""
        return None if self._rendezvous is None else self._rendezvous.udp_there(friend)

    def map(self, places: Sequence[tuple[Address, int]]) -> None:
        """Public addresses and UDP ports at which a router now passes packets to this node. Tells friends."""
        if self._rendezvous is not None:
            self._rendezvous.map(places)

    # Packets.

    def set_sink(self, friend: int, sink: PacketSink | None) -> None:
        """Set who receives a friend's packets; without a sink they are dropped."""
        if sink is None:
            self._tox.sinks.pop(friend, None)
        else:
            self._tox.sinks[friend] = sink

    def send_lossy(self, friend: int, packet: bytes | bytearray | memoryview) -> bool:
        """As `Tox.friend_send_lossy_packet`: returns False if the packet cannot be sent now."""
        if self._polls:
            self._packet_leaves()
        return self._tox.friend_send_lossy_packet(friend, packet)

    def lossy_sender(self, friend: int) -> Callable[[Any, int], bool]:
        """A `send_lossy` for one friend that costs less: see `Tox.friend_lossy_sender`."""
        send = self._tox.friend_lossy_sender(friend)

        def send_from(pointer: Any, length: int) -> bool:
            if self._polls:
                self._packet_leaves()
            return send(pointer, length)

        return send_from

    def _packet_leaves(self) -> None:
        """A packet may go over TCP: look for its answer soon."""
        self._last_packet = self._loop.time()
        if self._due > self._last_packet + _BUSY_PAUSE:
            self._wake_at(self._last_packet + _BUSY_PAUSE)

    # Starting.

    def _describe(self, tox: Tox) -> None:
        self.tox_id = ToxId(bytes.fromhex(tox.self_get_address()))
        self.public_key = self.tox_id.public_key
        self.dht_key = bytes.fromhex(tox.self_get_dht_id())
        self.udp_port = self.tcp_port = None
        with suppress(ToxError):
            self.udp_port = tox.self_get_udp_port()
        with suppress(ToxError):
            self.tcp_port = tox.self_get_tcp_port()

    def _make_recall(self, tox: Inbox) -> Recall | None:
        if self.udp_port is None:
            return None
        return Recall(
            tox,
            self.udp_port,
            self._state,
            place=(lambda _: None) if self._knocks is None else self._knocks.place,
            send=(lambda *_: None) if self._knocks is None else self._knocks.send,
            ahead=self._ahead,
            own=own_addresses,
            relays=tox.relays,
            local=self._settings.local_discovery,
        )

    # Running.

    @property
    def _tox(self) -> Inbox:
        if self._running is None:
            raise RuntimeError("the Tox node is not running")
        return self._running

    def _iterate(self) -> None:
        tox = self._tox
        self.turns += 1
        before = tox.packets
        events = self._sockets.take_events()
        if self._hearing is not None:
            self._hearing.look()
        if self._recall is not None:
            self._recall.listen()
        if self._rendezvous is not None:
            self._rendezvous.listen()
        self._guard(tox.iterate)
        if self._descriptors:
            self._watch(self._flow.pause(max(tox.packets - before, events), time.monotonic()))
        if tox.fed:
            self._last_packet = self._loop.time()
            fed, tox.fed = tox.fed, {}
            if self._knocks is not None:
                self._knocks.heard(fed, self._last_packet)
            for sink in fed.values():
                self._guard(sink.batch_ended)
        if tox.news:
            news, tox.news = tox.news, []
            if self._rendezvous is not None:
                for tell in news:
                    self._guard(tell, self._rendezvous)
        if tox.oversleeps:
            tox.oversleeps = False
            self._sockets.renew(self._loop.time())
        if tox.met and self._settings.proxy is None:
            tox.met = False
            self._sharing.friend_met(len(self._sockets.peers or ()))
        if self._sockets.search(self._loop.time(), soon=bool(tox.events)) or tox.events:
            self._refresh()
        if tox.events:
            happened, tox.events = tox.events, []
            for event in happened:
                self._guard(event, self._events)
            self._saving.soon()
        if self._asleep is not None:
            self._woke(self._asleep)
        # Told next time: if sleep began in the middle of this function, the socket is full.
        self._asleep = self._sleep.slept()
        self._schedule()

    def _woke(self, asleep: float) -> None:
        """Nothing ran for so many seconds: friends and other nodes may have given this one up."""
        if self._recall is not None:
            self._recall.woke(asleep)
        if self._rendezvous is not None:
            self._rendezvous.woke()
        if self._bootstrap is not None:
            self._bootstrap.ask_by_udp()
        self._guard(self.woke, asleep)

    def _watch(self, pause: float | None) -> None:
        """Leave the sockets alone for `pause` seconds; None: watch them."""
        if pause is None:
            if self._rest is not None:
                self._rest.cancel()
                self._rest = None
                for descriptor in self._descriptors:
                    self._loop.add_reader(descriptor, self._iterate)
            return
        if self._rest is None:
            for descriptor in self._descriptors:
                self._loop.remove_reader(descriptor)
        else:
            self._rest.cancel()
        self._rest = self._loop.call_later(pause, self._iterate)

    def _guard(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function. An exception is reported, and does not stop the node for other friends."""
        try:
            function(*arguments)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": f"{function!r} failed in a Tox node", "exception": error}
            )

    def _refresh(self) -> None:
        tox = self._tox
        self.connection = ConnectionStatus(tox.self_get_connection_status())
        if self._bootstrap is not None:
            self._bootstrap.connection_changed(self.connection is not ConnectionStatus.NONE)
            self._bootstrap.relays_changed(self._sockets.peers)
        if self._rendezvous is not None:
            self._rendezvous.relays_changed(tox.relays_at(self._sockets.peers or ()))
        before, ways = self._over_tcp, {n: self.friend_connection(n) for n in tox.self_get_friend_list()}
        self._over_tcp = {n for n, way in ways.items() if way is ConnectionStatus.TCP}
        self._direct = ConnectionStatus.UDP in ways.values()
        if self._bootstrap is not None and not self._over_tcp <= before:
            self._bootstrap.ask_by_udp()
        over_tcp = self._settings.tcp_relay > 0 or bool(self._over_tcp)
        unknown = self._udp is None and self.udp_port is not None
        self._polls = unknown or (over_tcp and not self._sockets.count)

    def _schedule(self) -> None:
        now = self._loop.time()
        if self._polls and now - self._last_packet < _BUSY_SPAN:
            pause = _BUSY_PAUSE
        else:
            pause = self._tox.iteration_interval() / 1000
            if not self._polls and self.connection is not ConnectionStatus.NONE:
                pause *= _CALM
        self._wake_at(now + pause)

    def _wake_at(self, due: float) -> None:
        """Set the timer. One that expires earlier is kept, and set again when it expires."""
        self._due = due
        if due < self._timer.due:
            self._timer.set_at(due)

    def _timer_rang(self) -> None:
        if self._loop.time() + _CLOCK_STEP < self._due:
            self._wake_at(self._due)
        else:
            self._iterate()

    # Keeping.

    def _keep(self, friend: int) -> int:
        """Save a new friend. Raises `StateError` if that fails, after removing the friend."""
        try:
            self._save()
        except BaseException:
            self._tox.friend_delete(friend)
            raise
        if self._recall is not None:
            self._recall.added(friend)
        return friend

    def _forget(self, key: bytes) -> bool:
        if (friend := self.friends.get(key)) is None:
            return False
        self._tox.friend_delete(friend)
        self._tox.sinks.pop(friend, None)
        if self._rendezvous is not None:
            self._rendezvous.forget(friend)
        self._tox.counts.changed(friend)
        return True

    def _save_nodes(self) -> None:
        """Save the nodes that are known now, above all those of friends: a start after a crash needs them."""
        if self.connection is ConnectionStatus.NONE:
            return  # what was saved before is better
        try:
            self._save()
        except StateError as error:
            _log.warning("%s", error)

    def _save(self) -> None:
        save_identity(self._tox, self._state)
