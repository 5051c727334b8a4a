"""A flow of datagrams in a session: at the side that opened it, and at the side that answers."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from toxproxy.address import UdpTarget
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.timer import Timer
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.transport import StreamEnd

if TYPE_CHECKING:
    from toxproxy.tunnel.session import Session

log = logging.getLogger(__name__)


class FlowTransport(StreamEnd):
    """A `Flow` through the tunnel, at the side that opened it.

    It ends by itself when nothing came and nothing was sent for `Limits.flow_idle` seconds.
    """

    def __init__(self, session: Session, stream: Stream, target: UdpTarget, owner: FlowOwner) -> None:
        super().__init__(session, stream, target)
        self._owner = owner
        self._used = monotonic()
        self._idle = Timer(self._look)
        self._look()

    # Flow

    def send(self, data: bytes) -> None:
        if not self._meter.down.takes(data):
            return
        self._used = now = monotonic()
        self._multiplexer.send(self.stream, data, now)
        self._changed()

    def close(self, error: StreamError | None = None) -> None:
        self._end(ResetCode.CANCELLED if error is None else ResetCode.CONNECTION_RESET)

    # For the session

    def opened(self) -> None:
        """The peer has accepted it."""
        self._owner.flow_opened()

    def receive(self, data: bytes) -> None:
        """A datagram came."""
        self._used = monotonic()
        self._owner.datagram_received(data)

    def closed(self, error: StreamError | None) -> None:
        """It has ended, by the peer or with the session."""
        self._idle.stop()
        in_order = isinstance(error, StreamReset) and error.code is ResetCode.CANCELLED
        self._tell_end(None if in_order else error)

    def abort(self) -> None:
        """End it, by command."""
        self.end(ResetCode.CONNECTION_RESET)

    def end(self, code: ResetCode) -> None:
        """End it, and tell both sides why."""
        self._end(code)
        self._tell_end(StreamReset(code))

    def _end(self, code: ResetCode) -> None:
        self._idle.stop()
        self._multiplexer.reset(self.stream, code)
        self._changed()

    def _tell_end(self, error: StreamError | None) -> None:
        self._owner.flow_ended(error)

    def _look(self) -> None:
        """End it if it was silent for too long; else look again when it may have been."""
        patience = self._multiplexer.limits.flow_idle
        left = self._used + patience - monotonic()
        if not patience:
            return
        if left > 0:
            self._idle.set(left)
        else:
            self._end(ResetCode.CANCELLED)
            self._tell_end(None)


class AnsweredFlow(FlowTransport):
    """The other side: it owns a flow to the target, which `host` opens, and joins the two."""

    def __init__(self, session: Session, stream: Stream, target: UdpTarget, host: Host) -> None:
        super().__init__(session, stream, target, self)
        self._far: Flow | None = None
        try:
            self._far = host.open_flow(self, target)
        except StreamRefused as refused:
            self.flow_ended(refused)

    # What comes through the tunnel

    def receive(self, data: bytes) -> None:
        self._used = monotonic()
        if self._far is not None:
            self._far.send(data)

    def _tell_end(self, error: StreamError | None) -> None:
        if self._far is not None:
            far, self._far = self._far, None
            far.close(error)

    # What the target's flow says

    def flow_opened(self) -> None:
        if self.stream.state is StreamState.REQUESTED:
            log.debug("flow to %s opened", self.target)
            self._multiplexer.accept(self.stream)
            self._changed()

    def datagram_received(self, data: bytes) -> None:
        self.send(data)

    def flow_ended(self, error: StreamError | None) -> None:
        self._far = None
        if self.stream.state is not StreamState.REQUESTED:
            self.close(error)
            return
        if not isinstance(error, StreamRefused):
            error = StreamRefused(Refusal.FAILED, "the flow ended before it was opened")
        log.debug("flow to %s refused: %s", self.target, error.text)
        self._idle.stop()
        self._multiplexer.refuse(self.stream, error.code, error.text)
        self._changed()
