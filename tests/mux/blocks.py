"""Text that can be compressed, noise that cannot, and a function that sends data through a stream."""

from __future__ import annotations

from functools import cache
from random import Random

import lz4.block

from toxproxy.mux import frames
from toxproxy.mux.frames import Data, Packed
from toxproxy.mux.stream import Stream

from .pair import ROOM, Side, consume_all, decoded


@cache
def log(megabytes: int) -> bytes:
    """The log of a web server. Lines may repeat at distances that LZ4 cannot refer to."""
    random = Random(7)
    paths = ["/", "/index.html", "/api/v1/items", "/static/app.js", "/login", "/favicon.ico"]
    agents = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",
        "curl/8.5.0",
    ]
    lines = []
    for number in range(5000):
        address = ".".join(str(random.randrange(256)) for _ in range(4))
        when = f"12/Mar/2025:{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} +0000"
        asked = f"GET {random.choice(paths)}?id={random.randrange(10**6)} HTTP/1.1"
        status, size = random.choice([200, 200, 200, 304, 404]), random.randrange(100, 90_000)
        lines.append(f'{address} - - [{when}] "{asked}" {status} {size} "-" "{random.choice(agents)}"\n')
    text = "".join(lines).encode()
    return (text * (megabytes * 1_000_000 // len(text) + 1))[: megabytes * 1_000_000]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that cannot be compressed."""
    return Random(seed).randbytes(size)


def block_of(raw: bytes, history: bytes = b"") -> bytes:
    """An LZ4 block, made independently of the code under test."""
    block: bytes = lz4.block.compress(raw, store_size=False, dict=history)
    return block


def carry(side: Side, stream: Stream, other: Stream, data: bytes, room: int = ROOM) -> list[frames.Frame]:
    """Write `data` and read it at the peer. Returns the frames sent for it."""
    before = len(side.peer.received(other))
    side.mux.write(stream, data)
    carried = []
    while sent := side.take(room=room):
        side.deliver(sent)
        carried += decoded(sent)
        consume_all(side.peer, other)
        side.peer.flush()
    assert side.peer.received(other)[before:] == data
    return carried


def size(carried: list[frames.Frame]) -> int:
    """The bytes that frames take."""
    return sum(len(frames.encode(frame)) for frame in carried)


def kinds(carried: list[frames.Frame]) -> list[type[frames.Frame]]:
    """The types of the DATA and PACKED frames among these, in order."""
    return [type(frame) for frame in carried if isinstance(frame, (Data, Packed))]
