"""The streams of a session that have not ended: their ids, their channels, their windows.

`Multiplexer` decides what happens to them. This module validates the stream ids in the peer's
frames; `Multiplexer` and `Stream` check the rest.
"""

from __future__ import annotations

from toxproxy.errors import Refusal, RemoteProtocolError, StreamRefused
from toxproxy.mux import frames
from toxproxy.mux.channels import Channels
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import Receiver, Sender, Stream, StreamState
from toxproxy.mux.window import Allotment


class Streams:
    """Creates, finds and forgets streams, within the limits of both sides.

    Ids are odd from the client and even from the server. None is used twice.
    """

    def __init__(self, limits: Limits, memory: Allotment, *, client: bool, channels: int) -> None:
        self.living: dict[int, Stream] = {}
        self._limits = limits
        self._next_id = 1 if client else 2
        self._opened = 0  # how many streams of this side have not ended
        self._channels = Channels(channels)
        self._memory = memory

    def open(self, peer: frames.Hello, *, compress: bool) -> Stream:
        """A new stream of this side. Raises `StreamRefused` where either side allows no more."""
        if self._opened >= self._limits.streams:
            text = f"this side allows {self._limits.streams} connections at once"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)
        if self._opened >= peer.streams:
            text = f"the server allows {peer.streams} connections at once"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)
        if self._next_id > frames.MAX_STREAM:
            raise StreamRefused(
                Refusal.FAILED, "this session has opened as many connections as it can: restart the client"
            )
        sender = Sender(peer.window, compress=compress, memory=self._memory)
        receiver = Receiver(self._memory.first(), compress=compress)
        stream = Stream(self._next_id, self._channels.take(), StreamState.OPENING, sender, receiver)
        self.living[stream.id] = stream
        self._next_id += 2
        self._opened += 1
        return stream

    def request(self, channel: int, frame: frames.Open, *, compress: bool) -> Stream:
        """The stream that the peer asks for with OPEN. It counts from `admit` on.

        `compress` says whether both sides understand compression. If the OPEN forbids it, the direction
        towards the peer is not compressed.

        Raises `RemoteProtocolError` for an id that is 0, in use or of the wrong parity.
        """
        number = frame.stream
        if not number or self._is_ours(number) or number in self.living:
            raise RemoteProtocolError(
                f"OPEN with stream id {number}, which is 0, in use or of the wrong parity"
            )
        packs = compress and not frame.kind & frames.PLAIN
        sender = Sender(frame.window, compress=packs, memory=self._memory)
        receiver = Receiver(self._limits.early_window, compress=compress)
        return Stream(number, channel, StreamState.REQUESTED, sender, receiver)

    @property
    def full(self) -> bool:
        """Whether the peer has opened as many streams as it may."""
        return len(self.living) - self._opened >= self._limits.streams

    def admit(self, stream: Stream) -> None:
        """Keep a requested stream until `forget`."""
        self._channels.share(stream.channel)
        self._memory.hold(stream.receiver.window.size)
        self.living[stream.id] = stream

    def accept(self, stream: Stream) -> int:
        """Give a requested stream the window of a new stream; returns the limit for OPENED."""
        stream.become(StreamState.OPEN)
        window = stream.receiver.window
        self._memory.give_back(window)
        window.size = max(window.size, first := self._memory.first())
        self._memory.hold(window.size - first)
        return window.grant()

    def widen(self, stream: Stream) -> None:
        """Enlarge a stream's window, if there is memory left for that; see `Allotment.widen`."""
        self._memory.widen(stream.receiver.window)

    def find(self, channel: int, number: int) -> Stream | None:
        """The stream of a frame. None for a stream that has ended: its late frames are ignored.

        Raises `RemoteProtocolError` for a stream that was never opened, or that uses another channel.
        """
        stream = self.living.get(number)
        if stream is None:
            if self._is_ours(number) and number >= self._next_id:
                raise RemoteProtocolError(f"frame for stream {number}, which was never opened")
        elif stream.channel != channel:
            raise RemoteProtocolError(
                f"frame for stream {number} on channel {channel}, expected channel {stream.channel}"
            )
        return stream

    def forget(self, stream: Stream) -> None:
        """The stream has ended; what it still had to send is dropped."""
        del self.living[stream.id]
        if self._is_ours(stream.id):
            self._opened -= 1
        self._channels.release(stream.channel)
        self._memory.give_back(stream.receiver.window)
        stream.become(StreamState.CLOSED)
        stream.sender.drop()

    def _is_ours(self, number: int) -> bool:
        return number % 2 == self._next_id % 2
