"""Many datagrams with one system call: recvmmsg(2) and UDP_SEGMENT (udp(7)) of Linux.

With UDP_SEGMENT the kernel cuts one long datagram into many of equal length, the last one may be
shorter. It takes them through its layers as one, which costs a fraction. Elsewhere, or where the kernel
lacks this, each datagram takes a call of its own.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
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
    struct segment { size_t length; int level; int type; uint16_t size; };
    int recvmmsg(int descriptor, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
    ssize_t sendmsg(int descriptor, struct msghdr *message, int flags);
    int setsockopt(int descriptor, int level, int option, int *value, unsigned int length);
    """
)
_UDP, _CORK, _SEGMENT = 17, 1, 103  # linux/udp.h
_MOST_BYTES = 65_000  # of all segments together: they are one datagram at first
MOST = 48  # datagrams in a batch: a small socket buffer holds so many
_EACH = _ffi.sizeof("struct mmsghdr") // 4  # in units of the `length` field
_CUT_SHORT = frozenset({errno.EAGAIN, errno.ENOBUFS})  # the socket's buffer is full


class Batch:
    """Slots for `MOST` datagrams of a connected UDP socket, of `size` bytes each, in one buffer.

    In front of each datagram stands `header`. The socket must be non-blocking. A batch is either for
    `receive`, or for `put` and `send`.
    """

    def __init__(self, sock: socket.socket, size: int, header: bytes = b"") -> None:
        self.header = len(header)
        step = self.header + size
        self._memory = _ffi.new("uint8_t[]", MOST * step)  # freed with this object
        self.buffer = memoryview(_ffi.buffer(self._memory))
        self.starts = range(self.header, MOST * step, step)  # where in `buffer` each datagram begins
        #: Where each header begins, as C pointers, `uint8_t *`.
        self.pointers = [self._memory + at for at in range(0, MOST * step, step)]
        for at in self.starts:
            self.buffer[at - self.header : at] = header
        self._socket = sock
        self._size = size
        self._descriptor = sock.fileno()
        self._messages = _ffi.new("struct mmsghdr[]", MOST)
        self._pieces = _ffi.new("struct iovec[]", MOST)
        for number, at in enumerate(self.starts):
            self._pieces[number].base = self._memory + at
            self._pieces[number].length = size
            self._messages[number].header.pieces = self._pieces + number
            self._messages[number].header.piece_count = 1
        words = memoryview(_ffi.buffer(self._messages)).cast("B").cast("I")
        self._received = words[_ffi.offsetof("struct mmsghdr", "length") // 4 :: _EACH]
        self._sizes = memoryview(_ffi.buffer(self._pieces)).cast("B").cast("P")[1::2]
        self._segment: Any = _ffi.new("struct segment *", (_segment_length(), _UDP, _SEGMENT, 0))
        self._joined: Any = _ffi.new(
            "struct msghdr *",
            {
                "pieces": self._pieces,
                "control": self._segment,
                "control_length": _ffi.sizeof("struct segment"),
            },
        )
        self._joins = _library() is not None

    def receive(self, most: int) -> list[int]:
        """Read up to `most` datagrams that are there. Returns their lengths; they fill the first slots."""
        library = _library()
        if library is None:
            return self._receive_each(most)
        count = library.recvmmsg(self._descriptor, self._messages, min(most, MOST), 0, _ffi.NULL)
        return self._received[:count].tolist() if count > 0 else []

    def put(self, number: int, datagram: memoryview | bytes) -> None:
        """Fill a slot with a copy of a datagram, for `send`."""
        at = self.starts[number]
        self.buffer[at : at + len(datagram)] = datagram
        self._sizes[number] = len(datagram)

    def send(self, count: int) -> None:
        """Send the first `count` slots. What the system does not take is lost, as on a path."""
        if self._joins and count > 1 and (size := segments(self._sizes[:count].tolist())):
            self._joined.piece_count = count
            self._segment.size = size
            if _library().sendmsg(self._descriptor, self._joined, 0) > 0:
                return
            self._joins = _ffi.errno in _CUT_SHORT
        for at, length in zip(self.starts[:count], self._sizes, strict=False):
            with suppress(OSError):
                self._socket.send(self.buffer[at : at + length])

    def _receive_each(self, most: int) -> list[int]:
        lengths: list[int] = []
        with suppress(OSError):  # no more are there
            slots = (self.buffer[at : at + self._size] for at in self.starts[:most])
            lengths.extend(map(self._socket.recv_into, slots))
        return lengths


def segments(sizes: Sequence[int]) -> int:
    """The length of the segments, if datagrams of these `sizes` can be the segments of one; else 0."""
    size, last, count = sizes[0], sizes[-1], len(sizes)
    if not 0 < last <= size or count * size > _MOST_BYTES:
        return 0
    return size if sizes.count(size) == count - (last != size) else 0


class Cork:
    """Joins the datagrams that somebody else writes to a UDP socket, each with a call of its own.

    Between `begin` and `end` they must have `size` bytes each, but the last one may have fewer; all
    together at most 65,000. They leave at `end`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._value = _ffi.new("int *")
        self.works = _library() is not None and self._set(_SEGMENT, 0)

    def begin(self, size: int) -> None:
        """Keep back what is written from now on."""
        self._set(_SEGMENT, size)
        self._set(_CORK, 1)

    def end(self) -> None:
        """Let it leave."""
        self._set(_CORK, 0)
        self._set(_SEGMENT, 0)

    def _set(self, option: int, value: int) -> bool:
        self._value[0] = value
        return bool(_library().setsockopt(self._descriptor, _UDP, option, self._value, 4) == 0)


def _segment_length() -> int:
    return int(_ffi.offsetof("struct segment", "size")) + 2


@cache
def _library() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library: Any = _ffi.dlopen(None)
        library.recvmmsg  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library
