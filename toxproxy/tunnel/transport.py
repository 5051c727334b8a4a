"""The end of a stream at this side, and a stream of bytes as an asyncio transport.

That keeps the contract of `asyncio.Transport` and `asyncio.Protocol`. While the protocol has paused
reading, received bytes stay in the multiplexer and are not credited, so the sender stops after one window.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from toxproxy.address import Target
from toxproxy.dialer import AnyProtocol, feed
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.mux.sender import LOW_WATER, SendState
from toxproxy.mux.stream import Stream, StreamState

if TYPE_CHECKING:
    from toxproxy.tunnel.session import Session

_LEAST_SHARE, _MOST_SHARE = 16 * 1024, 64 * 1024  # bytes; the second is asyncio's default high-water mark


class StreamEnd:
    """This side's end of a stream. The session finds it as the stream's `data`."""

    def __init__(self, session: Session, stream: Stream, target: Target) -> None:
        self.target = target
        self.opened_at = asyncio.get_running_loop().time()
        self.stream = stream
        self._multiplexer = session.multiplexer
        self._changed = session.changed  # to be called when something may have to be sent
        self._meter = session.meter
        stream.data = self

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes sent to the peer and received from it, before compression."""
        return self.stream.carried

    def abort(self) -> None:
        """Reset the stream. What was not sent yet is dropped."""
        raise NotImplementedError

    def end(self, code: ResetCode) -> None:
        """As `abort`, and tell both sides why."""
        raise NotImplementedError


class StreamTransport(StreamEnd, asyncio.Transport):
    """One stream of a session. Made by `Session`; the protocol comes with `attach` or `accept`.

    TLS can be started on it as on asyncio's own (`loop.start_tls`, `StreamWriter.start_tls`). uvloop's loop
    accepts its own transports only: see `tls`.
    """

    _start_tls_compatible = True  # `loop.start_tls` checks it; TLS's protocol also calls `_force_close`

    def __init__(self, session: Session, stream: Stream, target: Target) -> None:
        super().__init__(session, stream, target)
        self._held = False  # the protocol has paused writing until there is room at the meter's gate
        self._protocol: AnyProtocol | None = None
        self._paused = False
        self._closing = False
        self._lost = False  # `connection_lost` was called
        self._error: BaseException | None = None
        self.serving: asyncio.Task[None] | None = None  # answers the peer's request
        self._answer: asyncio.Future[None] | None = None

    # For the session

    async def answered(self) -> None:
        """Wait for the peer's answer to OPEN. Raises `StreamRefused`. If cancelled, resets the stream."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._answer
        except asyncio.CancelledError:
            self.abort()
            raise
        except StreamReset as error:
            raise StreamRefused(Refusal.FAILED, f"the connection was lost: {error}") from error
        finally:
            self._answer = None

    def attach(self, protocol: AnyProtocol) -> None:
        """Set the protocol, and give it what has come until now."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._hold(0)
        self.read()
        if self.stream.state is StreamState.CLOSED:
            self._lose()

    def accept(self, protocol: AnyProtocol) -> bool:
        """Answer the peer's request with OPENED; False if the stream has ended already."""
        if not self._multiplexer.accept(self.stream, self._meter.up.window):
            return False
        self._changed()
        self.attach(protocol)
        return True

    def refuse(self, code: Refusal, text: str) -> None:
        """Answer the peer's request with REFUSED, unless the stream has ended already."""
        self._multiplexer.refuse(self.stream, code, text)
        self._changed()

    def opened(self) -> None:
        """The peer answered with OPENED."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def read(self) -> None:
        """Give the protocol what came, as long as it reads."""
        while self._protocol is not None and self.is_reading():
            size = min(len(self.stream.receiver.ready), _MOST_SHARE) or 1  # the end counts as one
            if not (most := self._meter.up.room(size, self.read)):
                self._meter.up.wait(size, self.read)
                break
            if (data := self._multiplexer.read(self.stream, most)) is None:
                break
            if data:
                self._meter.up.passed(len(data), self.read)
                self._guard(feed, self._protocol, data)
            elif not self._guard(self._protocol.eof_received):
                self.close()
            self._changed()

    def drained(self) -> None:
        """The send buffer has room again."""
        if self._protocol is not None and not self._lost and not self._held:
            self._guard(self._protocol.resume_writing)

    def closed(self, error: StreamError | None) -> None:
        """The stream has ended; `error` is None if both directions ended in order, or by this side."""
        if self.serving is not None:
            self.serving.cancel()
        self._error = self._error or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or StreamReset(ResetCode.CANCELLED))
        elif self._protocol is not None:
            self._lose()

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        stream = self.stream
        if stream.sender.state is not SendState.READY:
            return  # as in asyncio's transports, this is not an error
        was_full = stream.sender.full or self._held
        full = self._multiplexer.write(stream, bytes(data))
        self._changed()
        if full and not was_full and self._protocol is not None:
            self._guard(self._protocol.pause_writing)
        self._meter.down.passed(len(data), self._go_on)
        self._hold(len(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self.stream.state is not StreamState.CLOSED:
            self._multiplexer.finish(self.stream)
            self._changed()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        """Resume. As in asyncio's transports, nothing is delivered from within the call."""
        self._paused = False
        asyncio.get_running_loop().call_soon(self.read)

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def close(self) -> None:
        """End this direction after the bytes written so far, and read no more.

        `connection_lost` is called when the peer has taken everything.
        """
        if self._closing:
            return
        self._closing = True
        stream = self.stream
        if stream.state is not StreamState.CLOSED:
            self._multiplexer.finish(stream)
            self._multiplexer.ignore(stream)
            self._changed()

    def abort(self, code: ResetCode = ResetCode.CONNECTION_RESET) -> None:
        """Reset the stream. Bytes that were not sent yet are dropped."""
        self._closing = True
        self._multiplexer.reset(self.stream, code)
        self._changed()

    def end(self, code: ResetCode) -> None:
        """As `abort`, and tell both sides why."""
        self._error = StreamReset(code)
        self.abort(code)

    def _force_close(self, error: BaseException | None) -> None:
        """As `abort`, and tell the protocol why."""
        self._error = error
        self.abort()

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(AnyProtocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The values that a relay needs, and `peername`: the host and the port that were asked for.

        `credit`: the offset up to which the peer accepts bytes; it grows as they are consumed.
        `room`: how many bytes may be written before the writer should pause; 0 or less if it should now.
        `share`: how many received bytes the protocol may buffer itself.
        """
        match name:
            case "credit":
                return self.stream.sender.limit
            case "room":
                room = self.stream.sender.most - self.stream.sender.buffered
                return self._meter.down.room(room, self._go_on) if room > 0 else room
            case "share":
                return self._multiplexer.memory.share(_LEAST_SHARE, _MOST_SHARE)
            case "peername":
                return self.target.host, self.target.port
        return default

    def get_write_buffer_size(self) -> int:
        return self.stream.sender.buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return LOW_WATER, self.stream.sender.most

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Does nothing: the multiplexer sets the limits."""

    # The meter's gate

    def _hold(self, size: int) -> None:
        """Have the protocol, which wrote `size` bytes, write no more until there is room for them."""
        if self._held or self._closing or self._meter.down.room(size or 1, self._go_on):
            return
        self._held = True
        self._meter.down.wait(size, self._go_on)
        if not self.stream.sender.full and self._protocol is not None:
            self._guard(self._protocol.pause_writing)

    def _go_on(self) -> None:
        self._held = False
        if not self.stream.sender.full:
            self.drained()

    # Calls of the protocol

    def _lose(self) -> None:
        if not self._lost and self._protocol is not None:
            self._lost = True
            self._guard(self._protocol.connection_lost, self._error)

    def _guard(self, call: Any, *arguments: object) -> Any:
        """Call the protocol. An exception ends its stream only, as in asyncio's transports."""
        try:
            return call(*arguments)
        except Exception as error:
            context = {"message": "error in a stream's protocol", "exception": error, "transport": self}
            asyncio.get_running_loop().call_exception_handler(context)
            self.abort()
            return None
