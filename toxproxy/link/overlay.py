"""Parts of ENet that pyenet does not expose: two functions, its clock, fields of peers and of commands.

pyenet's extension module exports ENet's own symbols, and `hash(peer)` is the address of the peer.
So cffi can call and read them (ABI mode, no compiler). The layouts below are those of ENet 1.3.17
(enet.h). `attach` compares them with pyenet's getters. If a build has another layout, it logs a
warning, and the link works without these parts.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import cffi
import enet

log = logging.getLogger(__name__)

_ffi = cffi.FFI()
_ffi.cdef(
    """
    typedef struct ENetListNode { struct ENetListNode *next, *previous; } ENetListNode;
    typedef struct {
        ENetListNode dispatchList;
        void *host;
        uint16_t outgoingPeerID, incomingPeerID;
        uint32_t connectID;
        uint8_t outgoingSessionID, incomingSessionID;
        struct { uint32_t host; uint16_t port; } address;
        void *data;
        int state;
        void *channels;
        size_t channelCount;
        uint32_t incomingBandwidth, outgoingBandwidth;
        uint32_t incomingBandwidthThrottleEpoch, outgoingBandwidthThrottleEpoch;
        uint32_t incomingDataTotal, outgoingDataTotal;
        uint32_t lastSendTime, lastReceiveTime, nextTimeout, earliestTimeout;
        uint32_t packetLossEpoch, packetsSent, packetsLost, packetLoss, packetLossVariance;
        uint32_t packetThrottle, packetThrottleLimit, packetThrottleCounter, packetThrottleEpoch;
        uint32_t packetThrottleAcceleration, packetThrottleDeceleration, packetThrottleInterval;
        uint32_t pingInterval, timeoutLimit, timeoutMinimum, timeoutMaximum;
        uint32_t lastRoundTripTime, lowestRoundTripTime;
        uint32_t lastRoundTripTimeVariance, highestRoundTripTimeVariance;
        uint32_t roundTripTime, roundTripTimeVariance;
        uint32_t mtu, windowSize, reliableDataInTransit;
        uint16_t outgoingReliableSequenceNumber;
        ENetListNode acknowledgements, sentReliableCommands, sentUnreliableCommands;
        ENetListNode outgoingCommands, dispatchedCommands;
    } ENetPeer;
    typedef struct {
        ENetListNode outgoingCommandList;
        uint16_t reliableSequenceNumber, unreliableSequenceNumber;
        uint32_t sentTime, roundTripTimeout, roundTripTimeoutLimit, fragmentOffset;
        uint16_t fragmentLength, sendAttempts;
    } ENetOutgoingCommand;
    uint32_t enet_time_get(void);
    void enet_peer_timeout(ENetPeer *, uint32_t limit, uint32_t minimum, uint32_t maximum);
    void enet_peer_ping_interval(ENetPeer *, uint32_t interval);
    """
)

# Fields that pyenet can read, too. `_DEFAULTS` are fields that it cannot read, with ENet's defaults.
_COMMON = (
    "incomingPeerID", "connectID", "state", "channelCount", "packetThrottle", "packetThrottleLimit",
    "packetThrottleAcceleration", "packetThrottleDeceleration", "packetThrottleInterval",
    "lowestRoundTripTime", "roundTripTime", "roundTripTimeVariance", "mtu", "windowSize",
    "reliableDataInTransit",
)  # fmt: skip
_LISTS = ("sentReliableCommands", "outgoingCommands")  # they are empty at first, so each points to itself
_RESENT = 256  # how many commands are looked at after a timeout
_DEFAULTS = {"pingInterval": 500, "timeoutLimit": 32, "timeoutMinimum": 5000, "timeoutMaximum": 30000}


class PeerFields:
    """The memory of one `enet.Peer`. Valid until its host is freed."""

    def __init__(self, library: Any, peer: enet.Peer) -> None:
        self._library = library
        self.struct: Any = _ffi.cast("ENetPeer *", hash(peer))

    def set_timeout(self, limit: int, minimum: int, maximum: int) -> None:
        """Set when ENet gives up a silent peer (`enet_peer_timeout`). Milliseconds, except `limit`."""
        self._library.enet_peer_timeout(self.struct, limit, minimum, maximum)

    def set_ping_interval(self, milliseconds: int) -> None:
        """Set after how many milliseconds of silence ENet sends a PING (`enet_peer_ping_interval`)."""
        self._library.enet_peer_ping_interval(self.struct, milliseconds)

    def list(self, name: str) -> Any:
        """The sentinel of a list: `next` is its first node, `previous` its last."""
        return _ffi.addressof(self.struct, name)

    def forget_doubling(self) -> None:
        """Give retransmitted commands the timeout of a first transmission.

        ENet doubles a command's timeout at each retransmission, and its channel waits meanwhile. ENet
        also looks at no later command before that timeout has passed.
        """
        peer = self.struct
        timeout = peer.roundTripTime + 4 * peer.roundTripTimeVariance
        end = self.list("sentReliableCommands")
        sent = end.previous
        for _ in range(_RESENT):
            if sent == end or command(sent).roundTripTimeout <= timeout:
                break
            command(sent).roundTripTimeout = timeout
            sent = sent.previous

    def now(self) -> int:
        """ENet's clock, in milliseconds; it wraps at 32 bits."""
        return int(self._library.enet_time_get())


def command(node: Any) -> Any:
    """The outgoing command at a node of a list."""
    return _ffi.cast("ENetOutgoingCommand *", node)


def attach(peer: enet.Peer) -> PeerFields | None:
    """The fields of a peer that was not connected yet; None if their layout is another one."""
    library = _library()
    if library is None:
        return None
    fields = PeerFields(library, peer)
    wrong = [name for name in _COMMON if int(getattr(fields.struct, name)) != getattr(peer, name)]
    wrong += [name for name, value in _DEFAULTS.items() if getattr(fields.struct, name) != value]
    if not wrong:
        fields.struct.windowSize += 4096
        if fields.struct.windowSize != peer.windowSize:
            wrong.append("windowSize")
        fields.struct.windowSize -= 4096
    if not wrong and any(end.next != end for end in map(fields.list, _LISTS)):
        wrong.append("lists")
    if wrong:
        _warn(f"these fields have another layout: {', '.join(wrong)}")
        return None
    return fields


@cache
def _library() -> Any:
    try:
        library: Any = _ffi.dlopen(enet.__file__)
        library.enet_time_get, library.enet_peer_timeout, library.enet_peer_ping_interval  # noqa: B018
    except (OSError, AttributeError) as error:
        _warn(str(error))
        return None
    return library


@cache
def _warn(why: str) -> None:
    log.warning("this build of ENet is not as expected (1.3.17), transfers will be slower: %s", why)
