"""The streams of a session that have not ended: their ids and their windows.

`Multiplexer` decides what happens to them. This module validates the stream ids in the peer's
frames; `Multiplexer` and `Stream` check the rest.
"""

from __future__ import annotations

from toxproxy.errors import Refusal, RemoteProtocolError, StreamRefused
from toxproxy.mux import frames
from toxproxy.mux.limits import Limits
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.sender import Sender
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment
from toxproxy.recovery.ranges import Ranges

MOST_GAPS = 1024  # in the ids that the peer has used; an honest one causes as many as it has OPENs under way


class Streams:
    """Creates, finds and forgets streams, within the limits of both sides.

    Ids are odd from the client and even from the server. None is used twice. An id of the peer is used
    from the first frame with it on, whichever that is. `compress` says whether both sides understand
    compression.
    """

    def __init__(self, limits: Limits, memory: Allotment, *, client: bool) -> None:
        self.living: dict[int, Stream] = {}
        self.compress = False
        self._limits = limits
        self._next_id = 1 if client else 2
        self._opened = 0  # how many streams of this side have not ended
        self._used = Ranges()  # halves of the ids that the peer has used
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
        stream = Stream(self._next_id, StreamState.OPENING, sender, receiver)
        self.living[stream.id] = stream
        self._next_id += 2
        self._opened += 1
        return stream

    def undo(self, stream: Stream) -> None:
        """Forget the stream that was opened last: nothing of it was sent, and its id is free."""
        self.forget(stream)
        self._next_id -= 2

    def find(self, number: int) -> Stream | None:
        """The stream of a frame; a new one, that waits for its OPEN, for an id that was not used yet.

        None for a stream that has ended: its late frames are ignored. None also where the peer has as
        many streams as it may; then `was_used` is False. Raises `RemoteProtocolError` for a stream of this
        side that was never opened.
        """
        stream = self.living.get(number)
        if stream is None and not self.was_used(number) and not self.full:
            self.use(number)
            sender = Sender(0, memory=self._memory)
            receiver = Receiver(self._limits.early_window, compress=self.compress, waiting=True)
            stream = self.living[number] = Stream(number, StreamState.WAITING, sender, receiver)
            self._memory.hold(receiver.window.size)
        return stream

    def find_opened_here(self, number: int) -> Stream | None:
        """The stream of an OPENED or REFUSED; None if it has ended.

        Raises `RemoteProtocolError` for a stream that was not opened here.
        """
        used, stream = self.was_used(number), self.living.get(number)
        if not self._is_ours(number) and (stream is not None or not used):
            raise RemoteProtocolError(f"answer from the opener of stream {number}")
        return stream

    def was_used(self, number: int) -> bool:
        """Whether a stream had or has this id.

        Raises `RemoteProtocolError` for an id of this side that no stream had yet, and for 0.
        """
        if not number or (self._is_ours(number) and number >= self._next_id):
            raise RemoteProtocolError(f"frame for stream {number}, which was never opened")
        return self._is_ours(number) or number >> 1 in self._used

    def use(self, number: int) -> None:
        """The peer has used this id. Raises `RemoteProtocolError` if it left out too many others."""
        self._used.add(number >> 1, (number >> 1) + 1)
        if len(self._used) > MOST_GAPS + 1:
            raise RemoteProtocolError(f"more than {MOST_GAPS} gaps in the ids of streams")

    def request(self, frame: frames.Open) -> Stream | None:
        """The stream that the peer asks for with OPEN. None if it asked before.

        It may be one that has waited for this, which is in `living`. Others count from `admit` on. If the
        OPEN forbids compression, the direction towards the peer is not compressed.

        Raises `RemoteProtocolError` for an id that is 0 or of the wrong parity, and for another OPEN than
        before for the same stream.
        """
        number = frame.stream
        if not number or self._is_ours(number):
            raise RemoteProtocolError(f"OPEN with stream id {number}, which is 0 or of the wrong parity")
        stream = self.living.get(number)
        if stream is None:
            if self.was_used(number):
                return None
            self.use(number)
            receiver = Receiver(self._limits.early_window, compress=self.compress)
            stream = Stream(number, StreamState.WAITING, Sender(0, memory=self._memory), receiver)
        elif stream.state is not StreamState.WAITING:
            if stream.said != frame:
                raise RemoteProtocolError(f"second OPEN with stream id {number}, other than the first")
            return None
        packs = self.compress and not frame.kind & frames.PLAIN
        limit = max(stream.sender.limit, frame.window)
        stream.sender = Sender(limit, compress=packs, memory=self._memory)
        stream.said = frame
        stream.become(StreamState.REQUESTED)
        return stream

    @property
    def full(self) -> bool:
        """Whether the peer has opened as many streams as it may."""
        return len(self.living) - self._opened >= self._limits.streams

    def admit(self, stream: Stream) -> None:
        """Keep a requested stream until `forget`."""
        if stream.id not in self.living:
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

    def forget(self, stream: Stream) -> None:
        """The stream has ended; what it still had to send is dropped."""
        del self.living[stream.id]
        if self._is_ours(stream.id):
            self._opened -= 1
        self._memory.give_back(stream.receiver.window)
        stream.complete = stream.done
        stream.become(StreamState.CLOSED)
        stream.sender.drop()
        stream.receiver.drop()

    def _is_ours(self, number: int) -> bool:
        return number % 2 == self._next_id % 2
