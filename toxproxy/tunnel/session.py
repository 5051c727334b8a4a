"""A session with one peer: asyncio drives the pure multiplexer over a link.

Streams are asyncio transports, like sockets. So every protocol that runs over a socket also runs
through the tunnel, and a relay can join a socket and a stream.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from toxproxy import relay
from toxproxy.address import Target
from toxproxy.dialer import Dialer, P
from toxproxy.errors import (
    GoAwayCode,
    Refusal,
    RemoteProtocolError,
    StreamRefused,
)
from toxproxy.link.base import Link, LinkEnd
from toxproxy.mux import (
    Allotment,
    DataReceived,
    EndReceived,
    Established,
    Event,
    GoAwayReceived,
    Limits,
    Multiplexer,
    PongReceived,
    Stream,
    StreamClosed,
    StreamDrained,
    StreamOpened,
    StreamRequested,
)
from toxproxy.mux.frames import DATA_HEADER
from toxproxy.pace import Notice
from toxproxy.system import heap
from toxproxy.tunnel.events import Closed, Loss, PeerBroke, PeerClosed, SessionEnd
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

_TRIM_AFTER = 5.0  # seconds after the last stream's end until freed memory is returned to the system
_LAST_WORDS = 16 * 1024  # bytes sent at a session's end, whatever the link's budget is


class Notices:
    """Log lines that a peer can cause as often as it likes. One object serves all sessions with that peer."""

    def __init__(self) -> None:
        self.silent = Notice(log)  # a connection was reset, since no byte came
        self.failed = Notice(log, logging.ERROR, most=5)  # a connection was not opened because of a bug


class Session:
    """One session over one link; a `LinkOwner` and, once established, a `Dialer`.

    `exit` dials the peer's targets; without it every request is refused. The connections that it made
    are added to `halves`, since they may still have bytes to deliver when the session has ended.
    `on_established` is called once. `on_end(reason)` is called once, after all streams were closed.
    """

    def __init__(
        self,
        link: Link,
        *,
        client: bool,
        on_end: Callable[[SessionEnd], None],
        on_established: Callable[[], None] = lambda: None,
        exit: Dialer | None = None,
        halves: relay.Halves | None = None,
        limits: Limits | None = None,
        memory: Allotment | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._link = link
        self._multiplexer = Multiplexer(
            client=client,
            session=secrets.randbits(64),
            limits=limits,
            memory=memory,
            channels=link.channels,
        )
        self._exit = exit
        self._halves = relay.Halves() if halves is None else halves
        self._notices = notices or Notices()
        self._on_end = on_end
        self._on_established = on_established
        self._loop = asyncio.get_running_loop()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._serving: dict[Stream, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()  # no stream lives
        self._idle.set()
        self._scheduled = False
        self._trimming: asyncio.TimerHandle | None = None
        self._ended = False

    @property
    def established(self) -> bool:
        """Whether streams can be opened."""
        return self._multiplexer.established and not self._ended

    @property
    def identity(self) -> tuple[int, int] | None:
        """The session ids of client and server; None until both are known."""
        return self._multiplexer.identity

    @property
    def streams(self) -> int:
        """How many streams have not ended."""
        return len(self._multiplexer.streams)

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
        transport = StreamTransport(self, self._multiplexer, stream)
        self.changed()
        if not early:
            await transport.answered()
        protocol = protocol_factory()
        transport.attach(protocol)
        return transport, protocol

    async def ping(self) -> float:
        """Measure the round trip in seconds, including the link and both event loops.

        Raises `ConnectionError` if the session ends before the answer.
        """
        if not self.established:
            raise ConnectionResetError("the session is not established")
        value = secrets.randbits(64)
        pong = self._pings[value] = self._loop.create_future()
        sent = self._loop.time()
        self._multiplexer.ping(value)
        self.changed()
        try:
            await pong
        finally:
            self._pings.pop(value, None)
        return self._loop.time() - sent

    async def idle(self) -> None:
        """Wait until all streams have ended."""
        self._look_whether_idle()
        await self._idle.wait()

    def close(self, text: str) -> None:
        """End the session: the peer is told `text`, and all streams are reset."""
        self._finish(GoAwayCode.STOPPING, text, Closed(text))

    def changed(self) -> None:
        """Something may have to be sent: send it soon, with everything else that changes until then."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    # The link's calls

    def link_up(self) -> None:
        self.changed()

    def frame_received(self, channel: int, frame: bytes) -> None:
        if self._ended:
            return
        try:
            self._multiplexer.receive(channel, frame)
        except RemoteProtocolError as error:
            self.broken(error)
        else:
            self._deliver()

    def link_ready(self) -> None:
        self._run()

    def broken(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol: tell it, and end the session."""
        self._finish(GoAwayCode.PROTOCOL_ERROR, str(error), PeerBroke(str(error)))

    def link_down(self, reason: LinkEnd | Loss) -> None:
        self._multiplexer.lost()
        self._end(reason)

    # Between multiplexer and link

    def _run(self) -> None:
        self._scheduled = False
        if not self._ended:
            self._send()
            self._deliver()

    def _send(self) -> None:
        multiplexer, link = self._multiplexer, self._link
        size = link.frame_size - DATA_HEADER
        while multiplexer.wants_to_send and (budget := link.budget()) > 0:
            for channel, frame in multiplexer.frames_to_send(budget, size):
                link.send(channel, frame)
            link.flush()

    def _deliver(self) -> None:
        while (event := self._multiplexer.next_event()) is not None:
            self._handle(event)
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        """Count the streams, since not every end of one causes an event."""
        if self.streams:
            self._idle.clear()
        elif not self._idle.is_set():
            self._idle.set()
            self._trim_soon()

    def _handle(self, event: Event) -> None:
        match event:
            case DataReceived(stream, data):
                _transport(stream).receive(data)
            case EndReceived(stream):
                _transport(stream).receive_end()
            case StreamDrained(stream):
                _transport(stream).drained()
            case StreamOpened(stream):
                _transport(stream).opened()
            case StreamClosed(stream, error):
                if (task := self._serving.get(stream)) is not None:
                    task.cancel()
                _transport(stream).closed(error)
            case StreamRequested(stream, target):
                transport = StreamTransport(self, self._multiplexer, stream)
                task = self._loop.create_task(self._serve(transport, target))
                self._serving[stream] = task
                task.add_done_callback(lambda _: self._serving.pop(stream, None))
            case PongReceived(value):
                if (pong := self._pings.get(value)) is not None and not pong.done():
                    pong.set_result(None)
            case Established():
                self._on_established()
            case GoAwayReceived(code, text):
                self._end(PeerClosed(code, text))

    def _trim_soon(self) -> None:
        """The last stream has ended: return its memory to the system if no new one comes soon."""
        if self._trimming is None:
            self._trimming = self._loop.call_later(_TRIM_AFTER, self._trim)

    def _trim(self) -> None:
        self._trimming = None
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

    def _finish(self, code: GoAwayCode, text: str, reason: SessionEnd) -> None:
        self._multiplexer.close(code, text)
        if not self._ended:
            # GOAWAY is the last frame, so it does not wait for the link's budget.
            for channel, frame in self._multiplexer.frames_to_send(_LAST_WORDS, _LAST_WORDS):
                self._link.send(channel, frame)
            self._link.flush()
            self._end(reason)

    def _end(self, reason: SessionEnd) -> None:
        if self._ended:
            return
        self._ended = True
        self._link.close()
        for task in list(self._serving.values()):
            task.cancel()
        self._deliver()
        self._multiplexer.memory.end()
        for pong in self._pings.values():
            if not pong.done():
                pong.set_exception(ConnectionResetError("the session ended"))
        self._on_end(reason)


def _transport(stream: Stream) -> StreamTransport:
    assert isinstance(stream.data, StreamTransport)
    return stream.data
