"""The TCP sockets of libtoxcore: to relays, and those of a relay. It names none of them.

They are found among this process's descriptors. libtoxcore does not set FD_CLOEXEC on them (0.2.12 to
0.2.22: `net_socket` and `net_accept` in network.c), while Python, libuv and ENet set it or open no TCP
sockets. A socket that was inherited at the start is taken for one of them, and does no harm.

They are watched by a watch of their own (`Edges`), which the loop watches:

- libtoxcore closes a socket whenever it likes, and the process may reuse its number at once. The kernel
  then forgets the old one, and the loop never knew it.
- Events come at an edge. libtoxcore leaves the bytes of a packet in the kernel until all of them are
  there, so a level would wake the node all the time.
- "Writable" is an event only after a write found the socket full.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from toxproxy.system.edges import Edges, edges
from toxproxy.tox.relay_health import Peer, Probes, State, ask, end, state_of

SEARCH_EVERY = 1.0  # seconds between two searches …
_SEARCH_SHARE = 500  # a search takes at most one of so many parts of the time
_SEARCH_SOON = 0.02  # … and if there was a hint at another socket
_FOLDER = "/proc/self/fd"
_STANDARD = 3  # descriptors that are nobody's socket
_UNSENT = 128 * 1024  # bytes that may wait in a socket beyond TCP's window; then libtoxcore refuses packets
_SETTLED = 5.0  # seconds: longer than it takes to connect; libtoxcore gives up a direct path after 8
_DOUBT = 10.0  # seconds after the death of a connection, in which the others are asked whether they live
_NOT_SENT_LOW_AT = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class RelaySockets:
    """Finds and watches the TCP sockets of libtoxcore. `port` is that of this node's own relay, if it is one.

    Let the loop watch `descriptor`. It is None where the system cannot do this: then a timer has to do.

    A connection to a relay that is over is ended here, so that libtoxcore makes a new one at once. One
    that is stalled is ended if another relay is lively, or if this one accepts a new connection.
    """

    def __init__(self, port: int | None) -> None:
        self.count = 0  # sockets that there were at the last search
        self.peers: frozenset[Peer] | None = None  # the relays they were connected to, if known
        self.descriptor: int | None = None
        self._ports = {port}  # at which this process is a relay, with another node of it too
        self._listening: set[int] = set()
        self._relays: dict[int, Peer] = {}  # what the descriptors of connections to relays lead to
        self._since: dict[int, float] = {}  # when each descriptor was found
        self._probes = Probes()
        self._died = self._asking = False
        self._asking_until = 0.0
        self._searched_at = self._due = 0.0
        self._edges = edges() if os.path.isdir(_FOLDER) else None
        if self._edges is not None:
            self.descriptor = self._edges.descriptor

    def close(self) -> None:
        """Watch nothing any more. The sockets are libtoxcore's."""
        self._probes.keep(())
        if self._edges is not None:
            self._edges.close()
            self._edges = self.descriptor = None

    def take_events(self) -> int:
        """Take the events, before libtoxcore handles them. Returns how many sockets had one."""
        if self._edges is None or not self.count:
            return 0
        events = self._edges.events()
        for descriptor, over in events:
            if over or descriptor in self._listening:
                self._due = min(self._due, self._searched_at + _SEARCH_SOON)  # there will be another socket
            if over and descriptor in self._relays:
                self._end(descriptor)
        return len(events)

    def renew(self, now: float) -> None:
        """End the connections to relays that are not new, so that libtoxcore makes others.

        The new ones it has just made itself. A relay to which it is not connected yet it would forget, and
        use it no more for its friends.
        """
        self._due = now
        self.search(now)
        for descriptor in [each for each in self._relays if now - self._since[each] >= _SETTLED]:
            self._end(descriptor)

    def search(self, now: float, *, soon: bool = False) -> bool:
        """Watch the sockets that are new, if it is time to search. Returns whether it was.

        `soon`: libtoxcore has reported something, so there may be another socket. A process with many
        descriptors searches less often.
        """
        if soon:
            self._due = min(self._due, self._searched_at + _SEARCH_SOON)
        if self._edges is None or now < self._due:
            return False
        began = time.thread_time()
        self._searched_at, self._due = now, now + SEARCH_EVERY
        self._search(self._edges, now)
        spent = time.thread_time() - began
        self._due = max(self._due, now + _SEARCH_SHARE * spent)
        return True

    def _search(self, edges: Edges, now: float) -> None:
        self.count = 0
        self._listening.clear()
        known, self._relays = self._relays, {}
        states: dict[int, State] = {}
        if self._died:
            self._died, self._asking, self._asking_until = False, True, now + _DOUBT
        for name in os.listdir(_FOLDER):
            if (descriptor := int(name)) >= _STANDARD:
                with suppress(OSError):  # it was that of the listing, or is closed or not connected by now
                    if (state := self._look_at(edges, descriptor, now, descriptor in known)) is not None:
                        states[descriptor] = state
        self.peers = frozenset(self._relays.values())
        self._asking = now < self._asking_until
        self._end_some(states)

    def _end_some(self, states: dict[int, State]) -> None:
        """End the connections that are dead, or stalled while a new one could be made."""
        stalled = {each: self._relays[each] for each, state in states.items() if state is State.STALLED}
        self._probes.keep(stalled.values())
        for descriptor, state in states.items():
            if state is State.DEAD:
                self._end(descriptor)
        for descriptor, peer in stalled.items():
            if State.LIVELY in states.values() or self._probes.answers(peer):
                self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self._died = True
        self._relays.pop(descriptor, None)
        with suppress(OSError):  # too many are open: later, then
            end(descriptor)
        self._due = min(self._due, self._searched_at + _SEARCH_SOON)

    def _look_at(self, edges: Edges, descriptor: int, now: float, known: bool) -> State | None:
        """Watch a descriptor, if it is a socket of libtoxcore. Returns its state, if it leads to a relay.

        `known` is whether its number did at the last search.
        """
        if not os.get_inheritable(descriptor):
            return None
        sock = socket.socket(fileno=descriptor)
        try:
            if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            self.count += 1
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._listening.add(descriptor)
                self._ports.add(sock.getsockname()[1])
            with suppress(FileExistsError):  # it is watched already
                edges.add(descriptor)
                self._since[descriptor] = now
                self._prepare(sock)
            if sock.getsockname()[1] in self._ports:
                return None  # this is the relay
            try:
                host, port = sock.getpeername()[:2]
            except OSError:  # it has been reset, or it is not connected yet
                return State.DEAD if known and self._since[descriptor] < now else None
            self._relays[descriptor] = host.removeprefix("::ffff:"), port
            if self._asking:
                ask(sock, now < self._asking_until)
            return state_of(sock)
        finally:
            sock.detach()

    def _prepare(self, sock: socket.socket) -> None:
        """Set the options of a new socket.

        A packet is sent in one piece, and has to leave at once. What waits in the kernel cannot be
        overtaken, so little may. A relay has no other place for packets: it would drop them.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _NOT_SENT_LOW_AT is not None and sock.getsockname()[1] not in self._ports:
            sock.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOW_AT, _UNSENT)
