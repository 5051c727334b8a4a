"""Functions of ENet that pyenet does not offer: when a silent peer is given up, and that
only the link pings it.

pyenet's extension module exports ENet's own symbols, and `hash(peer)` is the address of the peer, so
cffi can call them (ABI mode, no compiler). Nothing here reads or writes ENet's memory. Where a build
exports no such functions, a link lives with ENet's defaults.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import cffi
import enet

log = logging.getLogger(__name__)

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


def set_patience(peer: enet.Peer, timeout: int) -> bool:
    """Set after how many milliseconds ENet gives up a silent peer. From then on it pings none by itself.

    False if that cannot be set; then ENet gives up after 5 to 30 seconds, and pings twice a second.
    """
    return _call("enet_peer_timeout", peer, 0, timeout, timeout) and _call(
        "enet_peer_ping_interval", peer, _NEVER
    )


def open_throttle(peer: enet.Peer) -> None:
    """Open ENet's packet throttle, below which it drops packets by chance.

    ENet opens it by a step at each round trip that is shorter than earlier ones. It starts open, but a
    handshake that took more than half a second closes it by a step.
    """
    for _ in range(_STEPS):
        _call("enet_peer_throttle", peer, 0)


def _call(function: str, peer: enet.Peer, *arguments: int) -> bool:
    """Call a function of ENet's; False if this build does not export them."""
    if (library := _library()) is None:
        return False
    getattr(library, function)(_ffi.cast("void *", hash(peer)), *arguments)
    return True


@cache
def _library() -> Any:
    try:
        library: Any = _ffi.dlopen(enet.__file__)
        library.enet_peer_timeout, library.enet_peer_ping_interval, library.enet_peer_throttle  # noqa: B018
    except (OSError, AttributeError) as error:
        log.warning("this build of ENet ends links after some seconds of silence: %s", error)
        return None
    return library
