"""Targets: parts of datagrams from a hostile peer, and the header of a SOCKS client's datagrams."""

from __future__ import annotations

from fuzz.choices import Choices
from toxproxy.address import UdpTarget
from toxproxy.inbound.socks_header import decoded, encoded
from toxproxy.mux import frames
from toxproxy.mux.datagrams import _MOST_HELD, _MOST_PARTIAL, _OVERHEAD, Assembly
from toxproxy.mux.limits import Allotment, Limits

_LIMITS = Limits()


def assembly(data: bytes) -> None:
    """Whatever parts come, a datagram has its length, and memory is bounded, counted and given back."""
    choices = Choices(data)
    memory = Allotment(_LIMITS)
    made = Assembly(memory)
    while choices:
        stream, number = choices.integer(3), choices.integer(200)
        size = choices.pick((1, 2, 100, 3000, 65_535))
        offset = choices.integer(size)
        payload = bytes((number,)) * min(1 + choices.integer(1300), size - offset)
        if not payload:
            continue
        part, _ = frames.decode(frames.encode(frames.Part(stream, number, size, offset, payload)))
        assert isinstance(part, frames.Part)
        whole = made.add(part)
        assert whole is None or whole == bytes((number,)) * size
        assert len(made._partial) <= _MOST_PARTIAL
        held = sum(len(part) + _OVERHEAD for parts in made._partial.values() for part in parts.values())
        assert made._held == held <= _MOST_HELD
        assert memory.taken == made._held
    memory.end()
    assert not _LIMITS.pool.taken


def socks_udp(data: bytes) -> None:
    """A datagram of a SOCKS client is dropped, or its target can be asked for and written back."""
    said = decoded(data)
    if said is None:
        return
    target, payload = said
    assert isinstance(target, UdpTarget)
    assert data.endswith(payload)
    asked, _ = frames.decode(frames.encode(frames.Open(1, frames.UDP, 0, target.port, target.host)))
    assert isinstance(asked, frames.Open)
    assert (asked.host, asked.port) == (target.host, target.port)
    assert decoded(encoded(target) + payload) == said
