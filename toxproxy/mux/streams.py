"""The streams of a session that live: their ids, their channels, their windows.

For `connection`, which decides what happens to them. The ids in the peer's frames are validated
here, the contents are not.
"""

from __future__ import annotations

from toxproxy.errors import Refusal, RemoteProtocolError, StreamRefused
from toxproxy.mux import frames
from toxproxy.mux.channels import Channels
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import Receiver, Sender, Stream, StreamState
from toxproxy.mux.window import Allotment


class Streams:
    """Makes streams, finds them and lets go of them, within each side's limits.

    Ids are odd from the client, even from the server, and never used twice.
    """

    def __init__(self, limits: Limits, memory: Allotment, *, client: bool, channels: int) -> None:
        self.living: dict[int, Stream] = {}
        self._limits = limits
        self._next_id = 1 if client else 2
        self._opened = 0  # streams of ours that live
        self._channels = Channels(channels)
        self._memory = memory

    def open(self, peer: frames.Hello, *, compress: bool) -> Stream:
        """A stream of this side's own. Raises `StreamRefused` where there can be no more."""
        if self._opened >= self._limits.streams:
            text = f"this side allows {self._limits.streams} connections at once"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)
        if self._opened >= peer.streams:
            text = f"the server allows {peer.streams} connections at once"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)
        if self._next_id > frames.MAX_STREAM:
            raise StreamRefused(Refusal.FAILED, "this session has opened as many connections as it can")
        sender = Sender(peer.window, compress=compress, memory=self._memory)
        receiver = Receiver(self._memory.first(), compress=compress)
        stream = Stream(self._next_id, self._channels.take(), StreamState.OPENING, sender, receiver)
        self.living[stream.id] = stream
        self._next_id += 2
        self._opened += 1
        return stream

    def request(self, channel: int, frame: frames.Open, *, compress: bool) -> Stream:
        """The stream that the peer asks for with OPEN; it lives from `admit` on.

        With `compress` both directions may be compressed, save that towards a peer which wants it plain.

        Raises `RemoteProtocolError` for an id that the peer must not use.
        """
        number = frame.stream
        if not number or self._is_ours(number) or number in self.living:
            raise RemoteProtocolError(f"OPEN with stream id {number}")
        packs = compress and not frame.kind & frames.PLAIN
        sender = Sender(frame.window, compress=packs, memory=self._memory)
        receiver = Receiver(self._limits.early_window, compress=compress)
        return Stream(number, channel, StreamState.REQUESTED, sender, receiver)

    @property
    def full(self) -> bool:
        """Whether the peer has as many streams open as it may."""
        return len(self.living) - self._opened >= self._limits.streams

    def admit(self, stream: Stream) -> None:
        """Let a requested stream live until it is forgotten."""
        self._channels.share(stream.channel)
        self._memory.hold(stream.receiver.window.size)
        self.living[stream.id] = stream

    def accept(self, stream: Stream) -> int:
        """Give a requested stream a window of the usual size; returns its limit for OPENED."""
        stream.become(StreamState.OPEN)
        window = stream.receiver.window
        self._memory.give_back(window)
        window.size = max(window.size, first := self._memory.first())
        self._memory.hold(window.size - first)
        return window.grant()

    def widen(self, stream: Stream) -> None:
        """Double a stream's window, if there is memory left for that."""
        self._memory.widen(stream.receiver.window)

    def find(self, channel: int, number: int) -> Stream | None:
        """The stream of a frame, or None for one that is over: late frames are no error.

        Raises `RemoteProtocolError` for a stream that was never opened, or lives on another channel.
        """
        stream = self.living.get(number)
        if stream is None:
            if self._is_ours(number) and number >= self._next_id:
                raise RemoteProtocolError(f"frame for stream {number}, which was never opened")
        elif stream.channel != channel:
            raise RemoteProtocolError(f"frame for stream {number} on channel {channel}")
        return stream

    def forget(self, stream: Stream) -> None:
        """The stream is over; what it still had to send is dropped."""
        del self.living[stream.id]
        if self._is_ours(stream.id):
            self._opened -= 1
        self._channels.release(stream.channel)
        self._memory.give_back(stream.receiver.window)
        stream.become(StreamState.CLOSED)
        stream.sender.drop()

    def _is_ours(self, number: int) -> bool:
        return number % 2 == self._next_id % 2
