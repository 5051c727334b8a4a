"""A session with one peer, through all of its links: asyncio drives the pure multiplexer and recovery.

    streams  <->  Multiplexer  <->  Recovery  <->  the link that there is now
                   frames           packets

The session owns their clock and the only timer. The clock is the system's: that of uvloop's loop stands
still while a callback runs, which hides how long packets wait. A link that is lost loses packets,
nothing else: the recovery sends on the next one what the peer did not get.

Streams are asyncio transports, like sockets. So every protocol that runs over a socket also runs
through the tunnel, and a relay can join a socket and a stream.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable

from toxproxy.address import Target, UdpTarget
from toxproxy.dialer import FlowOwner, P
from toxproxy.errors import CloseCode, RemoteProtocolError, ResetCode
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.enet import EnetLink
from toxproxy.mux import events
from toxproxy.mux.frames import close_code
from toxproxy.mux.limits import TURN, Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.recovery.packet import close, closing, ids
from toxproxy.recovery.recovery import Recovery
from toxproxy.system import heap
from toxproxy.system.clocks import monotonic
from toxproxy.timer import Timer
from toxproxy.tunnel.events import Change, Closed, Loss, PeerBroke, PeerClosed, SessionEnd, SessionEvent
from toxproxy.tunnel.flow import AnsweredFlow, FlowTransport
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.transport import StreamEnd, StreamTransport

_TRIM_AFTER = 5.0  # seconds after the last stream's end until freed memory is returned to the system


class Session(LinkOwner):
    """One session with one peer. It is the `LinkOwner` of the link that carries it now, if there is one.

    It ends by itself when the peer closes it or breaks the protocol. A lost link only interrupts it, once
    both sides know each other; the keeper of the session then attaches the next one.

    `introduced` is at the server the session id with which the client introduced itself; None at the
    client. `host` serves the streams that the peer opens; without it every one is refused.
    `changed` gets what happens to the session. ENDED is the last, after all streams were closed.
    """

    def __init__(
        self,
        *,
        changed: Callable[[SessionEvent], None],
        introduced: int | None = None,
        host: Host | None = None,
        limits: Limits | None = None,
    ) -> None:
        own = secrets.randbits(64) or 1  # 0 stands for an id that is not known yet
        self._client = introduced is None
        self._ids = (own, 0) if introduced is None else (introduced, own)
        self._loop = asyncio.get_running_loop()
        limits = limits or Limits()
        self._turns = limits.turns
        self._taken = TURN  # packets that the carrier may take at once
        self.multiplexer = Multiplexer(client=self._client, session=own, limits=limits)
        self.recovery = Recovery(self.multiplexer.scheduler, self.multiplexer.receive, monotonic())
        if self._client:
            self.recovery.introduction = ids(*self._ids)
        self._link: EnetLink | None = None
        self._interrupted = False  # it has lost a link, and nothing has come on another one yet
        self._timer = Timer(self._run)
        self._trimming = Timer(self._trim)
        self._host = host or Host()
        self.meter = self._host.meter  # bounds what is carried
        self._tell = changed
        self._idle = asyncio.Event()  # no stream lives
        self._idle.set()
        self._scheduled = False
        self._ended = False
        self._pings: dict[int, asyncio.Future[float]] = {}  # by value: when the answer came

    @property
    def silence(self) -> float | None:
        """Seconds since a datagram came; None without a link. A peer that is there sends one within two."""
        return None if self._link is None else self._loop.time() - self._link.heard

    @property
    def streams(self) -> list[StreamEnd]:
        """The streams that the application knows of and that have not ended; a request to listen is none."""
        known = [stream.data for stream in self.multiplexer.streams.values() if stream.data is not None]
        return [each for each in known if not each.target.asks_to_listen]

    def is_meant(self, client: int, server: int) -> bool:
        """Whether an INTRODUCTION with these ids is for this session."""
        return client == self._ids[0] and server in (0, self._ids[1])

    # The application's calls

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        """Open a stream to `target`; see `Dialer.dial`. Raises `StreamRefused`."""
        stream = self.multiplexer.open(target, compress=compress)
        transport = StreamTransport(self, stream, target)
        self.changed()
        if not early:
            await transport.answered()
        protocol = protocol_factory()
        transport.attach(protocol)
        return transport, protocol

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> FlowTransport:
        """Open a flow of datagrams; see `FlowDialer.open_flow`. Raises `StreamRefused`."""
        stream = self.multiplexer.open(target)
        self.changed()
        return FlowTransport(self, stream, target, owner)

    async def ping(self) -> float:
        """Ask the peer, and wait for its answer. Returns the seconds; a link that is lost adds to them.

        Raises `StreamRefused` if there is no session. One that ends meanwhile leaves this waiting.
        """
        value, asked_at = secrets.randbits(64), monotonic()
        self._pings[value] = self._loop.create_future()
        try:
            self.multiplexer.ping(value)
            self.changed()
            return await self._pings[value] - asked_at
        finally:
            del self._pings[value]

    async def idle(self) -> None:
        """Wait until all streams have ended. Flows of datagrams do not count: nobody knows their end."""
        self._look_whether_idle()
        await self._idle.wait()

    def close(self, text: str) -> None:
        """End the session: the peer is told `text`, and all streams are reset."""
        self._end(Closed(text), close(CloseCode.STOPPING, text))

    def changed(self) -> None:
        """Something may have to be sent: send it soon, with everything else that changes until then."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def expire(self, reason: LinkEnd | Loss) -> None:
        """End the session: it will not be resumed. The peer is not told."""
        self._end(reason, code=ResetCode.LINK_LOST)

    # The link's calls

    def attach(self, link: EnetLink) -> None:
        """Use this link from now on."""
        self._link = link
        link.owner = self

    def link_up(self) -> None:
        self.recovery.link_up(monotonic())
        self.changed()

    def packet_received(self, packet: bytes) -> None:
        if self._ended:
            return
        if (said := closing(packet)) is not None:
            code, text = said
            self._end(PeerClosed(close_code(code), text))
            return
        try:
            self.recovery.receive(packet, monotonic())
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if self._interrupted and self.recovery.met:
            self._interrupted = False
            self._tell(SessionEvent(Change.RESUMED))

    def link_ready(self) -> None:
        self._run()

    def link_down(self, reason: LinkEnd) -> None:
        self._link = None
        self._timer.stop()
        self.recovery.link_down(monotonic())
        if self._client and not self.multiplexer.established:
            self.expire(reason)
        else:
            self._interrupted = True
            self._tell(SessionEvent(Change.INTERRUPTED, reason))

    # Between multiplexer, recovery and link

    def _run(self) -> None:
        """Deliver what came, then send: what the streams answer leaves in the same packets."""
        self._scheduled = False
        if not self._ended:
            self._deliver()
            self._send()
            self._deliver()

    def _send(self) -> None:
        recovery, link = self.recovery, self._link
        if link is None or self._ended:
            return
        while True:
            now, queued = monotonic(), 0
            # ENet has numbered what a carrier refuses. After 32,768 of them its peer drops all that follow.
            most = min(self._turns.most(self, now), self._taken)
            while queued < most and (packet := recovery.next_packet(now)) is not None:
                link.send(packet)
                queued += 1
            refused = link.flush() if queued else 0
            self._turns.sent(self, queued)
            if refused:
                recovery.refused(refused, now)
                self._taken = max(queued - refused, 1)
            elif queued:
                self._taken = min(2 * self._taken, TURN)
            if refused or queued < TURN:
                break
        if self._link is link and not math.isinf(due := recovery.due):
            due = now + max(1, math.ceil((due - now) * 1000)) / 1000  # uvloop would round down
            if due < self._timer.due:
                self._timer.set_at(due)

    def _deliver(self) -> None:
        while (event := self.multiplexer.next_event()) is not None:
            self._handle(event)
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        """Count the streams, since not every end of one causes an event."""
        if len(self.multiplexer.streams) > self.multiplexer.flows:
            self._idle.clear()
        else:
            self._idle.set()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.StreamReadable(stream):
                stream.data.read()
            case events.StreamDrained(stream):
                stream.data.drained()
            case events.StreamOpened(stream):
                stream.data.opened()
            case events.DatagramReceived(stream, data):
                if self.meter.up.takes(data):
                    stream.data.receive(data)
            case events.StreamClosed(stream, error):
                stream.data.closed(error)
                self._trimming.set(_TRIM_AFTER)
            case events.StreamRequested(stream, UdpTarget() as target):
                AnsweredFlow(self, stream, target, self._host)
            case events.StreamRequested(stream, target):
                transport = StreamTransport(self, stream, target)
                transport.serving = self._loop.create_task(self._host.serve(transport, target))
            case events.StreamTurnedAway(target):
                self._host.turned_away(target)
            case events.PongReceived(value):
                if (answer := self._pings.get(value)) is not None and not answer.done():
                    answer.set_result(monotonic())
            case events.Established(session):
                self._established(session)

    def _established(self, peer: int) -> None:
        if self._ended:  # by something else in the same batch
            return
        if self._client:
            self._ids = (self._ids[0], peer)
            self.recovery.introduction = ids(*self._ids)
        elif peer != self._ids[0]:
            self._broken(RemoteProtocolError("HELLO has another session id than INTRODUCTION"))
            return
        self._tell(SessionEvent(Change.BEGAN))

    def _trim(self) -> None:
        if not self.multiplexer.streams:
            heap.trim()

    def _broken(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol: tell it, and end the session."""
        self._end(PeerBroke(str(error)), close(error.code, str(error)))

    def _end(self, reason: SessionEnd, farewell: bytes = b"", code: ResetCode = ResetCode.GOING_AWAY) -> None:
        if self._ended:
            return
        self._ended = True
        self.multiplexer.end(code)
        self._timer.stop()
        if self._link is not None:
            link, self._link = self._link, None
            link.close(farewell)
        self._deliver()
        self._tell(SessionEvent(Change.ENDED, reason))
