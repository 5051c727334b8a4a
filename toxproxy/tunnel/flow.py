"""A flow of datagrams in a session: at the side that opened it, and at the side that answers."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from toxproxy.address import UdpTarget
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.mux.stream import Stream
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
        self._owner: FlowOwner | None = owner  # until it is told of the end, or has closed it
        self._used = monotonic()
        self._idle = Timer(self._look)
        self._look()

    # Flow

    def send(self, data: bytes) -> None:
        if self._meter.down.takes(data):
            self._used = now = monotonic()
            self._multiplexer.send(self.stream, data, now)
            self._changed()

    def close(self, error: StreamError | None = None) -> None:
        self._owner = None
        self.end(ResetCode.CANCELLED if error is None else ResetCode.CONNECTION_RESET)

    # For the session

    def opened(self) -> None:
        """The peer has accepted it."""
        if self._owner is not None:
            self._owner.flow_opened()

    def receive(self, data: bytes) -> None:
        """A datagram came."""
        self._used = monotonic()
        if self._owner is not None:
            self._owner.datagram_received(data)

    def closed(self, error: StreamError | None) -> None:
        """It has ended."""
        self._idle.stop()
        in_order = isinstance(error, StreamReset) and error.code is ResetCode.CANCELLED
        self._tell_end(None if in_order else error)

    def abort(self) -> None:
        self.end(ResetCode.CONNECTION_RESET)

    def end(self, code: ResetCode) -> None:
        self._multiplexer.reset(self.stream, code, StreamReset(code))
        self._changed()

    def _tell_end(self, error: StreamError | None) -> None:
        if self._owner is not None:
            owner, self._owner = self._owner, None
            owner.flow_ended(error)

    def _look(self) -> None:
        """End it if it was silent for too long; else look again when it may have been."""
        patience = self._multiplexer.limits.flow_idle
        left = self._used + patience - monotonic()
        if not patience:
            return
        if left > 0:
            self._idle.set(left)
        else:
            self.end(ResetCode.CANCELLED)


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
        if self._multiplexer.accept(self.stream):
            log.debug("flow to %s opened", self.target)
            self._changed()

    def datagram_received(self, data: bytes) -> None:
        self.send(data)

    def flow_ended(self, error: StreamError | None) -> None:
        log.debug("flow to %s ended: %s", self.target, error)
        self._far = None
        unopened = StreamRefused(Refusal.FAILED, "the flow ended before it was opened")
        refused = error if isinstance(error, StreamRefused) else unopened
        self._multiplexer.refuse(self.stream, refused.code, refused.text)
        self.close(error)  # unless that was the answer
