"""An exit that hands over a record of every connection at its end. Nothing is done for a packet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from toxproxy.address import Target, UdpTarget
from toxproxy.audit.record import End, Record, Verdict
from toxproxy.dialer import Flow, FlowOwner, P
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.trail import Trail
from toxproxy.relay.half import Half
from toxproxy.relay.stream import ByteStream
from toxproxy.tunnel.transport import StreamTransport

_RESETS = {
    ResetCode.LINK_LOST: End.SESSION_ENDED,
    ResetCode.GOING_AWAY: End.SESSION_ENDED,
    ResetCode.QUOTA_USED: End.QUOTA_USED,
}
_VERDICTS = {True: Verdict.PERMITTED, False: Verdict.DENIED, None: Verdict.NONE}


class AuditedExit:
    """A `Way` through `exit` for the client `key`. `name` is what its owner calls it, asked at the end.

    A relay's half that is dialled is watched until both of its ends are over; `write` gets the record.
    `check` raises `StreamRefused` where the client may not connect at all.
    """

    def __init__(
        self,
        exit: Exit,
        key: bytes,
        *,
        name: Callable[[bytes], str | None],
        write: Callable[[Record], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._exit = exit
        self._check = check
        self._key = key
        self._name = name
        self._write = write

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """As `Exit.dial`."""
        trail, began = Trail(), time.monotonic()
        try:
            self._check()
            transport, protocol = await self._exit.dial(protocol_factory, target, trail=trail)
        except StreamRefused as refused:
            self._record(target, trail, began, End.REFUSED, refusal=refused.code)
            raise
        except asyncio.CancelledError:
            self._record(target, trail, began, End.ABANDONED)
            raise
        if isinstance(protocol, Half):
            half: Half = protocol
            half.lost.add_done_callback(lambda _: self._far_lost(half, target, trail, began))
        return transport, protocol

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        """As `Exit.open_flow`. Raises `StreamRefused` for what `check` says."""
        try:
            self._check()
        except StreamRefused as refused:
            self.refused(target, refused.code)
            raise
        return _WatchedFlow(owner, self._exit, target, self._record)

    def refused(self, target: Target, code: Refusal) -> None:
        """A target was refused before it came here."""
        self._record(target, Trail(), time.monotonic(), End.REFUSED, refusal=code)

    def _far_lost(self, far: Half, target: Target, trail: Trail, began: float) -> None:
        near = far.other
        stream = near.transport if near is not None else None
        if near is None and isinstance(far, ByteStream):  # an HTTP proxy has used it, without a relay
            end = End.FINISHED if far.lost.result() is None else End.TARGET_RESET
            self._record(target, trail, began, end, carried=far.carried)
            return
        if near is None or not isinstance(stream, StreamTransport):
            self._record(target, trail, began, End.ABANDONED)  # the client was gone when it was made
            return

        def near_lost(lost: asyncio.Future[Exception | None]) -> None:
            end = _end(stream, lost.result(), far)
            self._record(target, trail, began, end, carried=stream.carried)

        near.lost.add_done_callback(near_lost)

    def _record(
        self,
        target: Target,
        trail: Trail,
        began: float,
        end: End,
        *,
        refusal: Refusal | None = None,
        carried: tuple[int, int] = (0, 0),
    ) -> None:
        record = Record(
            unix=time.time(),
            client_key=self._key.hex().upper(),
            client_name=self._name(self._key),
            target=str(target),
            addresses=tuple(map(str, trail.addresses)),
            verdict=_VERDICTS[trail.permitted],
            rule=None if trail.rule is None else str(trail.rule),
            refusal=refusal,
            to_client_bytes=carried[0],
            to_target_bytes=carried[1],
            duration_s=time.monotonic() - began,
            end=end,
        )
        self._write(record)


class _WatchedFlow:
    """A flow whose record is written at its end. It stands between the flow of the exit and its owner."""

    def __init__(self, owner: FlowOwner, exit: Exit, target: UdpTarget, write: Callable[..., None]) -> None:
        self._owner = owner
        self._target = target
        self._trail, self._began = Trail(), time.monotonic()
        self._write = write
        self._opened = False
        self._to_client = self._to_target = 0  # bytes
        self._flow = exit.open_flow(self, target, self._trail)

    def send(self, data: bytes) -> None:
        self._to_target += len(data)
        self._flow.send(data)

    def close(self, error: StreamError | None = None) -> None:
        self._flow.close(error)
        end = End.FINISHED if self._opened else End.ABANDONED
        if isinstance(error, StreamReset):
            end = _RESETS.get(error.code, End.CLIENT_RESET)
        self._record(end)

    def flow_opened(self) -> None:
        self._opened = True
        self._owner.flow_opened()

    def datagram_received(self, data: bytes) -> None:
        self._to_client += len(data)
        self._owner.datagram_received(data)

    def flow_ended(self, error: StreamError | None) -> None:
        self._record(End.REFUSED, error.code if isinstance(error, StreamRefused) else None)
        self._owner.flow_ended(error)

    def _record(self, end: End, refusal: Refusal | None = None) -> None:
        carried = self._to_client, self._to_target
        self._write(self._target, self._trail, self._began, end, refusal=refusal, carried=carried)


def _end(stream: StreamTransport, error: Exception | None, far: Half) -> End:
    """How a relay ended, of which both ends are over."""
    if stream.stream.complete:
        return End.FINISHED
    if far.silenced:
        return End.SILENT
    if isinstance(error, StreamReset):
        return _RESETS.get(error.code, End.CLIENT_RESET)
    return End.TARGET_RESET if far.lost.result() is not None else End.CLOSED
