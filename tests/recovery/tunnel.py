"""A `Recovery` as an endpoint of a virtual host, with a bulk transfer and keystrokes to carry."""

from __future__ import annotations

import math
from collections import deque

from toxproxy.recovery.recovery import Recovery
from toxproxy.recovery.sent import OVERHEAD

BULK = 1332  # bytes of use in a bulk frame
_BULK_FRAME = b"B" + bytes(6 + BULK)  # as long as a BULK frame
_KEY, _ECHO = b"K", b"E"
_KEYSTROKE = 60  # bytes of a keystroke's frame
_INTERVAL = 0.05
_AGAIN = 0.004  # a small frame goes a second time in a packet that leaves so much later


class Load:
    """What a side sends: keystrokes or their echoes first, then bulk. `amount` may be inf.

    A small frame goes twice, as the multiplexer sends it, so that a single loss is not seen.
    """

    def __init__(self, amount: float, keys_from: float) -> None:
        self.to_send = amount
        self.packets_lost = 0
        self.next_key = keys_from
        self.received = 0
        self.echoes: list[tuple[float, float]] = []  # when pressed, seconds until the echo came
        self._small: deque[bytes] = deque()
        self._again: deque[tuple[float, bytes]] = deque()
        self._pressed: dict[int, float] = {}
        self._seen: set[bytes] = set()
        self._keys = 0
        self.now = 0.0

    def tick(self, now: float) -> None:
        self.now = now
        while now >= self.next_key:
            self._keys += 1
            self._pressed[self._keys] = self.next_key
            self._small.append(_KEY + self._keys.to_bytes(4, "big") + bytes(_KEYSTROKE - 5))
            self.next_key += _INTERVAL

    @property
    def wants_to_send(self) -> bool:
        return self.to_send > 0 or bool(self._small)

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> object | None:
        contents: list[bytes] = []
        while self._small and room >= _KEYSTROKE:
            frame = self._small.popleft()
            contents.append(frame)
            pieces.append(frame)
            room -= _KEYSTROKE
            self._again.append((now + _AGAIN, frame))
        while self._again and self._again[0][0] <= now and room >= _KEYSTROKE:
            at, frame = self._again.popleft()
            if now < at + 0.05:
                pieces.append(frame)
                contents.append(frame)
                room -= _KEYSTROKE
        if contents:
            if self.to_send > 0 and room > 200:  # the rest of the packet is bulk that nobody counts
                pieces.append(b"b" + bytes(room - 1))
            return contents
        if self.to_send > 0 and room >= len(_BULK_FRAME):
            self.to_send -= BULK
            pieces.append(_BULK_FRAME)
            return True
        if self.to_send > 0:
            pieces.append(b"b" + bytes(room - 1))  # beside an acknowledgement that leaves less room
            return []
        return None

    def delivered(self, contents: object) -> None:
        pass

    def lost(self, contents: object) -> None:
        self.packets_lost += 1
        if contents is True:
            self.to_send += BULK
        elif isinstance(contents, list):
            self._small.extendleft(reversed(contents))

    def receive(self, packet: bytes, start: int) -> bool:
        kind = packet[start : start + 1]
        while kind in (_KEY, _ECHO):
            frame = packet[start : start + _KEYSTROKE]
            start += _KEYSTROKE
            if frame not in self._seen:
                self._seen.add(frame)
                self._take(frame)
            kind = packet[start : start + 1]
        if kind == b"B":
            self.received += BULK
        elif kind == b"b":
            self.received += len(packet) - start - 1
        return True

    def _take(self, frame: bytes) -> None:
        if frame[:1] == _KEY:
            self._small.append(_ECHO + frame[1:])
        else:
            pressed = self._pressed.pop(int.from_bytes(frame[1:5], "big"))
            self.echoes.append((pressed, self.now - pressed))


class Tunnel:
    """One side. Keys are pressed from `keys_from` on, at the side that is given it."""

    def __init__(self, amount: float = 0.0, begin: float = 0.0, keys_from: float = math.inf) -> None:
        self.load = Load(amount, keys_from)
        self.recovery = Recovery(self.load, self.load.receive, begin)
        self.recovery.link_up(begin)
        self.sent_packets = self.sent_bytes = 0

    def receive(self, packet: object, now: float) -> None:
        self.load.now = now
        assert isinstance(packet, bytes)
        self.recovery.receive(packet, now)

    def next_packet(self, now: float) -> object | None:
        self.load.tick(now)
        packet = self.recovery.next_packet(now)
        if packet is not None:
            self.sent_packets += 1
            self.sent_bytes += len(packet) + OVERHEAD
        return packet

    def size(self, packet: object) -> int:
        assert isinstance(packet, bytes)
        return len(packet) + OVERHEAD

    @property
    def due(self) -> float:
        return min(self.recovery.due, self.load.next_key)

    @property
    def received(self) -> int:
        return self.load.received

    def percentile(self, share: float, begin: float = 0.0, end: float = math.inf) -> float:
        """Of the keystrokes' echoes, in seconds."""
        taken = sorted(echo for pressed, echo in self.load.echoes if begin <= pressed < end)
        return taken[min(len(taken) - 1, int(share * len(taken)))]
