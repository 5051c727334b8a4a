"""Functions of ENet that pyenet does not offer: when a silent peer is given up, and that
only the link pings it.

pyenet's extension module exports ENet's own symbols, and `hash(peer)` is the address of the peer, so
cffi can call them (ABI mode, no compiler). Nothing here reads or writes ENet's memory.
"""

from __future__ import annotations

from typing import Any

import cffi
import enet

_NEVER = 0xFFFF_FFFF  # ms
_STEPS = 16  # of ENET_PEER_PACKET_THROTTLE_ACCELERATION, 2, from a closed throttle to an open one

_ffi = cffi.FFI()
_ffi.cdef(
    """
    void enet_peer_timeout(void *peer, uint32_t limit, uint32_t minimum, uint32_t maximum);
    void enet_peer_ping_interval(void *peer, uint32_t interval);
    int enet_peer_throttle(void *peer, uint32_t round_trip);
    """
)
_enet: Any = _ffi.dlopen(enet.__file__)


def set_patience(peer: enet.Peer, timeout: int) -> None:
    """Set after how many milliseconds ENet gives up a silent peer. From then on it pings none by itself."""
    _enet.enet_peer_timeout(_pointer(peer), 0, timeout, timeout)
    _enet.enet_peer_ping_interval(_pointer(peer), _NEVER)


def open_throttle(peer: enet.Peer) -> None:
    """Open ENet's packet throttle, below which it drops packets by chance.

    ENet opens it by a step at each round trip that is shorter than earlier ones. It starts open, but a
    handshake that took more than half a second closes it by a step.
    """
    for _ in range(_STEPS):
        _enet.enet_peer_throttle(_pointer(peer), 0)


def _pointer(peer: enet.Peer) -> Any:
    return _ffi.cast("void *", hash(peer))
