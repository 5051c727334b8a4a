"""The frames of a peer that ENet holds, read from its memory (enet.h of ENet 1.3.17)."""

from __future__ import annotations

from typing import Any

import cffi

from toxproxy.link import overlay
from toxproxy.link.enet import CHANNELS, EnetLink
from toxproxy.link.filter import FRAME_COST

_CONNECTED = 5  # ENET_PEER_STATE_CONNECTED
_ffi = cffi.FFI()
_ffi.cdef(
    """
    typedef struct Node { struct Node *next, *previous; } Node;
    typedef struct {
        uint16_t outgoingReliable, outgoingUnreliable, usedReliableWindows, reliableWindows[16];
        uint16_t incomingReliable, incomingUnreliable;
        Node reliable, unreliable;
    } Channel;
    typedef struct {
        uint16_t flags, reserved, incomingGroup, outgoingGroup;
        uint32_t window[32], eventData;
        size_t totalWaitingData;
    } EndOfPeer;
    """
)


def waiting(link: EnetLink) -> int:
    """Bytes of frames that ENet holds and has not delivered."""
    known = overlay._ffi.sizeof("ENetPeer")  # the part that the overlay declares
    return int(_ffi.cast("EndOfPeer *", hash(link._peer) + known).totalWaitingData)


def next_numbers(link: EnetLink) -> dict[int, int]:
    """The next sequence number expected on each channel. Empty if the link is not up."""
    channels = _channels(link)
    return {number: (channel.incomingReliable + 1) & 0xFFFF for number, channel in enumerate(channels)}


def numbers_to_send(link: EnetLink) -> dict[int, int]:
    """The sequence number that the next frame sent on each channel will have."""
    return {at: (channel.outgoingReliable + 1) & 0xFFFF for at, channel in enumerate(_channels(link))}


def agree(link: EnetLink) -> None:
    """Raises `AssertionError` if ENet holds other frames than the filter in front of it has counted."""
    channels = _channels(link)
    if not channels:
        return
    held, frames = link._filter.held, 0
    for number, channel in enumerate(channels):
        known = held._channels.get(number)
        believed = known.next if known is not None else 1
        assert (channel.incomingReliable + 1) & 0xFFFF == believed, f"channel {number}"
        count = _length(channel.reliable)
        assert count == (len(known.frames) if known is not None else 0), f"channel {number}"
        assert _length(channel.unreliable) == 0
        frames += count
    assert waiting(link) == held.bytes - frames * FRAME_COST


def _channels(link: EnetLink) -> list[Any]:
    if link.is_over or link._fields is None or not link._up:
        return []
    fields = link._fields.struct
    if fields.state != _CONNECTED:
        return []
    first = _ffi.cast("Channel *", int(overlay._ffi.cast("uintptr_t", fields.channels)))
    return [first[number] for number in range(min(CHANNELS, int(fields.channelCount)))]


def _length(end: Any) -> int:
    """The number of nodes in one of ENet's lists."""
    count, first = 0, _ffi.addressof(end)
    node = first.next
    while node != first:
        count += 1
        node = node.next
    return count
