"""Reads HTTP messages with h11, after cleaning what h11 would refuse.

Pure: bytes in, events out. h11 gets each head whole, so the result does not depend on how TCP divided
it. Bodies go to h11 as they arrive. Requests stay strict (see `request_head`); responses are cleaned
(see `response_head`, `chunks`).
"""

from __future__ import annotations

import re

import h11

from toxproxy.http.chunks import ChunkFilter
from toxproxy.http.request_head import encode_target
from toxproxy.http.response_head import clean_head

MAX_REQUEST_HEAD = 65_536  # bytes
MAX_RESPONSE_HEAD = 262_144  # bytes, as in Chromium
MAX_EMPTY_LINES = 8  # before a head (RFC 9112, section 2.2)

_BEFORE_HEAD = frozenset({h11.IDLE, h11.SEND_RESPONSE})
_HEAD_END = re.compile(rb"\n\r?\n")

Role = type[h11.CLIENT] | type[h11.SERVER]
Next = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class HttpReader:
    """Reads one HTTP connection as its client (`role` h11.CLIENT) or its server (h11.SERVER).

    `http` is h11's connection for the present exchange. Send through it; give what arrives to
    `receive`. `connect`: the only request is a CONNECT.
    """

    def __init__(self, role: Role, *, connect: bool = False) -> None:
        self._role = role
        self._connect = connect
        self._limit = MAX_RESPONSE_HEAD if role is h11.CLIENT else MAX_REQUEST_HEAD
        self._buffer = bytearray()
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        # One less than the limit: h11 refuses a head that was given to it because it is too long.
        self.http = h11.Connection(self._role, max_incomplete_event_size=self._limit - 1)
        self._chunks: ChunkFilter | None = None
        self._searched = 0  # bytes of the buffer that do not hold the head's end
        self._empty_lines = 0

    @property
    def rest(self) -> bytes:
        """The bytes that were received and belong to no event yet."""
        kept = self._chunks.kept if self._chunks is not None else b""
        return self.http.trailing_data[0] + kept + bytes(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take the bytes that arrived; b"" is the end of the connection."""
        self._buffer += data
        self._closed = self._closed or not data

    def next_event(self) -> Next:
        """The next event, as `h11.Connection.next_event`. Raises `h11.RemoteProtocolError`."""
        if self.http.their_state in _BEFORE_HEAD:
            if not self._feed_head():
                return h11.NEED_DATA
        else:
            self._feed_body()
        event = self.http.next_event()
        if isinstance(event, h11.Response) and any(name == b"transfer-encoding" for name, _ in event.headers):
            self._chunks = ChunkFilter()
        return event

    def next_cycle(self) -> bool:
        """Prepare for another exchange. False if this connection can have none."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self._buffer[:] = self.rest
        self._begin()
        return True

    def _feed_head(self) -> bool:
        """Give h11 the next head, or bytes that cannot become one. False if more bytes must come first."""
        self._skip_empty_lines()
        buffer = self._buffer
        found = _HEAD_END.search(buffer, self._searched, self._limit)
        if found is not None:
            head = self._take(found.end())
            request = self._role is h11.SERVER
            cleaned = encode_target(head) if request else clean_head(head, connect=self._connect)
            self.http.receive_data(cleaned)
            return True
        hopeless = buffer and buffer[0] <= 0x20 and buffer != b"\r"
        if len(buffer) >= self._limit or hopeless:
            self.http.receive_data(self._take(self._limit))
            return True
        if self._closed:
            if buffer:
                self.http.receive_data(self._take(len(buffer)))
            self.http.receive_data(b"")
            return True
        self._searched = max(0, len(buffer) - 2)
        return False

    def _skip_empty_lines(self) -> None:
        while self._empty_lines < MAX_EMPTY_LINES and self._buffer.startswith((b"\r\n", b"\n")):
            self._take(self._buffer.index(b"\n") + 1)
            self._empty_lines += 1

    def _feed_body(self) -> None:
        data = self._take(len(self._buffer))
        if self._chunks is not None:
            data = self._chunks.feed(data)
        if data:
            self.http.receive_data(data)
        if self._closed:
            self.http.receive_data(b"")

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken
