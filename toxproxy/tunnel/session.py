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
import logging
import math
import secrets
from collections.abc import Callable
from time import monotonic

from toxproxy import relay
from toxproxy.address import Target, UdpTarget
from toxproxy.dialer import FlowOwner, P, Way
from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, ResetCode, StreamRefused
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.enet import EnetLink
from toxproxy.mux.events import (
    DatagramReceived,
    DataReceived,
    EndReceived,
    Established,
    Event,
    PongReceived,
    StreamClosed,
    StreamDrained,
    StreamOpened,
    StreamRequested,
    StreamTurnedAway,
)
from toxproxy.mux.frames import close_code
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.stream import Stream
from toxproxy.pace import Notice
from toxproxy.recovery.packet import close, closing
from toxproxy.recovery.recovery import Recovery
from toxproxy.system import heap
from toxproxy.timer import Timer
from toxproxy.tunnel.events import Change, Closed, Loss, PeerBroke, PeerClosed, SessionEnd, SessionEvent
from toxproxy.tunnel.figures import Figures, measured
from toxproxy.tunnel.flow import AnsweredFlow, FlowTransport, end_of, flow_of
from toxproxy.tunnel.pings import Pings
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

_TRIM_AFTER = 5.0  # seconds after the last stream's end until freed memory is returned to the system
_BATCH = 64  # packets queued in the link before it sends them


class Notices:
    """Log lines that a peer can cause as often as it likes. One object serves all sessions with that peer."""

    def __init__(self) -> None:
        self.silent = Notice(log)  # a connection was reset, since no byte came
        self.failed = Notice(log, logging.ERROR, most=5)  # a connection was not opened because of a bug


class Session(LinkOwner):
    """One session with one peer. It is the `LinkOwner` of the link that carries it now, if there is one.

    It ends by itself when the peer closes it or breaks the protocol. A lost link only interrupts it, once
    both sides know each other; the keeper of the session then attaches the next one.

    `introduced` is at the server the session id with which the client introduced itself; None at the
    client. `exit` dials the peer's targets; without it every request is refused. The connections that it
    made are added to `halves`, since they may still have bytes to deliver when the session has ended.
    `turned_away` gets the targets of streams beyond the limit, which were refused.
    `changed` gets what happens to the session. ENDED is the last, after all streams were closed.
    """

    def __init__(
        self,
        *,
        changed: Callable[[SessionEvent], None],
        introduced: int | None = None,
        exit: Way | None = None,
        halves: relay.Halves | None = None,
        limits: Limits | None = None,
        notices: Notices | None = None,
        turned_away: Callable[[Target], None] = lambda _: None,
    ) -> None:
        own = secrets.randbits(64) or 1  # 0 stands for an id that is not known yet
        self._client = introduced is None
        self._ids = (own, 0) if introduced is None else (introduced, own)
        self._loop = asyncio.get_running_loop()
        self._multiplexer = Multiplexer(client=self._client, session=own, limits=limits)
        self._recovery = Recovery(self._multiplexer, monotonic())
        if self._client:
            self._recovery.introduce(*self._ids)
        self._link: EnetLink | None = None
        self._interrupted = False  # it has lost a link, and nothing has come on another one yet
        self._timer = Timer(self._run)
        self._trimming = Timer(self._trim)
        self._exit = exit
        self._halves = relay.Halves() if halves is None else halves
        self._notices = notices or Notices()
        self._turned_away = turned_away
        self._tell = changed
        self._serving: dict[Stream, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()  # no stream lives
        self._idle.set()
        self._scheduled = False
        self._ended = False
        self._pings = Pings()

    @property
    def established(self) -> bool:
        """Whether streams can be opened."""
        return self._multiplexer.established and not self._ended

    @property
    def linked(self) -> bool:
        """Whether there is a link on which the peer was heard."""
        return self._recovery.met

    @property
    def figures(self) -> Figures:
        """What was measured on the current link, and counted since the session began."""
        silence = None if self._link is None else self._loop.time() - self._link.heard
        return measured(self._recovery, self._multiplexer, silence)

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that streams have sent and received, before compression."""
        return self._multiplexer.carried

    def transports(self) -> list[StreamTransport | FlowTransport]:
        """The streams that the application knows of and that have not ended."""
        living = self._multiplexer.streams.values()
        return [stream.data for stream in living if isinstance(stream.data, StreamTransport | FlowTransport)]

    def is_meant(self, client: int, server: int) -> bool:
        """Whether an INTRODUCTION with these ids is for this session."""
        return client == self._ids[0] and server in (0, self._ids[1])

    @property
    def streams(self) -> int:
        """How many streams have not ended."""
        return len(self._multiplexer.streams)

    @property
    def flows(self) -> int:
        """How many of them are flows of datagrams."""
        return self._multiplexer.flows

    # The application's calls

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """Open a stream to `target`; see `Dialer.dial`. Raises `StreamRefused`."""
        if not self.established:
            raise StreamRefused(Refusal.OFFLINE, "the server is not connected")
        stream = self._multiplexer.open(target, compress=compress)
        transport = StreamTransport(self._multiplexer, stream, self.changed, target)
        self.changed()
        if not early:
            await transport.answered()
        protocol = protocol_factory()
        transport.attach(protocol)
        return transport, protocol

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> FlowTransport:
        """Open a flow of datagrams; see `FlowDialer.open_flow`. Raises `StreamRefused`."""
        if not self.established:
            raise StreamRefused(Refusal.OFFLINE, "the server is not connected")
        stream = self._multiplexer.open(target)
        self.changed()
        return FlowTransport(self._multiplexer, stream, self.changed, target, owner)

    async def ping(self) -> float:
        """Ask the peer, and wait for its answer. Returns the seconds; a link that is lost adds to them.

        Raises `StreamRefused` if there is no session. One that ends meanwhile leaves this waiting.
        """
        if not self.established:
            raise StreamRefused(Refusal.OFFLINE, "the peer is not connected")
        with self._pings.asking() as (value, answer):
            self._multiplexer.ping(value)
            self.changed()
            return await answer

    def change(self, limits: Limits) -> None:
        """Use other limits from now on; see `Multiplexer.change`."""
        self._multiplexer.change(limits)

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
        self._multiplexer.end(ResetCode.LINK_LOST)
        self._end(reason)

    # The link's calls

    def attach(self, link: EnetLink) -> None:
        """Use this link from now on. The caller makes the session its owner."""
        self._link = link

    def link_up(self) -> None:
        self._recovery.link_up(monotonic())
        self.changed()

    def packet_received(self, packet: bytes) -> None:
        if self._ended:
            return
        if (said := closing(packet)) is not None:
            code, text = said
            self._end(PeerClosed(close_code(code), text))
            return
        try:
            self._recovery.receive(packet, monotonic())
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if self._interrupted and self._recovery.met:
            self._interrupted = False
            self._tell(SessionEvent(Change.RESUMED))

    def link_ready(self) -> None:
        self._run()

    def link_down(self, reason: LinkEnd) -> None:
        self._link = None
        self._timer.stop()
        self._recovery.link_down(monotonic())
        if self._client and not self.established:
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
        recovery, link = self._recovery, self._link
        if link is None or self._ended:
            return
        while True:
            now, queued = monotonic(), 0
            while queued < _BATCH and (packet := recovery.next_packet(now)) is not None:
                link.send(packet)
                queued += 1
            refused = link.flush() if queued else 0
            if refused:
                recovery.refused(refused, now)
            if refused or queued < _BATCH:
                break
        if self._link is link:
            self._arm(now)

    def _arm(self, now: float) -> None:
        """Set the timer for what the recovery has to do next, unless it rings before that."""
        due = self._recovery.due
        if math.isinf(due):
            return
        due = now + max(1, math.ceil((due - now) * 1000)) / 1000  # uvloop would round down
        if due < self._timer.due:
            self._timer.set_at(due)

    def _deliver(self) -> None:
        while (event := self._multiplexer.next_event()) is not None:
            self._handle(event)
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        """Count the streams, since not every end of one causes an event."""
        if self.streams > self.flows:
            self._idle.clear()
        elif not self._idle.is_set():
            self._idle.set()
            if not self._trimming.running:  # return the memory to the system if no new stream comes soon
                self._trimming.set(_TRIM_AFTER)

    def _handle(self, event: Event) -> None:
        match event:
            case DataReceived(stream):
                _transport(stream).receive(event.data)
            case EndReceived(stream):
                _transport(stream).receive_end()
            case StreamDrained(stream):
                _transport(stream).drained()
            case StreamOpened(stream):
                end_of(stream).opened()
            case DatagramReceived(stream, data):
                flow_of(stream).receive(data)
            case StreamClosed(stream, error):
                if (task := self._serving.get(stream)) is not None:
                    task.cancel()
                end_of(stream).closed(error)
            case StreamRequested(stream, UdpTarget() as target):
                AnsweredFlow(self._multiplexer, stream, self.changed, target, self._exit)
            case StreamRequested(stream, target):
                transport = StreamTransport(self._multiplexer, stream, self.changed, target)
                task = self._loop.create_task(self._serve(transport, target))
                self._serving[stream] = task
                task.add_done_callback(lambda _: self._serving.pop(stream, None))
            case StreamTurnedAway(target):
                self._turned_away(target)
            case PongReceived(value):
                self._pings.answered(value)
            case Established(session):
                self._established(session)

    def _established(self, peer: int) -> None:
        if self._ended:  # by something else in the same batch
            return
        if self._client:
            self._ids = (self._ids[0], peer)
            self._recovery.introduce(*self._ids)
        elif peer != self._ids[0]:
            self._broken(RemoteProtocolError("HELLO has another session id than INTRODUCTION"))
            return
        self._tell(SessionEvent(Change.BEGAN))

    def _trim(self) -> None:
        if not self.streams:
            heap.trim()

    async def _serve(self, transport: StreamTransport, target: Target) -> None:
        """Dial the target of a stream that the peer opened, and join the two."""
        near, far = relay.pair(self._multiplexer.limits.patience, self._notices.silent)
        try:
            if self._exit is None:
                raise StreamRefused(Refusal.UNSUPPORTED, "a client opens no connections for its server")
            await self._exit.dial(lambda: far, target)
            log.debug("stream to %s opened", target)
        except StreamRefused as error:
            log.debug("stream to %s refused: %s", target, error.text)
            transport.refuse(error.code, error.text)
        except Exception:
            self._notices.failed("opening a connection to %s failed", target, exc_info=True)
            transport.refuse(Refusal.FAILED, "internal error; the server's log says more")
        else:
            self._halves.add(far)
            if not transport.accept(near):
                far.reset()

    def _broken(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol: tell it, and end the session."""
        self._end(PeerBroke(str(error)), close(error.code, str(error)))

    def _end(self, reason: SessionEnd, farewell: bytes = b"") -> None:
        if self._ended:
            return
        self._ended = True
        self._multiplexer.end()
        self._timer.stop()
        if self._link is not None:
            link, self._link = self._link, None
            link.close(farewell)
        for task in list(self._serving.values()):
            task.cancel()
        self._deliver()
        self._multiplexer.memory.end()
        self._tell(SessionEvent(Change.ENDED, reason))


def _transport(stream: Stream) -> StreamTransport:
    assert isinstance(stream.data, StreamTransport)
    return stream.data
