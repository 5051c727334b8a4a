"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2) of Linux and FreeBSD.

Elsewhere, or where the C library lacks them, each datagram takes a call of its own.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import cffi

_ffi = cffi.FFI()
_ffi.cdef(
    """
    struct iovec { void *base; size_t length; };
    struct msghdr {
        void *name; unsigned int name_length;
        struct iovec *pieces; size_t piece_count;
        void *control; size_t control_length;
        int flags;
    };
    struct mmsghdr { struct msghdr header; unsigned int length; };
    int recvmmsg(int descriptor, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
    int sendmmsg(int descriptor, struct mmsghdr *messages, unsigned int count, int flags);
    """
)
_EACH = _ffi.sizeof("struct mmsghdr") // 4  # in units of the `length` field


class Batch:
    """Slots for `count` datagrams of a connected socket, of `size` bytes each, in one buffer.

    In front of each datagram stands `header`. The socket must be non-blocking.
    """

    def __init__(self, sock: socket.socket, count: int, size: int, header: bytes = b"") -> None:
        self.count = count
        self.header = len(header)
        step = self.header + size
        self._memory = _ffi.new("uint8_t[]", count * step)  # freed with this object
        self.buffer = memoryview(_ffi.buffer(self._memory))
        self.starts = range(self.header, count * step, step)  # where in `buffer` each datagram begins
        #: Each slot whole: the header and the room for a datagram.
        self.slots = [self.buffer[at : at + step] for at in range(0, count * step, step)]
        for slot in self.slots:
            slot[: self.header] = header
        self._socket = sock
        self._descriptor = sock.fileno()
        self._messages = _ffi.new("struct mmsghdr[]", count)
        self._pieces = _ffi.new("struct iovec[]", count)
        for number, at in enumerate(self.starts):
            self._pieces[number].base = self._memory + at
            self._pieces[number].length = size
            self._messages[number].header.pieces = self._pieces + number
            self._messages[number].header.piece_count = 1
        words = memoryview(_ffi.buffer(self._messages)).cast("B").cast("I")
        self._received = words[_ffi.offsetof("struct mmsghdr", "length") // 4 :: _EACH]
        self._sizes = memoryview(_ffi.buffer(self._pieces)).cast("B").cast("L")[1::2]

    def receive(self, most: int) -> list[int]:
        """Read up to `most` datagrams that are there. Returns their lengths; they fill the first slots."""
        library = _library()
        if library is None:
            return self._receive_each(most)
        count = library.recvmmsg(self._descriptor, self._messages, most, 0, _ffi.NULL)
        return self._received[:count].tolist() if count > 0 else []

    def put(self, number: int, datagram: memoryview) -> None:
        """Fill a slot with a copy of a datagram, for `send`."""
        at = self.starts[number]
        self.buffer[at : at + len(datagram)] = datagram
        self._sizes[number] = len(datagram)

    def send(self, count: int) -> None:
        """Send the first `count` slots. What the system does not take is lost, as on a path."""
        library, sent = _library(), 0
        if library is None:
            self._send_each(count)
            return
        while sent < count:
            taken = library.sendmmsg(self._descriptor, self._messages + sent, count - sent, 0)
            sent += max(taken, 1)  # one that fails is skipped

    def _receive_each(self, most: int) -> list[int]:
        lengths: list[int] = []
        with suppress(OSError):  # no more are there
            lengths.extend(self._socket.recv_into(slot[self.header :]) for slot in self.slots[:most])
        return lengths

    def _send_each(self, count: int) -> None:
        for number in range(count):
            at = self.starts[number]
            try:
                self._socket.send(self.buffer[at : at + self._sizes[number]])
            except OSError:
                continue


@cache
def _library() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library: Any = _ffi.dlopen(None)
        library.recvmmsg, library.sendmmsg  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library
