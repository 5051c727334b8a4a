"""A `Recovery` with a real `Multiplexer`: a download, keystrokes and datagrams, in virtual time."""

from __future__ import annotations

import math
import random

from toxproxy.address import Target, UdpTarget
from toxproxy.mux.events import DatagramReceived, StreamReadable, StreamRequested
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.stream import Stream
from toxproxy.recovery.packet import ids
from toxproxy.recovery.recovery import Recovery
from toxproxy.recovery.sent import OVERHEAD

_DOWNLOAD, _KEYS, _CALL = Target("h", 1), Target("h", 2), UdpTarget("h", 3)
_KEY_EVERY = 0.05
_WAITING = 128 * 1024  # bytes of a download that wait to be sent
_BULK = random.Random(3).randbytes(64 * 1024)  # it does not shrink


class Side:
    """One side of a session. The client opens what is wanted; the server sends the download and the call.

    A call is `rate` datagrams a second of `size` bytes, from the server. Times are in seconds.
    """

    def __init__(
        self, *, client: bool, download: bool = False, keys: bool = False, rate: float = 0.0, size: int = 160
    ) -> None:
        self.mux = Multiplexer(client=client, session=1 if client else 2)
        self.recovery = Recovery(self.mux.scheduler, self.mux.receive, 0.0)
        if client:
            self.recovery.introduction = ids(1, 0)
        self.recovery.link_up(0.0)
        self._client = client
        self._wanted = [_DOWNLOAD] * download + [_KEYS] * keys + [_CALL] * bool(rate)
        self._streams: dict[Target, Stream] = {}
        self._every, self._size = 1 / rate if rate else math.inf, size
        self._next_key = self._next_datagram = 1.0
        self._pressed: list[float] = []
        self.received = 0  # bytes of the download
        self.echoes: list[tuple[float, float]] = []  # when pressed, seconds until the echo came
        self.sent_datagrams = 0
        self.delays: list[tuple[float, float]] = []  # of datagrams: when sent, seconds until they came
        self.now = 0.0

    def receive(self, packet: object, now: float) -> None:
        self.now = now
        assert isinstance(packet, bytes)
        self.recovery.receive(packet, now)
        self._listen()

    def next_packet(self, now: float) -> object | None:
        self.now = now
        self._act()
        packet = self.recovery.next_packet(now)
        self._listen()
        return packet

    def size(self, packet: object) -> int:
        assert isinstance(packet, bytes)
        return len(packet) + OVERHEAD

    @property
    def due(self) -> float:
        due = self.recovery.due
        if self._client:
            return min(due, self._next_key if _KEYS in self._streams else math.inf)
        return min(due, self._next_datagram if _CALL in self._streams else math.inf)

    def _act(self) -> None:
        streams, now = self._streams, self.now
        if self._client:
            for target in self._wanted if self.mux.established else ():
                streams[target] = self.mux.open(target)
            self._wanted = [] if self.mux.established else self._wanted
            while _KEYS in streams and now >= self._next_key:
                self._pressed.append(self._next_key)
                self.mux.write(streams[_KEYS], b"k")
                self._next_key += _KEY_EVERY
            return
        download = streams.get(_DOWNLOAD)
        if download is not None and download.sender.buffered < _WAITING:
            self.mux.write(download, _BULK)
        while _CALL in streams and now >= self._next_datagram:
            stamp = int(self._next_datagram * 1e6).to_bytes(8)
            self.mux.send(streams[_CALL], stamp.ljust(self._size, b"."), now)
            self.sent_datagrams += 1
            self._next_datagram += self._every

    def _listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            match event:
                case StreamRequested(stream, target):
                    self._streams[target] = stream
                    self._next_datagram = max(self._next_datagram, self.now)
                    self.mux.accept(stream)
                case DatagramReceived(_, data):
                    sent = int.from_bytes(data[:8]) / 1e6
                    self.delays.append((sent, self.now - sent))
                case StreamReadable(stream):
                    while data := self.mux.read(stream, 1 << 20):
                        self._take(stream, data)

    def _take(self, stream: Stream, data: bytes) -> None:
        if stream is self._streams.get(_DOWNLOAD):
            self.received += len(data)
        elif self._client:
            for _ in data:
                pressed = self._pressed.pop(0)
                self.echoes.append((pressed, self.now - pressed))
        else:
            self.mux.write(stream, data)


def percentile(pairs: list[tuple[float, float]], share: float, begin: float = 0.0) -> float:
    """Of the second values whose first is `begin` or later."""
    taken = sorted(value for when, value in pairs if when >= begin)
    return taken[min(len(taken) - 1, int(share * len(taken)))]
